//! The rarely used parts of requests and responses: JSON beside the tensors, left out when empty.

use std::borrow::Cow;

use nereid_inference::{
    Code, CorrelationId, Error, Parameter, Parameters, Request, Response, Result, Window,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::link::Part;

/// What a request carries besides its inputs. That it wants all `outputs` of the model in their
/// order goes without saying.
pub(crate) fn of_request(request: &Request, outputs: &[String]) -> Vec<u8> {
    let mut extras = Map::new();
    let mut set = |key: &str, given: bool, value: &dyn Fn() -> Value| {
        if given {
            extras.insert(key.to_owned(), value());
        }
    };
    set("id", !request.id.is_empty(), &|| json!(request.id));
    let correlation = &request.correlation;
    set("correlation_id", *correlation != CorrelationId::None, &|| match correlation {
        CorrelationId::None => Value::Null,
        CorrelationId::Number(id) => json!(id),
        CorrelationId::Text(id) => json!(id),
    });
    set("flags", request.flags != 0, &|| json!(request.flags));
    set("timeout", request.timeout_us != 0, &|| json!(request.timeout_us));
    set("priority", request.priority != 0, &|| json!(request.priority));
    let parameters = &request.parameters;
    set("parameters", !parameters.is_empty(), &|| parameters_json(parameters));
    let context = request.trace.as_ref().and_then(|trace| trace.context());
    set("trace", context.is_some(), &|| json!(context));
    let window = request.window.as_ref().map(Window::size);
    set("window", window.is_some(), &|| json!(window));
    let wanted = &request.requested_outputs;
    set("outputs", !wanted.is_empty() && wanted != outputs, &|| json!(wanted));
    if extras.is_empty() { Vec::new() } else { Value::Object(extras).to_string().into_bytes() }
}

/// What the answer to a worker's own request carries besides its outputs. `part`: it is one of
/// several, and the number under which it is lent.
pub(crate) fn of_response(response: &Response, part: Option<(Part, u64)>) -> Vec<u8> {
    if response.parameters.is_empty() && part.is_none() {
        return Vec::new();
    }
    with_part(json!({ "parameters": parameters_json(&response.parameters) }), part)
}

pub(crate) fn of_error(error: &Error, part: Option<(Part, u64)>) -> Vec<u8> {
    let code = CODES.iter().find(|(code, _)| *code == error.code()).map_or("UNKNOWN", |c| c.1);
    with_part(json!({ "error": { "code": code, "message": error.message() } }), part)
}

fn with_part(mut extras: Value, part: Option<(Part, u64)>) -> Vec<u8> {
    if let Some((part, lease)) = part {
        extras["last"] = json!(part.last);
        extras["lease"] = json!(lease);
    }
    extras.to_string().into_bytes()
}

/// Reads extras; none and broken ones are an empty object, whose fields are all unset.
pub(crate) fn parse(extras: &[u8]) -> Value {
    if extras.is_empty() { Value::Null } else { serde_json::from_slice(extras).unwrap_or_default() }
}

/// The error that a worker reported in extras, if it did.
pub(crate) fn error_in(extras: &Value) -> Option<Error> {
    let error = extras.get("error")?;
    let name = error["code"].as_str().unwrap_or_default();
    let code = CODES.iter().find(|(_, known)| *known == name).map_or(Code::Internal, |c| c.0);
    Some(Error::new(code, error["message"].as_str().unwrap_or("the model gave no reason")))
}

/// A version as a model names it; none stands for the highest one.
pub(crate) fn version(given: &Value) -> Result<Option<i64>> {
    match given {
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| {
            Error::invalid_arg(format!(
                "failed to get model version from specified version string '{text}'"
            ))
        }),
        other => Ok(other.as_i64().filter(|&version| version > 0)),
    }
}

/// Places in a batch, listed under `key`.
pub(crate) fn indices(extras: &Value, key: &str) -> impl Iterator<Item = usize> {
    let listed = extras[key].as_array().into_iter().flatten();
    listed.filter_map(Value::as_u64).map(|index| index as usize)
}

