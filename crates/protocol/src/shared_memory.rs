//! The system shared memory extension: regions registered and listed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

/// A region of a GPU that is to be registered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CudaRegisterRequest {
    pub handle: Vec<u8>,
    pub device: i64,
    pub byte_size: u64,
}

/// `GET /v2/cudasharedmemory/…/status`: names, devices and sizes.
pub fn cuda_region_status(rows: impl Iterator<Item = (String, i32, usize)>) -> Vec<u8> {
    let mut json = b"[".to_vec();
    for (name, device, byte_size) in rows {
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend_from_slice(b"{\"name\":");
        push_string(&mut json, name.as_bytes());
        let numbers = format!(",\"device_id\":{device},\"byte_size\":{byte_size}}}");
        json.extend_from_slice(numbers.as_bytes());
    }
    json.push(b']');
    json
}

/// The body of a register request for a region of a GPU.
pub fn parse_cuda_register_request(body: &[u8]) -> Result<CudaRegisterRequest> {
    let document = parse(body)?;
    let invalid =
        || Error::invalid_arg("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t");
    let Value::String(text) = member(member(&document, "raw_handle")?, "b64")? else {
        return Err(Error::internal(NOT_STRING));
    };
    let handle = STANDARD.decode(text).map_err(|_| invalid())?;
    let device = number(member(&document, "device_id")?)?;
    let device = i64::try_from(device).map_err(|_| invalid())?;
    let byte_size = number(member(&document, "byte_size")?)?;
    Ok(CudaRegisterRequest { handle, device, byte_size })
}

fn member<'a>(object: &'a Value<'a>, name: &str) -> Result<&'a Value<'a>> {
    object.get(name).ok_or_else(|| {
        Error::invalid_arg(format!("Shared memory register request has no '{name}' field"))
    })
}

/// The body of a register request.
pub fn parse_register_request(body: &[u8]) -> Result<RegisterRequest> {
    let document = parse(body)?;
    let Value::String(key) = member(&document, "key")? else {
        return Err(Error::internal(NOT_STRING));
    };
    let offset = document.get("offset").map(number).transpose()?.unwrap_or(0);
    let byte_size = number(member(&document, "byte_size")?)?;
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
    fn register_requests_of_cuda() {
        let body = br#"{"raw_handle":{"b64":"AAEC"},"device_id":1,"byte_size":8}"#;
        let expected = CudaRegisterRequest { handle: vec![0, 1, 2], device: 1, byte_size: 8 };
        assert_eq!(parse_cuda_register_request(body), Ok(expected));
        for (body, message) in [
            (r#"{}"#, "Shared memory register request has no 'raw_handle' field"),
            (
                r#"{"raw_handle":{"b64":"?"},"device_id":1,"byte_size":8}"#,
                "'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t",
            ),
            (
                r#"{"raw_handle":{"b64":""},"byte_size":8}"#,
                "Shared memory register request has no 'device_id' field",
            ),
        ] {
            let error = parse_cuda_register_request(body.as_bytes()).unwrap_err();
            assert_eq!(error.message(), message);
        }
        let rows = [("r".to_owned(), 0, 8)].into_iter();
        let json = String::from_utf8(cuda_region_status(rows)).unwrap();
        assert_eq!(json, r#"[{"name":"r","device_id":0,"byte_size":8}]"#);
    }

    #[test]
    fn status() {
        let rows = [RegionRow { name: "r", key: "/k", offset: 0, byte_size: 64 }];
        let json = String::from_utf8(region_status(&rows)).unwrap();
        assert_eq!(json, r#"[{"name":"r","key":"/k","offset":0,"byte_size":64}]"#);
    }
}
