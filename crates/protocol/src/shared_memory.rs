//! The system shared memory extension: regions registered and listed.

use nereid_inference::{Error, Result};

use crate::json::{NOT_STRING, Value, parse, push_string};

/// A region as clients see it.
#[derive(Debug)]
pub struct RegionRow<'a> {
    pub name: &'a str,
    pub key: &'a str,
    pub offset: usize,
    pub byte_size: usize,
}

/// What is to be registered.
#[derive(Debug, PartialEq, Eq)]
pub struct RegisterRequest {
    pub key: String,
    pub offset: u64,
    pub byte_size: u64,
}

/// `GET /v2/systemsharedmemory/…/status`
pub fn region_status(rows: &[RegionRow<'_>]) -> Vec<u8> {
    let mut json = b"[".to_vec();
    for row in rows {
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend_from_slice(b"{\"name\":");
        push_string(&mut json, row.name.as_bytes());
        json.extend_from_slice(b",\"key\":");
        push_string(&mut json, row.key.as_bytes());
        let numbers = format!(",\"offset\":{},\"byte_size\":{}}}", row.offset, row.byte_size);
        json.extend_from_slice(numbers.as_bytes());
    }
    json.push(b']');
    json
}

/// The body of a register request.
pub fn parse_register_request(body: &[u8]) -> Result<RegisterRequest> {
    let document = parse(body)?;
    let member = |name: &str| {
        document.get(name).ok_or_else(|| {
            Error::invalid_arg(format!("Shared memory register request has no '{name}' field"))
        })
    };
    let Value::String(key) = member("key")? else { return Err(Error::internal(NOT_STRING)) };
    let offset = document.get("offset").map(number).transpose()?.unwrap_or(0);
    let byte_size = number(member("byte_size")?)?;
    Ok(RegisterRequest { key: String::from_utf8_lossy(key).into_owned(), offset, byte_size })
}

fn number(value: &Value) -> Result<u64> {
    match value {
        Value::Uint(number) => Ok(*number),
        _ => {
            Err(Error::internal("attempt to access JSON non-unsigned-integer as unsigned-integer"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_requests() {
        let parsed = parse_register_request(br#"{"key":"/a","byte_size":8}"#).unwrap();
        assert_eq!(parsed, RegisterRequest { key: "/a".to_owned(), offset: 0, byte_size: 8 });
        for (body, message) in [
            (r#"{"byte_size":8}"#, "Shared memory register request has no 'key' field"),
            (r#"{"key":"/a"}"#, "Shared memory register request has no 'byte_size' field"),
            (r#"{"key":7,"byte_size":8}"#, "attempt to access JSON non-string as string"),
            (
                r#"{"key":"/a","offset":-1,"byte_size":8}"#,
                "attempt to access JSON non-unsigned-integer as unsigned-integer",
            ),
        ] {
            assert_eq!(parse_register_request(body.as_bytes()).unwrap_err().message(), message);
        }
    }

    #[test]
    fn status() {
        let rows = [RegionRow { name: "r", key: "/k", offset: 0, byte_size: 64 }];
        let json = String::from_utf8(region_status(&rows)).unwrap();
        assert_eq!(json, r#"[{"name":"r","key":"/k","offset":0,"byte_size":64}]"#);
    }
}
