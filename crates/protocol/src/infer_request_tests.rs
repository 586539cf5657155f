//! Requests as clients write them, well and badly.

use bytes::Bytes;
use nereid_inference::{Code, CorrelationId, DataType, Error, Parameter, RegionRange};

use nereid_model_config::{ConfigDataType, ModelConfig, ModelInput};

use super::{InferRequest, OutputForm, parse_infer_request};

fn config() -> ModelConfig {
    let input = ModelInput {
        name: "IN".into(),
        data_type: ConfigDataType::TypeFp32.into(),
        ..ModelInput::default()
    };
    ModelConfig { name: "m".into(), input: vec![input], ..ModelConfig::default() }
}

fn parse(json: &str, tail: &[u8]) -> Result<InferRequest, Error> {
    let body = Bytes::from([json.as_bytes(), tail].concat());
    parse_infer_request(&config(), &body, json.len(), 1 << 20)
}

fn input(rest: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"IN","shape":[2],"datatype":"FP32"{rest}}}]}}"#)
}

#[test]
fn everything_that_a_request_can_say() {
    let json = r#"{"id":"7","parameters":{"sequence_id":9,"sequence_end":true,"priority":2,
        "timeout":50,"binary_data_output":true,"mine":"x","count":3},
        "inputs":[{"name":"A","data":[[1],[2]],"shape":[2,1],"datatype":"INT64"},
        {"name":"B","shape":[3],"datatype":"UINT8","parameters":{"binary_data_size":3}}],
        "outputs":[{"name":"X"},{"name":"Y","parameters":{"binary_data":true}},{"name":"X"}]}"#;
    let request = parse(json, b"abc").unwrap();
    assert_eq!(request.id, "7");
    assert_eq!(request.correlation, CorrelationId::Number(9));
    assert_eq!((request.flags, request.priority, request.timeout_us), (2, 2, 50));
    let own = [("mine".into(), Parameter::String("x".into())), ("count".into(), Parameter::Int(3))];
    assert_eq!(request.parameters, own);
    assert_eq!(request.inputs[0].datatype, DataType::Int64);
    assert_eq!(request.inputs[0].data.len(), 16);
    assert_eq!(&request.inputs[1].data.contiguous()[..], b"abc");
    assert_eq!(request.requested_outputs, ["X", "Y"]);
    let format = &request.format;
    let forms = [OutputForm::Json, OutputForm::Binary, OutputForm::Binary];
    assert_eq!(["X", "Y", "Z"].map(|name| format.form(name)), forms);
}

