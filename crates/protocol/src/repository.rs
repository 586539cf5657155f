//! The model repository extension: the index, and requests to load and unload.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nereid_inference::{Error, Result};

use crate::json::{NOT_BOOLEAN, NOT_STRING, Value, parse, push_string};

/// A row of the index.
#[derive(Debug)]
pub struct IndexRow<'a> {
    pub name: &'a str,
    pub version: Option<i64>,
    /// Empty for a model that was never loaded.
    pub state: &'a str,
    pub reason: &'a str,
}

/// What a client wants loaded instead of what is in the repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LoadParameters {
    pub config: Option<String>,
    /// Paths in the model's folder and what the files hold.
    pub files: Vec<(String, Vec<u8>)>,
}

/// `POST /v2/repository/index`
pub fn repository_index(rows: &[IndexRow<'_>]) -> Vec<u8> {
    let mut json = b"[".to_vec();
    for row in rows {
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend_from_slice(b"{\"name\":");
        push_string(&mut json, row.name.as_bytes());
        let version = row.version.map(|version| version.to_string()).unwrap_or_default();
        for (key, value) in [("version", &*version), ("state", row.state), ("reason", row.reason)] {
            if !value.is_empty() {
                json.push(b',');
                push_string(&mut json, key.as_bytes());
                json.push(b':');
                push_string(&mut json, value.as_bytes());
            }
        }
        json.push(b'}');
    }
    json.push(b']');
    json
}

/// The body of an index request: whether only versions that serve are wanted.
pub fn parse_index_request(body: &[u8]) -> Result<bool> {
    match document(body)?.get("ready") {
        None => Ok(false),
        Some(Value::Bool(ready)) => Ok(*ready),
        Some(_) => Err(not_boolean()),
    }
}

/// The body of a load request.
pub fn parse_load_request(body: &[u8]) -> Result<LoadParameters> {
    let document = document(body)?;
    let mut load = LoadParameters::default();
    for (key, value) in document.get("parameters").and_then(Value::members).unwrap_or_default() {
        let file = key.strip_prefix("file:");
        if key != "config" && file.is_none() {
            return Err(Error::internal("unexpected error on creating Triton parameter"));
        }
        let Value::String(value) = value else { return Err(Error::internal(NOT_STRING)) };
        match file {
            None => load.config = Some(String::from_utf8_lossy(value).into_owned()),
            Some(path) => {
                let contents = STANDARD.decode(value).map_err(|error| {
                    Error::invalid_arg(format!("parameter '{key}' is not valid base64: {error}"))
                })?;
                load.files.push((path.to_owned(), contents));
            }
        }
    }
    Ok(load)
}

/// The body of an unload request: whether models that only this one needed go, too.
pub fn parse_unload_request(body: &[u8]) -> Result<bool> {
    let document = document(body)?;
    let parameters = document.get("parameters");
    match parameters.and_then(|parameters| parameters.get("unload_dependents")) {
        None => Ok(false),
        Some(Value::Bool(dependents)) => Ok(*dependents),
        Some(_) => Err(not_boolean()),
    }
}

/// These bodies may be left out.
fn document(body: &[u8]) -> Result<Value<'_>> {
    if body.is_empty() { Ok(Value::Object(Vec::new())) } else { parse(body) }
}

fn not_boolean() -> Error {
    Error::internal(NOT_BOOLEAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_leaves_out_what_there_is_not() {
        let rows = [
            IndexRow { name: "a", version: Some(1), state: "READY", reason: "" },
            IndexRow { name: "b", version: None, state: "", reason: "" },
            IndexRow { name: "c", version: Some(2), state: "UNAVAILABLE", reason: "unloaded" },
        ];
        let expected = r#"[{"name":"a","version":"1","state":"READY"},{"name":"b"},{"name":"c","version":"2","state":"UNAVAILABLE","reason":"unloaded"}]"#;
        assert_eq!(String::from_utf8(repository_index(&rows)).unwrap(), expected);
        assert_eq!(repository_index(&[]), b"[]");
    }

    #[test]
    fn load_requests() {
        assert_eq!(parse_load_request(b"").unwrap(), LoadParameters::default());
        let body = br#"{"parameters":{"config":"{}","file:1/model.py":"cGFzcw=="}}"#;
        let load = parse_load_request(body).unwrap();
        assert_eq!(load.config.as_deref(), Some("{}"));
        assert_eq!(load.files, [("1/model.py".to_owned(), b"pass".to_vec())]);
        for bad in [r#"{"parameters":{"x":"y"}}"#, r#"{"parameters":{"config":7}}"#, "x"] {
            assert!(parse_load_request(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse_load_request(br#"{"parameters":{"file:a":"?"}}"#).is_err());
    }

    #[test]
    fn other_requests() {
        assert_eq!(parse_index_request(b""), Ok(false));
        assert_eq!(parse_index_request(br#"{"ready":true}"#), Ok(true));
        assert!(parse_index_request(br#"{"ready":1}"#).is_err());
        let body = br#"{"parameters":{"unload_dependents":true}}"#;
        assert_eq!(parse_unload_request(body), Ok(true));
        assert_eq!(parse_unload_request(b"{}"), Ok(false));
    }
}
