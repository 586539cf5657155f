//! Metadata of the server and of models.

use nereid_inference::{DataType, display_shape};
use nereid_model_config::ModelConfig;

use crate::json::push_string;

/// `GET /v2`
pub fn server_metadata(name: &str, version: &str, extensions: &[&str]) -> Vec<u8> {
    let mut json = b"{\"name\":".to_vec();
    push_string(&mut json, name.as_bytes());
    json.extend_from_slice(b",\"version\":");
    push_string(&mut json, version.as_bytes());
    json.extend_from_slice(b",\"extensions\":");
    push_strings(&mut json, extensions.iter().map(|name| (*name).to_owned()));
    json.push(b'}');
    json
}

/// A model as its metadata describes it, in any protocol.
#[derive(Debug, PartialEq)]
pub struct ModelDescription<'a> {
    pub name: &'a str,
    pub platform: &'a str,
    pub inputs: Vec<TensorDescription<'a>>,
    pub outputs: Vec<TensorDescription<'a>>,
}

#[derive(Debug, PartialEq)]
pub struct TensorDescription<'a> {
    pub name: &'a str,
    pub datatype: &'static str,
    /// With a leading -1 where the model batches.
    pub shape: Vec<i64>,
}

pub fn describe_model(config: &ModelConfig) -> ModelDescription<'_> {
    let tensor = |name, datatype: Option<DataType>, dims: &[i64]| TensorDescription {
        name,
        datatype: datatype.map_or("<invalid>", DataType::name),
        shape: config.full_dims(dims),
    };
    let inputs = config.input.iter();
    let outputs = config.output.iter();
    ModelDescription {
        name: &config.name,
        platform: if config.platform.is_empty() { &config.backend } else { &config.platform },
        inputs: inputs.map(|input| tensor(&input.name, input.datatype(), &input.dims)).collect(),
        outputs: outputs.map(|out| tensor(&out.name, out.datatype(), &out.dims)).collect(),
    }
}

/// `GET /v2/models/{model}`
pub fn model_metadata(config: &ModelConfig, versions: &[i64]) -> Vec<u8> {
    let model = describe_model(config);
    let mut json = b"{\"name\":".to_vec();
    push_string(&mut json, model.name.as_bytes());
    json.extend_from_slice(b",\"versions\":");
    push_strings(&mut json, versions.iter().map(i64::to_string));
    json.extend_from_slice(b",\"platform\":");
    push_string(&mut json, model.platform.as_bytes());
    json.extend_from_slice(b",\"inputs\":[");
    push_tensors(&mut json, &model.inputs);
    json.extend_from_slice(b"],\"outputs\":[");
    push_tensors(&mut json, &model.outputs);
    json.extend_from_slice(b"]}");
    json
}

fn push_tensors(json: &mut Vec<u8>, tensors: &[TensorDescription<'_>]) {
    for (index, tensor) in tensors.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(b"{\"name\":");
        push_string(json, tensor.name.as_bytes());
        json.extend_from_slice(b",\"datatype\":");
        push_string(json, tensor.datatype.as_bytes());
        json.extend_from_slice(b",\"shape\":");
        json.extend_from_slice(display_shape(&tensor.shape).as_bytes());
        json.push(b'}');
    }
}

fn push_strings(json: &mut Vec<u8>, strings: impl Iterator<Item = String>) {
    json.push(b'[');
    for (index, string) in strings.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        push_string(json, string.as_bytes());
    }
    json.push(b']');
}

#[cfg(test)]
mod tests {
    use nereid_model_config::{ConfigDataType, ModelInput, ModelOutput};

    use super::*;

    #[test]
    fn of_the_server() {
        let json = server_metadata("nereid", "0.1", &["statistics", "parameters"]);
        let expected =
            r#"{"name":"nereid","version":"0.1","extensions":["statistics","parameters"]}"#;
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn of_a_model_that_batches() {
        let input = ModelInput {
            name: "IN".into(),
            data_type: ConfigDataType::TypeString.into(),
            dims: vec![2],
            ..Default::default()
        };
        let output = ModelOutput {
            name: "OUT".into(),
            data_type: ConfigDataType::TypeFp32.into(),
            dims: vec![-1],
            ..Default::default()
        };
        let config = ModelConfig {
            name: "m".into(),
            backend: "python".into(),
            max_batch_size: 8,
            input: vec![input],
            output: vec![output],
            ..Default::default()
        };
        assert_eq!(
            String::from_utf8(model_metadata(&config, &[1, 3])).unwrap(),
            concat!(
                r#"{"name":"m","versions":["1","3"],"platform":"python","#,
                r#""inputs":[{"name":"IN","datatype":"BYTES","shape":[-1,2]}],"#,
                r#""outputs":[{"name":"OUT","datatype":"FP32","shape":[-1,-1]}]}"#
            )
        );
    }
}