#[test]
fn binary_tensors_are_slices_of_the_body() {
    let json = input(r#","parameters":{"binary_data_size":8}"#);
    let body = Bytes::from([json.as_bytes(), &[0; 8]].concat());
    let request = parse_infer_request(&config(), &body, json.len(), 1 << 20).unwrap();
    let tensor = request.inputs[0].data.contiguous();
    assert_eq!(tensor.as_ptr(), body[json.len()..].as_ptr());
}

fn check(cases: &[(&str, &[u8], Code, &str)]) {
    for (json, tail, code, message) in cases {
        let error = parse(json, tail).unwrap_err();
        assert!(error.code() == *code && error.message().contains(message), "{json}: {error}");
    }
}

#[test]
fn wrong_types_are_internal_errors() {
    let internal = Code::Internal;
    check(&[
        ("{", b"", internal, "failed to parse the request JSON buffer: Missing a name"),
        (
            "{}",
            b"",
            internal,
            "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'",
        ),
        ("[]", b"", internal, "non-existing object member 'inputs'"),
        (
            r#"{"inputs":3}"#,
            b"",
            internal,
            "Unable to parse 'inputs': attempt to access JSON non-array as array",
        ),
        (
            r#"{"id":3,"inputs":[]}"#,
            b"",
            internal,
            "Unable to parse 'id': attempt to access JSON non-string as string",
        ),
        (r#"{"parameters":3}"#, b"", internal, "attempt to get members for non-object"),
        (
            r#"{"parameters":{"sequence_id":-1}}"#,
            b"",
            internal,
            "Unable to parse 'sequence_id': attempt to access JSON non-string",
        ),
        (
            r#"{"parameters":{"sequence_end":1}}"#,
            b"",
            internal,
            "Unable to parse 'sequence_end': attempt to access JSON non-boolean as boolean",
        ),
        (
            r#"{"parameters":{"priority":1.5}}"#,
            b"",
            internal,
            "Unable to parse 'priority': attempt to access JSON non-unsigned-integer",
        ),
        (
            r#"{"parameters":{"binary_data_output":1}}"#,
            b"",
            internal,
            "Unable to parse 'binary_data_output'",
        ),
        (
            r#"{"inputs":[{"data":[]}]}"#,
            b"",
            internal,
            "Unable to parse 'name': attempt to access non-existing object member 'name'",
        ),
        (r#"{"inputs":[{"data":[],"name":"IN"}]}"#, b"", internal, "Unable to parse 'datatype'"),
        (
            r#"{"inputs":[{"data":[],"name":"IN","datatype":"FP32"}]}"#,
            b"",
            internal,
            "Unable to parse 'shape'",
        ),
        (
            r#"{"inputs":[{"data":[],"name":"IN","datatype":"FP32","shape":[-1]}]}"#,
            b"",
            internal,
            "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            &input(r#","parameters":{"binary_data_size":"8"}"#),
            b"",
            internal,
            "Unable to parse 'binary_data_size'",
        ),
        (
            &input(r#","data":[1]"#),
            b"",
            internal,
            "Failed to parse 'data' field: shape does not match true shape",
        ),
        (
            &input(r#","data":[1,2,3]"#),
            b"",
            internal,
            "Unable to parse 'data': Shape does not match true shape of 'data' field",
        ),
        (
            &input(r#","data":{}"#),
            b"",
            internal,
            "Unable to parse 'data': attempt to access JSON non-array as array",
        ),
        (
            &input(r#","data":[1,"2"]"#),
            b"",
            internal,
            "attempt to access JSON non-number as double",
        ),
        (r#"{"inputs":[],"outputs":[{}]}"#, b"", internal, "Unable to parse 'name'"),
        (
            r#"{"inputs":[],"outputs":[{"name":"X","parameters":{"binary_data":1}}]}"#,
            b"",
            internal,
            "Unable to parse 'binary_data'",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"X","parameters":{"classification":-1}}]}"#,
            b"",
            internal,
            "Unable to set 'classification': attempt to access JSON non-unsigned-integer",
        ),
    ]);
}

#[test]
fn wrong_values_are_invalid_arguments() {
    let invalid = Code::InvalidArg;
    let huge =
        r#"{"inputs":[{"name":"IN","shape":[9000000000000000000,9],"datatype":"FP32","data":[]}]}"#;
    let wide =
        r#"{"inputs":[{"name":"IN","shape":[9000000000000000000],"datatype":"FP32","data":[]}]}"#;
    let beyond = r#"{"inputs":[{"name":"IN","shape":[1,18446744073709551615],"datatype":"FP32","data":[]}]}"#;
    let large = r#"{"inputs":[{"name":"IN","shape":[1000000],"datatype":"FP32","data":[]}]}"#;
    let unknown = r#"{"inputs":[{"name":"IN","shape":[1],"datatype":"FP33","data":[1]}]}"#;
    let half = r#"{"inputs":[{"name":"IN","shape":[1],"datatype":"FP16","data":[1]}]}"#;
    let binary_unknown = r#"{"id":"7","inputs":[{"name":"IN","shape":[1],"datatype":"FP33","parameters":{"binary_data_size":1}}]}"#;
    let enormous = &input(r#","parameters":{"binary_data_size":18446744073709551615}"#);
    let deep = &input(&format!(r#","data":{}1{}"#, "[".repeat(101), "]".repeat(101)));
    check(&[
        (
            r#"{"parameters":{"triton_x":1}}"#,
            b"",
            invalid,
            "parameter keys starting with 'triton_' are reserved",
        ),
        (r#"{"parameters":{"mine":[]}}"#, b"", invalid, "parameter 'mine' has invalid type"),
        // That no data is given is noticed before that no name is.
        (r#"{"inputs":[{}]}"#, b"", invalid, "But no field is set"),
        (r#"{"inputs":[3]}"#, b"", invalid, "But no field is set"),
        (
            &input(r#","data":[1,2],"parameters":{"binary_data_size":8}"#),
            b"",
            invalid,
            "But set 'data' 'binary_data_size'",
        ),
        (
            &input(r#","parameters":{"binary_data_size":8}"#),
            b"1234",
            invalid,
            "unexpected size for input 'IN', expecting 4 additional bytes for model 'm'",
        ),
        (enormous, b"1234", invalid, "additional bytes"),
        (
            &input(r#","data":[1,2]"#),
            b"1",
            invalid,
            "unexpected additional input data for model 'm'",
        ),
        (huge, b"", invalid, "total element count to exceed maximum size of 9223372036854775807"),
        (wide, b"", invalid, "byte size overflow for input 'IN'"),
        (beyond, b"", invalid, "shape [1,-1] contains one or more invalid dimensions"),
        (large, b"", invalid, "JSON input 'IN' has a byte_size (4000000 bytes) that exceeds"),
        (unknown, b"", invalid, "invalid datatype for input IN"),
        (
            binary_unknown,
            b"1",
            invalid,
            "[request id: 7] inference input 'IN' data-type is '<invalid>', but model 'm' expects 'FP32'",
        ),
        (
            half,
            b"",
            invalid,
            "receiving FP16 data via JSON is not supported. Please use the binary data format for input IN",
        ),
        (deep, b"", invalid, "JSON nesting depth exceeds maximum allowed limit (100)"),
    ]);
}

#[test]
fn outputs_in_shared_memory_and_as_classes() {
    let output = |parameters| format!(r#"{{"inputs":[],"outputs":[{{"name":"X",{parameters}}}]}}"#);
    let range =
        r#""shared_memory_region":"r","shared_memory_offset":4,"shared_memory_byte_size":8"#;
    let parameters = format!(r#""parameters":{{{range}}}"#);
    let request = parse(&input(&format!(",{parameters}")), b"").unwrap();
    let range = RegionRange { region: "r".into(), offset: 4, byte_size: 8 };
    assert_eq!(request.region_inputs, [(0, range.clone())]);
    let request = parse(&output(&*parameters), b"").unwrap();
    assert_eq!(request.format.form("X"), OutputForm::Region(range.clone()));
    assert_eq!(request.format.regions().collect::<Vec<_>>(), [("X", &range)]);
    let request = parse(&output(r#""parameters":{"classification":3}"#), b"").unwrap();
    assert_eq!((request.format.classes("X"), request.format.classes("Y")), (3, 0));
    check(&[
        (
            &output(r#""parameters":{"shared_memory_region":"r","classification":3}"#),
            b"",
            Code::InvalidArg,
            "Output can't set both 'shared_memory_region' and 'classification'",
        ),
        (
            &output(r#""parameters":{"shared_memory_region":7}"#),
            b"",
            Code::Internal,
            "Unable to parse 'shared_memory_region': attempt to access JSON non-string as string",
        ),
    ]);
}

#[test]
fn a_request_has_a_bounded_number_of_tensors() {
    let list = |count, member: &str| {
        let one = |i| format!(r#"{{"name":"{i}","datatype":"INT8","shape":[0],{member}}}"#);
        (0..count).map(one).collect::<Vec<_>>().join(",")
    };
    let json = |inputs, outputs| {
        let (inputs, outputs) = (list(inputs, r#""data":[]"#), list(outputs, r#""x":0"#));
        format!(r#"{{"inputs":[{inputs}],"outputs":[{outputs}]}}"#)
    };
    assert_eq!(parse(&json(4096, 4096), b"").unwrap().requested_outputs.len(), 4096);
    let refusal = |json: &str| parse(json, b"").unwrap_err().message().to_owned();
    assert_eq!(refusal(&json(0, 4097)), "a request may have at most 4096 outputs");
    assert_eq!(refusal(&json(4097, 0)), "a request may have at most 4096 inputs");
}

#[test]
fn the_header_must_be_all_there_and_not_too_long() {
    let body = Bytes::from_static(b"{}");
    let error = parse_infer_request(&config(), &body, 10, 1 << 20).unwrap_err();
    assert!(error.message().contains("expecting 8 more bytes"), "{error}");
    let error = parse_infer_request(&config(), &body, 10, 5).unwrap_err();
    assert!(error.message().contains("--http-max-input-size"), "{error}");
}
