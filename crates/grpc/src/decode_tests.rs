//! Request messages, good and bad.

use bytes::Bytes;
use nereid_inference::{CorrelationId, Parameter, RegionRange, Result, SEQUENCE_END};
use nereid_model_config::ModelConfig;
use nereid_protocol::OutputForm;
use prost::Message;

use super::{Decoded, decode};
use crate::proto::infer_parameter::ParameterChoice;
use crate::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::proto::{InferParameter, InferTensorContents, ModelInferRequest};

fn input(name: &str, contents: Option<InferTensorContents>) -> InferInputTensor {
    let (name, datatype) = (name.to_owned(), "INT8".to_owned());
    InferInputTensor { name, datatype, shape: vec![2], contents, ..Default::default() }
}

fn parameter(value: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(value) }
}

fn read(message: ModelInferRequest) -> Result<Decoded> {
    decode(&ModelConfig::default(), message)
}

fn refusal(message: ModelInferRequest) -> String {
    read(message).unwrap_err().message().to_owned()
}

fn with_parameter(key: &str, value: ParameterChoice) -> ModelInferRequest {
    let parameters = [(key.to_owned(), parameter(value))].into();
    ModelInferRequest { parameters, ..Default::default() }
}

#[test]
fn raw_contents_are_slices_of_the_message() {
    let message = ModelInferRequest {
        inputs: vec![input("A", None), input("B", None)],
        raw_input_contents: vec!["ab".into(), "cd".into(), "left over".into()],
        ..Default::default()
    };
    let received = Bytes::from(message.encode_to_vec());
    let request = read(ModelInferRequest::decode(received.clone()).unwrap()).unwrap().request;
    let (start, end) = (received.as_ptr(), received.as_ptr_range().end);
    for (tensor, data) in request.inputs.iter().zip([b"ab", b"cd"]) {
        let bytes = tensor.data.contiguous();
        assert_eq!(&bytes[..], data);
        assert!((start..end).contains(&bytes.as_ptr()));
    }
}

#[test]
fn data_comes_in_exactly_one_way() {
    let typed = InferTensorContents { int_contents: vec![1, 2], ..Default::default() };
    let mut message =
        ModelInferRequest { inputs: vec![input("A", Some(typed))], ..Default::default() };
    let request = read(message.clone()).unwrap().request;
    assert_eq!(&request.inputs[0].data.contiguous()[..], [1, 2]);
    message.raw_input_contents = vec!["ab".into()];
    assert!(refusal(message.clone()).starts_with("contents field must not be specified"));
    message.inputs = vec![input("A", None), input("B", None)];
    assert!(refusal(message).starts_with("unable to find data for input tensor 'B'"));
}

#[test]
fn parameters() {
    use ParameterChoice::{BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param};
    let parameters = [
        ("sequence_id", StringParam("s".into())),
        ("sequence_end", BoolParam(true)),
        ("priority", Uint64Param(3)),
        ("timeout", Int64Param(50)),
        ("triton_enable_empty_final_response", BoolParam(true)),
        ("mine", DoubleParam(1.5)),
    ]
    .map(|(key, value)| (key.to_owned(), parameter(value)));
    let message = ModelInferRequest { parameters: parameters.into(), ..Default::default() };
    let Decoded { request, empty_final } = read(message).unwrap();
    assert_eq!(request.correlation, CorrelationId::Text("s".into()));
    assert_eq!((request.flags, request.priority, request.timeout_us), (SEQUENCE_END, 3, 50));
    assert_eq!(request.parameters, [("mine".to_owned(), Parameter::Double(1.5))]);
    assert!(empty_final);
    for (key, value, text) in [
        ("sequence_id", BoolParam(true), "expected int64_param or string_param."),
        ("sequence_start", Int64Param(1), "expected bool_param."),
        ("priority", Int64Param(-1), "invalid value for 'priority', expected value >= 0."),
        ("priority", BoolParam(true), "expected int64_param or uint64_param."),
        ("timeout", Uint64Param(1), "expected int64_param."),
        ("mine", Uint64Param(1), "expected int64_param, bool_param, or string_param."),
        ("triton_x", BoolParam(true), "are allowed: triton_enable_empty_final_response"),
        ("triton_enable_empty_final_response", Int64Param(1), "expected bool_param."),
    ] {
        let message = refusal(with_parameter(key, value));
        assert!(message.ends_with(text), "{message}");
    }
}

#[test]
fn outputs() {
    use ParameterChoice::{Int64Param, StringParam};
    let ask = |parameters: &[(&str, ParameterChoice)]| {
        let parameters =
            parameters.iter().map(|(k, v)| ((*k).to_owned(), parameter(v.clone()))).collect();
        let output = InferRequestedOutputTensor { name: "O".into(), parameters };
        ModelInferRequest { outputs: vec![output.clone(), output], ..Default::default() }
    };
    assert_eq!(read(ask(&[])).unwrap().request.requested_outputs, ["O"]);
    let region = ("shared_memory_region", StringParam("r".into()));
    let size = ("shared_memory_byte_size", Int64Param(8));
    let placed = read(ask(&[region.clone(), size.clone()])).unwrap().request.format;
    let range = RegionRange { region: "r".into(), offset: 0, byte_size: 8 };
    assert_eq!(placed.form("O"), OutputForm::Region(range));
    let classified = read(ask(&[("classification", Int64Param(2))])).unwrap().request.format;
    assert_eq!(classified.classes("O"), 2);
    for (parameters, text) in [
        (vec![("classification", Int64Param(0))], "expected >= 0"),
        (vec![("classification", StringParam("1".into()))], "expected int64_param"),
        (vec![region.clone()], "'shared_memory_byte_size' must be specified along with"),
        (vec![size.clone()], "can not be specified without 'shared_memory_region'"),
        (
            vec![region, size, ("classification", Int64Param(1))],
            "output can't set both 'shared_memory_region' and 'classification'",
        ),
    ] {
        let message = refusal(ask(&parameters));
        assert!(message.contains(text), "{message}");
    }
}
