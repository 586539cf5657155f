//! The trace extension.

use nereid_inference::{Error, Result};
use nereid_trace::{Change, Level, Mode, View};

use crate::json::{NOT_ARRAY, NOT_STRING, Value, parse, push_string};

/// Settings by name: what a client wrote, or `None` where it wants the default back.
pub type TraceSettings = Vec<(String, Option<Vec<String>>)>;

/// Settings as they are shown, by name; all but the level have one value.
pub fn trace_settings(view: &View) -> Vec<(&'static str, Vec<String>)> {
    let settings = &view.settings;
    let level = settings.level.names().into_iter().map(str::to_owned).collect();
    let mut shown = vec![
        ("trace_level", level),
        ("trace_rate", vec![settings.rate.to_string()]),
        ("trace_count", vec![settings.count.to_string()]),
    ];
    match &view.mode {
        Mode::Triton { file } => {
            shown.push(("log_frequency", vec![settings.log_frequency.to_string()]));
            shown.push(("trace_file", vec![file.clone()]));
            shown.push(("trace_mode", vec!["triton".to_owned()]));
        }
        Mode::OpenTelemetry(own) => {
            let delay = own.schedule_delay.as_millis().to_string();
            shown.push(("bsp_max_export_batch_size", vec![own.max_export_batch_size.to_string()]));
            shown.push(("bsp_max_queue_size", vec![own.max_queue_size.to_string()]));
            shown.push(("bsp_schedule_delay", vec![delay]));
            for (key, value) in &own.resource {
                shown.push(("resource", vec![format!("{key}={value}")]));
            }
            shown.push(("url", vec![own.url.clone()]));
            shown.push(("trace_mode", vec!["opentelemetry".to_owned()]));
        }
    }
    shown
}

/// `GET /v2/trace/setting` and its like, and the answer to a change.
pub fn trace_settings_json(view: &View) -> Vec<u8> {
    let mut json = Vec::new();
    for (name, values) in trace_settings(view) {
        json.push(if json.is_empty() { b'{' } else { b',' });
        push_string(&mut json, name.as_bytes());
        json.push(b':');
        if name != "trace_level" {
            values.iter().for_each(|value| push_string(&mut json, value.as_bytes()));
            continue;
        }
        for (index, value) in values.iter().enumerate() {
            json.push(if index == 0 { b'[' } else { b',' });
            push_string(&mut json, value.as_bytes());
        }
        json.push(b']');
    }
    json.push(b'}');
    json
}

/// `POST /v2/trace/setting`
pub fn parse_trace_change(body: &[u8]) -> Result<Change> {
    let document = parse(body)?;
    let text = |value: &Value| match value {
        Value::String(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        _ => Err(Error::internal(NOT_STRING)),
    };
    let mut settings = TraceSettings::new();
    for name in ["trace_file", "trace_level", "trace_rate", "trace_count", "log_frequency"] {
        let values = match document.get(name) {
            None => continue,
            Some(Value::Null) => None,
            Some(Value::Array(values)) if name == "trace_level" => {
                Some(values.iter().map(text).collect::<Result<_>>()?)
            }
            Some(_) if name == "trace_level" => return Err(Error::internal(NOT_ARRAY)),
            Some(value) => Some(vec![text(value)?]),
        };
        // An empty list of levels says nothing.
        if values.as_ref().is_none_or(|values: &Vec<String>| !values.is_empty()) {
            settings.push((name.to_owned(), values));
        }
    }
    trace_change(&settings, "got:")
}

/// What settings ask for. `got`: how the transport leads over to a count that is out of range.
pub fn trace_change(settings: &[(String, Option<Vec<String>>)], got: &str) -> Result<Change> {
    let mut change = Change::default();
    for (name, values) in settings {
        let one = || match values.as_deref() {
            None => Ok(None),
            Some([value]) => Ok(Some(value.as_str())),
            Some(_) => Err(Error::invalid_arg(format!("expect only 1 value for '{name}'"))),
        };
        let number = || one()?.map(|value| unsigned(name, value)).transpose();
        match name.as_str() {
            "trace_file" => {
                let message = "trace file location can not be updated through network protocol";
                return Err(Error::unsupported(message));
            }
            "trace_level" => change.level = level(values.as_deref())?,
            "trace_rate" => change.rate = Some(number()?),
            "log_frequency" => change.log_frequency = Some(number()?),
            "trace_count" => {
                change.count = Some(one()?.map(|value| count(value, got)).transpose()?);
            }
            _ => {}
        }
    }
    Ok(change)
}

/// Names that are unknown say nothing.
fn level(names: Option<&[String]>) -> Result<Option<Option<Level>>> {
    let Some(names) = names else { return Ok(Some(None)) };
    if names.iter().any(|name| name == "OFF") {
        return match names {
            [_] => Ok(Some(Some(Level::OFF))),
            _ => Err(Error::invalid_arg("Expect only one trace level 'OFF' is specified")),
        };
    }
    let level = names.iter().fold(Level::OFF, |level, name| level.with(name));
    Ok((!level.is_off()).then_some(Some(level)))
}

fn unsigned(name: &str, value: &str) -> Result<u32> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().map_err(|_| {
        let range = format!(", value is out of range [ 0, {} ]", u32::MAX);
        let range = if digits { range.as_str() } else { "" };
        Error::invalid_arg(format!("Unable to parse '{name}'{range}, got: {value}"))
    })
}

fn count(value: &str, got: &str) -> Result<i64> {
    match value.parse::<i32>() {
        Ok(count) if count >= -1 => Ok(count.into()),
        Ok(count) => Err(Error::invalid_arg(format!(
            "Unable to parse 'trace_count'. Expecting value >= -1, {got}{count}"
        ))),
        Err(_) => Err(Error::invalid_arg(format!("Unable to parse 'trace_count', got: {value}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nereid_trace::Tracer;

    #[test]
    fn as_triton_writes_them() {
        let json = trace_settings_json(&Tracer::off().unwrap().view(None));
        let expected = r#"{"trace_level":["OFF"],"trace_rate":"1000","trace_count":"-1","log_frequency":"0","trace_file":"","trace_mode":"triton"}"#;
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn changes_and_what_is_wrong_with_them() {
        let parse = |body: &str| parse_trace_change(body.as_bytes());
        assert_eq!(parse(r#"{"trace_level":["NONSENSE"],"x":1}"#).unwrap(), Change::default());
        assert_eq!(parse(r#"{"trace_level":[]}"#).unwrap(), Change::default());
        let change = parse(r#"{"trace_rate":"5","trace_count":null}"#).unwrap();
        assert_eq!((change.rate, change.count), (Some(Some(5)), Some(None)));
        for (body, message) in [
            ("", "failed to parse the request JSON buffer: The document is empty. at 0"),
            (r#"{"trace_rate":"abc"}"#, "Unable to parse 'trace_rate', got: abc"),
            (r#"{"trace_rate":5}"#, NOT_STRING),
            (
                r#"{"trace_rate":"99999999999999"}"#,
                "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: \
                 99999999999999",
            ),
            (
                r#"{"trace_count":"-2"}"#,
                "Unable to parse 'trace_count'. Expecting value >= -1, got:-2",
            ),
            (r#"{"trace_level":"OFF"}"#, NOT_ARRAY),
            (
                r#"{"trace_level":["OFF","TENSORS"]}"#,
                "Expect only one trace level 'OFF' is specified",
            ),
            (
                r#"{"trace_file":"x"}"#,
                "trace file location can not be updated through network protocol",
            ),
        ] {
            assert_eq!(parse(body).unwrap_err().message(), message, "{body}");
        }
    }
}
