//! Parsed JSON and typed access to it, with the messages of Triton's JSON helper.

use std::borrow::Cow;
use std::ops::Range;

use nereid_inference::{Error, Result};

/// Strings without escapes are slices of the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// A number without fraction or exponent that is negative.
    Int(i64),
    /// A number without fraction or exponent that is not negative.
    Uint(u64),
    Double(f64),
    /// Triton passes bytes through that are no UTF-8, so these are bytes.
    String(Cow<'a, [u8]>),
    Array(Vec<Value<'a>>),
    Object(Vec<Member<'a>>),
    /// Where an array that is a tensor stands in the text: tensors are not made into trees.
    Data(Range<usize>),
}

pub(crate) const NOT_STRING: &str = "attempt to access JSON non-string as string";
pub(crate) const NOT_BOOLEAN: &str = "attempt to access JSON non-boolean as boolean";
pub(crate) const NOT_UNSIGNED: &str =
    "attempt to access JSON non-unsigned-integer as unsigned-integer";
pub(crate) const NOT_ARRAY: &str = "attempt to access JSON non-array as array";

pub(crate) type Member<'a> = (Cow<'a, str>, Value<'a>);

impl<'a> Value<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<&Value<'a>> {
        match self {
            Value::Object(members) => {
                members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The member `key`, which must be there.
    pub(crate) fn member(&self, key: &str) -> Result<&Value<'a>> {
        self.get(key).ok_or_else(|| {
            unable(key, &format!("attempt to access non-existing object member '{key}'"))
        })
    }

    pub(crate) fn as_bool(&self, key: &str) -> Result<bool> {
        match self {
            Value::Bool(value) => Ok(*value),
            _ => Err(unable(key, NOT_BOOLEAN)),
        }
    }

    pub(crate) fn as_uint(&self, key: &str) -> Result<u64> {
        match self {
            Value::Uint(value) => Ok(*value),
            _ => Err(unable(key, NOT_UNSIGNED)),
        }
    }

    pub(crate) fn as_str(&self, key: &str) -> Result<Cow<'_, str>> {
        match self {
            Value::String(bytes) => Ok(lossy(bytes)),
            _ => Err(unable(key, NOT_STRING)),
        }
    }

    pub(crate) fn as_string(&self, key: &str) -> Result<String> {
        self.as_str(key).map(Cow::into_owned)
    }

    pub(crate) fn as_array(&self, key: &str) -> Result<&[Value<'a>]> {
        match self {
            Value::Array(values) => Ok(values),
            _ => Err(unable(key, NOT_ARRAY)),
        }
    }

    /// The members of an object; `None` for everything else.
    pub(crate) fn members(&self) -> Option<&[Member<'a>]> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }
}

/// As the standard library's function of that name, which is slower where there is nothing to mend.
pub(super) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

pub(crate) fn unable(key: &str, message: &str) -> Error {
    Error::internal(format!("Unable to parse '{key}': {message}"))
}
