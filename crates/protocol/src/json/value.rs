//! Parsed JSON and typed access to it, with the messages of Triton's JSON helper.

use std::ops::Range;

use nereid_inference::{Error, Result};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A number without fraction or exponent that is negative.
    Int(i64),
    /// A number without fraction or exponent that is not negative.
    Uint(u64),
    Double(f64),
    /// Triton passes bytes through that are no UTF-8, so these are bytes.
    String(Vec<u8>),
    Array(Vec<Value>),
    Object(Vec<Member>),
    /// Where an array that is a tensor stands in the text: tensors are not made into trees.
    Data(Range<usize>),
}

pub(crate) const NOT_STRING: &str = "attempt to access JSON non-string as string";
pub(crate) const NOT_BOOLEAN: &str = "attempt to access JSON non-boolean as boolean";
pub(crate) const NOT_UNSIGNED: &str =
    "attempt to access JSON non-unsigned-integer as unsigned-integer";
pub(crate) const NOT_ARRAY: &str = "attempt to access JSON non-array as array";

pub(crate) type Member = (String, Value);

impl Value {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => {
                members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The member `key`, which must be there.
    pub(crate) fn member(&self, key: &str) -> Result<&Value> {
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

    pub(crate) fn as_string(&self, key: &str) -> Result<String> {
        match self {
            Value::String(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            _ => Err(unable(key, NOT_STRING)),
        }
    }

    pub(crate) fn as_array(&self, key: &str) -> Result<&[Value]> {
        match self {
            Value::Array(values) => Ok(values),
            _ => Err(unable(key, NOT_ARRAY)),
        }
    }

    /// The members of an object; `None` for everything else.
    pub(crate) fn members(&self) -> Option<&[Member]> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }
}

pub(crate) fn unable(key: &str, message: &str) -> Error {
    Error::internal(format!("Unable to parse '{key}': {message}"))
}
