//! The generate extension: flat JSON objects whose members are tensors or parameters.

use std::collections::BTreeMap;

use nereid_inference::{Buffer, DataType, Error, Response, Result, Tensor};
use nereid_model_config::{ModelConfig, ModelInput};

use crate::infer_request::{InferRequest, check_input_size, check_text_size, custom_parameter};
use crate::infer_response::{push_data, push_parameter};
use crate::json::{Member, Value, array_len, decode_data, decode_scalar, parse_flat, push_string};

/// The member whose members are handled as if they stood outside it.
const NESTED: &str = "parameters";

/// Reads a request to the model of `config`: members with the name of an input are tensors, the
/// others are parameters.
pub fn parse_generate_request(
    config: &ModelConfig,
    text: &[u8],
    max_input_size: usize,
) -> Result<InferRequest> {
    check_text_size(text.len(), max_input_size)?;
    let document = parse_flat(text)?;
    let members = document
        .members()
        .ok_or_else(|| Error::internal("attempt to get members for non-object"))?;
    let mut request = InferRequest::default();
    if let Some(id) = document.get("id") {
        request.id = id.as_string("id")?;
    }
    let mut reader = Reader { config, text, max_input_size, request };
    for member in members {
        reader.member(member)?;
    }
    Ok(reader.request)
}

struct Reader<'a> {
    config: &'a ModelConfig,
    text: &'a [u8],
    max_input_size: usize,
    request: InferRequest,
}

impl Reader<'_> {
    fn member(&mut self, member: &Member) -> Result<()> {
        let (key, value) = member;
        if key != NESTED {
            return self.tensor_or_parameter(key, value);
        }
        if self.input(NESTED).is_some() {
            return Err(Error::invalid_arg(format!(
                "Keyword '{NESTED}' for nested schema also given as input tensor name"
            )));
        }
        let members = value.members().ok_or_else(|| {
            Error::internal(format!(
                "Expected JSON object for keyword: '{NESTED}': attempt to access JSON non-object \
                 as object"
            ))
        })?;
        members.iter().try_for_each(|(key, value)| {
            self.tensor_or_parameter(key, value).map_err(|error| {
                let message = error.message();
                Error::new(error.code(), format!("Converting keyword: '{NESTED}': {message}"))
            })
        })
    }

    fn tensor_or_parameter(&mut self, key: &str, value: &Value) -> Result<()> {
        match self.input(key) {
            Some(input) => {
                let tensor = self.tensor(input, value)?;
                self.request.add_input(tensor, None)
            }
            None => {
                let parameter = custom_parameter(key, value)?;
                self.request.parameters.push((key.to_owned(), parameter));
                Ok(())
            }
        }
    }

    fn input(&self, name: &str) -> Option<&ModelInput> {
        self.config.input.iter().find(|input| input.name == name)
    }

    fn tensor(&self, input: &ModelInput, value: &Value) -> Result<Tensor> {
        let datatype = input.datatype().unwrap_or(DataType::Uint8);
        let count = match value {
            Value::Data(span) => array_len(self.text, span.start),
            // No element of any datatype.
            Value::Null | Value::Object(_) => decode_scalar(value, datatype).map(|_| 0)?,
            _ => 1,
        };
        let shape = fit(self.config.full_dims(&input.dims), count).ok_or_else(|| {
            Error::invalid_arg(format!(
                "The schema can not convert input '{}' to tensor with proper shape",
                input.name
            ))
        })?;
        check_input_size(&input.name, datatype, &shape, self.max_input_size)?;
        let data = match value {
            Value::Data(span) => decode_data(self.text, span.start, datatype, count)?,
            scalar => decode_scalar(scalar, datatype)?,
        };
        Ok(Tensor { name: input.name.clone(), datatype, shape, data: Buffer::from(data) })
    }
}

/// Distributes `count` elements over a model's dimensions: the innermost open one takes what the
/// fixed ones leave, other open ones become 1.
fn fit(mut dims: Vec<i64>, count: usize) -> Option<Vec<i64>> {
    let mut left = i64::try_from(count).ok()?;
    for dim in dims.iter().filter(|&&dim| dim != -1) {
        left = left.checked_rem(*dim).filter(|&rest| rest == 0).map(|_| left / dim)?;
    }
    for dim in dims.iter_mut().rev().filter(|dim| **dim == -1) {
        *dim = std::mem::replace(&mut left, 1);
    }
    (left == 1).then_some(dims)
}

