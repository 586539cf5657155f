//! Headers that are handed on to models, as parameters of their requests.

use hyper::header::HeaderMap;
use nereid_inference::{Error, Parameter, Parameters, Result};
use nereid_protocol::ParameterKey;
use regex_lite::{Regex, RegexBuilder};

/// Which headers are handed on.
#[derive(Clone, Debug)]
pub struct Forward(Regex);

impl Forward {
    /// Headers whose name matches somewhere. Names of headers have no case, and parameters get them
    /// in small letters.
    pub fn new(pattern: &str) -> std::result::Result<Self, String> {
        let built = RegexBuilder::new(pattern).case_insensitive(true).build();
        built.map(Self).map_err(|error| error.to_string())
    }

    /// Adds the headers that match to the parameters of a request.
    pub fn add(&self, headers: &HeaderMap, parameters: &mut Parameters) -> Result<()> {
        for (name, value) in headers {
            let name = name.as_str();
            if !self.0.is_match(name) {
                continue;
            }
            let reserved = matches!(name, "headers" | "binary_data_output");
            if reserved || ParameterKey::of(name) != ParameterKey::Custom {
                return Err(Error::invalid_arg(format!(
                    "Header '{name}' is reserved for Triton usage and cannot be forwarded."
                )));
            }
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            parameters.push((name.to_owned(), Parameter::String(value)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn forwarded(pattern: &str, names: &[&'static str]) -> Result<Vec<String>> {
        let headers: HeaderMap = names
            .iter()
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("v")))
            .collect();
        let mut parameters = Parameters::new();
        Forward::new(pattern).unwrap().add(&headers, &mut parameters)?;
        Ok(parameters.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn names_match_in_part_and_in_any_case() {
        let names = ["my-one", "other", "x-my-two"];
        assert_eq!(forwarded("My-", &names).unwrap(), ["my-one", "x-my-two"]);
        assert_eq!(forwarded("^my-", &names).unwrap(), ["my-one"]);
        assert!(Forward::new("(").is_err());
    }

    #[test]
    fn reserved_names_are_refused() {
        for name in ["timeout", "headers", "triton_x", "sequence_id", "binary_data_output"] {
            let error = forwarded(".*", &[name]).unwrap_err();
            assert!(error.message().contains("is reserved for Triton usage"), "{error}");
        }
    }
}
