//! The logging extension.

use std::fmt::Write as _;

use nereid_inference::{Error, Result};
use nereid_logging::{Change, Format, Settings};

use crate::json::{NOT_BOOLEAN, NOT_STRING, NOT_UNSIGNED, Value, parse, push_string};

/// `GET /v2/logging`, and the answer to a change.
pub fn log_settings(settings: &Settings) -> Vec<u8> {
    let mut json = b"{\"log_file\":".to_vec();
    push_string(&mut json, settings.file.as_bytes());
    let Settings { info, warning, error, verbose_level, format, .. } = settings;
    let mut rest = String::new();
    // Writing to memory does not fail.
    let _ = write!(
        rest,
        ",\"log_info\":{info},\"log_warning\":{warning},\"log_error\":{error},\
         \"log_verbose_level\":{verbose_level},\"log_format\":\"{}\"}}",
        format.name()
    );
    json.extend_from_slice(rest.as_bytes());
    json
}

/// `POST /v2/logging`: what is null or unknown changes nothing.
pub fn parse_log_change(body: &[u8]) -> Result<Change> {
    let document = parse(body)?;
    let given = |key| document.get(key).filter(|value| **value != Value::Null);
    if given("log_file").is_some() {
        return Err(log_file_is_fixed());
    }
    let boolean = |key| match given(key) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Error::internal(NOT_BOOLEAN)),
    };
    let verbose_level = match given("log_verbose_level") {
        None => None,
        Some(Value::Uint(level)) => {
            Some(u32::try_from(*level).map_err(|_| Error::internal(NOT_UNSIGNED))?)
        }
        Some(_) => return Err(Error::internal(NOT_UNSIGNED)),
    };
    let format = match given("log_format") {
        None => None,
        Some(Value::String(name)) => Some(format(&String::from_utf8_lossy(name))?),
        Some(_) => return Err(Error::internal(NOT_STRING)),
    };
    let (info, warning) = (boolean("log_info")?, boolean("log_warning")?);
    Ok(Change { info, warning, error: boolean("log_error")?, verbose_level, format })
}

/// Who may ask the server to write, may not choose the file.
pub fn log_file_is_fixed() -> Error {
    Error::unsupported("log file location can not be updated through network protocol")
}

fn format(name: &str) -> Result<Format> {
    Format::parse(name).ok_or_else(|| {
        Error::unavailable(format!("invalid argument for --log_format, got: {name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_triton_writes_them() {
        let settings = Settings { file: "a\"b".into(), ..Settings::default() };
        let expected = r#"{"log_file":"a\"b","log_info":true,"log_warning":true,"log_error":true,"log_verbose_level":0,"log_format":"default"}"#;
        assert_eq!(String::from_utf8(log_settings(&settings)).unwrap(), expected);
    }

    #[test]
    fn changes_and_what_is_wrong_with_them() {
        let change = parse_log_change(br#"{"log_info":false,"log_error":null,"x":1}"#).unwrap();
        assert_eq!(change, Change { info: Some(false), ..Change::default() });
        let change =
            parse_log_change(br#"{"log_verbose_level":2,"log_format":"ISO8601"}"#).unwrap();
        assert_eq!((change.verbose_level, change.format), (Some(2), Some(Format::Iso8601)));
        for (body, message) in [
            ("", "failed to parse the request JSON buffer: The document is empty. at 0"),
            (r#"{"log_info":1}"#, NOT_BOOLEAN),
            (r#"{"log_verbose_level":-1}"#, NOT_UNSIGNED),
            (r#"{"log_verbose_level":4294967296}"#, NOT_UNSIGNED),
            (r#"{"log_format":1}"#, NOT_STRING),
            (r#"{"log_format":"x"}"#, "invalid argument for --log_format, got: x"),
            (
                r#"{"log_file":"x"}"#,
                "log file location can not be updated through network protocol",
            ),
        ] {
            let error = parse_log_change(body.as_bytes()).unwrap_err();
            assert_eq!(error.message(), message, "{body}");
        }
    }
}