/// Writes one response: its outputs and parameters by name, among what it says about itself. An
/// output with one element is that element, others are flat arrays.
pub fn write_generate_response(id: &str, response: &Response) -> Result<Vec<u8>> {
    let mut members = BTreeMap::new();
    for output in &response.outputs {
        let mut json = Vec::new();
        push_data(&mut json, output)?;
        if output.shape.iter().product::<i64>() != 1 {
            json.insert(0, b'[');
            json.push(b']');
        }
        members.insert(output.name.as_str(), json);
    }
    for (key, value) in &response.parameters {
        let mut json = Vec::new();
        push_parameter(&mut json, value);
        members.insert(key, json);
    }
    let about = [("id", id), ("model_name", &response.model)];
    let version = response.version.to_string();
    for (key, text) in about.into_iter().chain([("model_version", version.as_str())]) {
        if key == "id" && text.is_empty() {
            continue;
        }
        let mut json = Vec::new();
        push_string(&mut json, text.as_bytes());
        members.insert(key, json);
    }
    let mut json = b"{".to_vec();
    for (key, value) in members {
        if json.len() > 1 {
            json.push(b',');
        }
        push_string(&mut json, key.as_bytes());
        json.push(b':');
        json.extend_from_slice(&value);
    }
    json.push(b'}');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use nereid_inference::Parameter;
    use nereid_model_config::ConfigDataType;

    use super::*;

    fn config(names: &[&str], dims: &[i64]) -> ModelConfig {
        let input = |name: &&str| ModelInput {
            name: (*name).to_owned(),
            data_type: ConfigDataType::TypeInt8.into(),
            dims: dims.to_vec(),
            ..Default::default()
        };
        let input = names.iter().map(input).collect();
        ModelConfig { name: "m".into(), max_batch_size: 0, input, ..Default::default() }
    }

    fn parse(text: &str) -> Result<InferRequest> {
        parse_generate_request(&config(&["data", "B"], &[-1]), text.as_bytes(), 100)
    }

    #[test]
    fn members_are_tensors_or_parameters() {
        let request = parse(r#"{"id":"7","data":[1,2],"x":true,"parameters":{"B":3,"y":1.5}}"#);
        let request = request.unwrap();
        assert_eq!(request.id, "7");
        let tensors = request.inputs.iter().map(|t| (t.name.as_str(), t.shape.as_slice()));
        assert_eq!(tensors.collect::<Vec<_>>(), [("data", &[2][..]), ("B", &[1])]);
        assert_eq!(&request.inputs[0].data.contiguous()[..], [1, 2]);
        assert_eq!(
            request.parameters,
            [
                ("id".to_owned(), Parameter::String("7".to_owned())),
                ("x".to_owned(), Parameter::Bool(true)),
                ("y".to_owned(), Parameter::Double(1.5)),
            ]
        );
    }

    #[test]
    fn refusals() {
        let schema = "The schema can not convert input 'B' to tensor with proper shape";
        let fixed = config(&["B"], &[2, 2]);
        let refusal = |config: &ModelConfig, text: &str| {
            parse_generate_request(config, text.as_bytes(), 100).unwrap_err().message().to_owned()
        };
        assert_eq!(refusal(&fixed, r#"{"B":[[1,2],[3,4]]}"#), schema);
        assert_eq!(refusal(&fixed, r#"{"B":1}"#), schema);
        let nested = config(&["parameters"], &[-1]);
        assert!(refusal(&nested, r#"{"parameters":{}}"#).starts_with("Keyword 'parameters'"));
        for (text, message) in [
            ("7", "attempt to get members for non-object"),
            (r#"{"x":[1]}"#, "parameter 'x' has invalid type"),
            (r#"{"parameters":{"x":null}}"#, "Converting keyword: 'parameters': parameter 'x'"),
            (r#"{"parameters":7}"#, "Expected JSON object for keyword: 'parameters'"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message().starts_with(message), "{error}");
        }
        let long = format!(r#"{{"B":[{}]}}"#, vec!["1"; 60].join(","));
        assert!(parse(&long).unwrap_err().message().contains("--http-max-input-size"));
    }

    #[test]
    fn elements_are_distributed() {
        for (dims, count, fitted) in [
            (&[-1, -1][..], 6, Some(&[1, 6][..])),
            (&[-1, 3], 6, Some(&[2, 3])),
            (&[-1, 4], 6, None),
            (&[2, 3], 6, Some(&[2, 3])),
            (&[2, 3], 12, None),
            (&[0], 0, None),
            (&[-1], 0, Some(&[0])),
        ] {
            assert_eq!(fit(dims.to_vec(), count).as_deref(), fitted, "{dims:?}");
        }
    }

    #[test]
    fn responses_are_sorted_and_flat() {
        let tensor = |name: &str, shape: &[i64], data: &[u8]| Tensor {
            name: name.into(),
            datatype: DataType::Int8,
            shape: shape.to_vec(),
            data: data.to_vec().into(),
        };
        let outputs = vec![tensor("out", &[1, 1], &[5]), tensor("A", &[2], &[1, 2])];
        let response = Response { model: "m".into(), version: 3, ..Response::new(outputs) };
        let json = write_generate_response("7", &response).unwrap();
        let text = r#"{"A":[1,2],"id":"7","model_name":"m","model_version":"3","out":5}"#;
        assert_eq!(String::from_utf8(json).unwrap(), text);
    }
}
