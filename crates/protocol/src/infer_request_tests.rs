//! Requests as clients write them, well and badly.

use bytes::Bytes;
use nereid_inference::{Code, CorrelationId, DataType, Error, Parameter};

use super::{InferRequest, parse_infer_request};

fn parse(json: &str, tail: &[u8]) -> Result<InferRequest, Error> {
    let body = Bytes::from([json.as_bytes(), tail].concat());
    parse_infer_request("m", &body, json.len(), 1 << 20)
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
    assert_eq!(["X", "Y", "Z"].map(|name| format.is_binary(name)), [false, true, true]);
}

#[test]
fn binary_tensors_are_slices_of_the_body() {
    let json = input(r#","parameters":{"binary_data_size":8}"#);
    let body = Bytes::from([json.as_bytes(), &[0; 8]].concat());
    let request = parse_infer_request("m", &body, json.len(), 1 << 20).unwrap();
    let tensor = request.inputs[0].data.contiguous();
    assert_eq!(tensor.as_ptr(), body[json.len()..].as_ptr());
}

#[test]
fn refusals() {
    let huge = r#"{"inputs":[{"name":"IN","shape":[9000000000000000000,9],"datatype":"FP32","data":[]}]}"#;
    let negative = r#"{"inputs":[{"name":"IN","shape":[-1],"datatype":"FP32","data":[]}]}"#;
    let unknown = r#"{"inputs":[{"name":"IN","shape":[1],"datatype":"FP33","data":[1]}]}"#;
    let half = r#"{"inputs":[{"name":"IN","shape":[1],"datatype":"FP16","data":[1]}]}"#;
    let cases: [(&str, &[u8], Code, &str); 14] = [
        ("{}", b"", Code::Internal, "non-existing object member 'inputs'"),
        (r#"{"inputs":3}"#, b"", Code::Internal, "Unable to parse 'inputs'"),
        (r#"{"id":3,"inputs":[]}"#, b"", Code::Internal, "Unable to parse 'id'"),
        (r#"{"inputs":[{}]}"#, b"", Code::Internal, "non-existing object member 'name'"),
        (&input(""), b"", Code::InvalidArg, "But no field is set"),
        (
            &input(r#","data":[1,2],"parameters":{"binary_data_size":8}"#),
            b"",
            Code::InvalidArg,
            "But set 'data' 'binary_data_size'",
        ),
        (
            &input(r#","parameters":{"binary_data_size":8}"#),
            b"1234",
            Code::InvalidArg,
            "expecting 4 additional bytes",
        ),
        (&input(r#","data":[1,2]"#), b"1", Code::InvalidArg, "unexpected additional input data"),
        (&input(r#","data":[1]"#), b"", Code::Internal, "does not match true shape"),
        (&input(r#","data":{}"#), b"", Code::Internal, "non-array as array"),
        (huge, b"", Code::InvalidArg, "total element count to exceed"),
        (negative, b"", Code::Internal, "non-unsigned-integer"),
        (unknown, b"", Code::InvalidArg, "invalid datatype for input IN"),
        (half, b"", Code::InvalidArg, "receiving FP16 data via JSON is not supported"),
    ];
    for (json, tail, code, message) in cases {
        let error = parse(json, tail).unwrap_err();
        assert!(error.code() == code && error.message().contains(message), "{json}: {error}");
    }
}

#[test]
fn the_header_must_be_all_there_and_not_too_long() {
    let body = Bytes::from_static(b"{}");
    let error = parse_infer_request("m", &body, 10, 1 << 20).unwrap_err();
    assert!(error.message().contains("expecting 8 more bytes"), "{error}");
    let error = parse_infer_request("m", &body, 10, 5).unwrap_err();
    assert!(error.message().contains("--http-max-input-size"), "{error}");
}
