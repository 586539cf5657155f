//! The `data` array of a tensor: from JSON text straight into the tensor's bytes.

use nereid_inference::{DataType, Error, Result, push_bytes_element};

use super::Value;
use super::parser::Parser;
use super::value::unable;

/// Decodes the array at `at` in `text`, which has been parsed before. Nesting does not matter; the
/// number of elements must be `expected`. Strings are counted when their request is admitted.
pub(crate) fn decode_data(
    text: &[u8],
    at: usize,
    datatype: DataType,
    expected: usize,
) -> Result<Vec<u8>> {
    // As Triton, which does not look at the data of an empty tensor.
    if expected == 0 {
        return Ok(Vec::new());
    }
    let width = datatype.byte_size().unwrap_or(4);
    // The text has at least two bytes for every element, whatever the shape claims.
    let mut bytes = Vec::with_capacity(expected.min(text.len()).saturating_mul(width));
    let mut parser = Parser::at(text, at);
    let counted = datatype != DataType::Bytes;
    let (mut depth, mut count) = (0, 0);
    loop {
        match parser.peek() {
            Some(b'[') => (depth, parser.at) = (depth + 1, parser.at + 1),
            Some(b']') => (depth, parser.at) = (depth - 1, parser.at + 1),
            Some(b',' | b' ' | b'\t' | b'\n' | b'\r') => parser.at += 1,
            _ => {
                if counted && count == expected {
                    let message = "Shape does not match true shape of 'data' field";
                    return Err(unable("data", message));
                }
                push(&mut bytes, &parser.value()?, datatype)?;
                count += 1;
            }
        }
        if depth == 0 {
            break;
        }
    }
    if counted && count < expected {
        let message = "Failed to parse 'data' field: shape does not match true shape";
        return Err(Error::internal(message));
    }
    Ok(bytes)
}

/// How many elements the array at `at` has, which has been parsed before, not counting those of
/// arrays inside it.
pub(crate) fn array_len(text: &[u8], at: usize) -> usize {
    Parser::at(text, at).array_len().unwrap_or_default()
}

/// The bytes of a tensor with one element.
pub(crate) fn decode_scalar(value: &Value, datatype: DataType) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    push(&mut bytes, value, datatype)?;
    Ok(bytes)
}

fn push(bytes: &mut Vec<u8>, value: &Value, datatype: DataType) -> Result<()> {
    // Triton does not check ranges: a value that is too large is cut to its type's width.
    match datatype {
        DataType::Bool => match value {
            Value::Bool(value) => bytes.push(u8::from(*value)),
            _ => return Err(mismatch("non-boolean", "boolean")),
        },
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => {
            let Value::Uint(value) = value else {
                return Err(mismatch("non-unsigned-integer", "unsigned-integer"));
            };
            let width = datatype.byte_size().unwrap_or(8);
            bytes.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let value = match value {
                Value::Int(value) => *value,
                Value::Uint(value) if i64::try_from(*value).is_ok() => *value as i64,
                _ => return Err(mismatch("non-signed-integer", "signed-integer")),
            };
            let width = datatype.byte_size().unwrap_or(8);
            bytes.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        DataType::Fp32 => bytes.extend_from_slice(&(double(value)? as f32).to_le_bytes()),
        DataType::Fp64 => bytes.extend_from_slice(&double(value)?.to_le_bytes()),
        DataType::Bytes => match value {
            Value::String(string) => push_bytes_element(bytes, string),
            _ => {
                return Err(Error::internal(
                    "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
                ));
            }
        },
        // Refused before their data is read.
        DataType::Fp16 | DataType::Bf16 => return Err(mismatch("number", datatype.name())),
    }
    Ok(())
}

fn double(value: &Value) -> Result<f64> {
    match value {
        Value::Double(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Uint(value) => Ok(*value as f64),
        _ => Err(mismatch("non-number", "double")),
    }
}

fn mismatch(is: &str, wanted: &str) -> Error {
    unable("data", &format!("attempt to access JSON {is} as {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_bytes() {
        let text = b"[[1, 2],[-3,4.5]]";
        let floats = decode_data(text, 0, DataType::Fp32, 4).unwrap();
        let expected: Vec<u8> = [1f32, 2., -3., 4.5].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(floats, expected);
        assert_eq!(decode_data(b"[-1,300]", 0, DataType::Int8, 2).unwrap(), [255, 44]);
        assert_eq!(decode_data(b"[true]", 0, DataType::Bool, 1).unwrap(), [1]);
        let special = decode_data(b"[NaN,-Infinity]", 0, DataType::Fp32, 2).unwrap();
        assert_eq!(special[4..], f32::NEG_INFINITY.to_le_bytes());
        assert!(decode_data(b"[1,2]", 0, DataType::Fp32, 0).unwrap().is_empty());
        assert_eq!(decode_data(b"[\"ab\"]", 0, DataType::Bytes, 1).unwrap(), b"\x02\0\0\0ab");
    }

    #[test]
    fn wrong_counts_and_types_are_refused() {
        let message = |text: &[u8], datatype, count| {
            decode_data(text, 0, datatype, count).unwrap_err().message().to_owned()
        };
        assert!(message(b"[1,2]", DataType::Fp32, 1).contains("Shape does not match"));
        assert!(message(b"[1]", DataType::Fp32, 2).contains("shape does not match"));
        assert!(message(b"[5.5]", DataType::Int32, 1).contains("non-signed-integer"));
        assert!(message(b"[-5]", DataType::Uint32, 1).contains("non-unsigned-integer"));
        assert!(message(b"[\"a\"]", DataType::Fp64, 1).contains("non-number"));
    }
}