/// The parameters of a request or response, of those kinds that there are.
pub(crate) fn parameters_of(parameters: &Value) -> Parameters {
    let Value::Object(parameters) = parameters else { return Vec::new() };
    parameters
        .iter()
        .filter_map(|(key, value)| {
            let value = match value {
                Value::Bool(value) => Parameter::Bool(*value),
                Value::String(value) => Parameter::String(value.clone()),
                Value::Number(value) => match value.as_i64() {
                    Some(value) => Parameter::Int(value),
                    None => Parameter::Double(value.as_f64()?),
                },
                _ => return None,
            };
            Some((key.clone(), value))
        })
        .collect()
}

/// What a worker's own request carries besides its inputs.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct CallExtras<'a> {
    #[serde(borrow)]
    pub(crate) model_name: Cow<'a, str>,
    model_version: Value,
    pub(crate) decoupled: bool,
    /// The model may cancel it by itself.
    pub(crate) may_cancel: bool,
    /// It wants its answer in the memory of the host.
    pub(crate) on_host: bool,
    // What is of another type than it should be counts as not given.
    id: Value,
    correlation_id: Value,
    flags: Value,
    priority: Value,
    timeout: Value,
    parameters: Value,
    outputs: Vec<String>,
}

impl<'a> CallExtras<'a> {
    /// Broken ones are empty, so that no model is found.
    pub(crate) fn read(extras: &'a [u8]) -> Self {
        serde_json::from_slice(extras).unwrap_or_default()
    }

    /// `None` for the highest one.
    pub(crate) fn version(&self) -> Option<i64> {
        self.model_version.as_i64().filter(|&version| version >= 0)
    }

    /// Fills the fields of a request.
    pub(crate) fn fill(self, request: &mut Request) {
        request.id = self.id.as_str().unwrap_or_default().to_owned();
        request.correlation = match self.correlation_id {
            Value::String(id) => id.into(),
            Value::Number(id) => id.as_u64().unwrap_or_default().into(),
            _ => CorrelationId::None,
        };
        request.flags = self.flags.as_u64().unwrap_or_default() as u32;
        request.priority = self.priority.as_u64().unwrap_or_default();
        request.timeout_us = self.timeout.as_u64().unwrap_or_default();
        request.parameters = parameters_of(&self.parameters);
        request.requested_outputs = self.outputs;
    }
}

fn parameters_json(parameters: &Parameters) -> Value {
    let members = parameters.iter().map(|(key, value)| {
        let value = match value {
            Parameter::Bool(value) => json!(value),
            Parameter::Int(value) => json!(value),
            Parameter::Double(value) => json!(value),
            Parameter::String(value) => json!(value),
        };
        (key.clone(), value)
    });
    Value::Object(members.collect())
}

const CODES: [(Code, &str); 8] = [
    (Code::Unknown, "UNKNOWN"),
    (Code::Internal, "INTERNAL"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::InvalidArg, "INVALID_ARG"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::Unsupported, "UNSUPPORTED"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::Cancelled, "CANCELLED"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use nereid_inference::{Answer, Responder, ResponseSink, Times};

    struct Nobody;

    impl ResponseSink for Nobody {
        fn deliver(&mut self, _: Answer, _: &Times) {}
    }

    #[test]
    fn what_is_of_another_type_counts_as_not_given() {
        let extras = CallExtras::read(
            br#"{"model_name":"m\u0041","model_version":"1","id":7,"flags":-1,"timeout":2.5,"outputs":["O"]}"#,
        );
        assert_eq!((extras.model_name.as_ref(), extras.version()), ("mA", None));
        let mut request = Request::new("m", None, Responder::new(Box::new(Nobody)));
        extras.fill(&mut request);
        assert_eq!((request.id.as_str(), request.flags, request.timeout_us), ("", 0, 0));
        assert_eq!(request.requested_outputs, ["O"]);
    }

    #[test]
    fn errors_survive_the_way() {
        let error = Error::not_found("no \"such\" thing\n");
        assert_eq!(error_in(&parse(&of_error(&error, None))), Some(error));
        assert_eq!(error_in(&parse(b"")), None);
        assert_eq!(error_in(&parse(b"not json")), None);
    }
}
