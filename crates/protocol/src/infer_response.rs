//! Responses to bytes: JSON, and behind it the tensors that go out in binary.

use bytes::Bytes;
use nereid_inference::{BytesElements, DataType, Error, Parameter, Response, Result, Tensor};

use crate::infer_request::{OutputForm, OutputFormat};
use crate::json::{push_double, push_string};

/// What goes on the wire.
#[derive(Debug)]
pub struct InferResponse {
    pub json: Vec<u8>,
    /// Binary tensors in order, not copied. Empty ones are left out.
    pub tail: Vec<Bytes>,
}

/// Writes the response to a request with the given `id`.
pub fn write_infer_response(
    id: &str,
    response: &Response,
    format: &OutputFormat,
) -> Result<InferResponse> {
    let mut json = Vec::with_capacity(256);
    json.push(b'{');
    if !id.is_empty() {
        json.extend_from_slice(b"\"id\":");
        push_string(&mut json, id.as_bytes());
        json.push(b',');
    }
    json.extend_from_slice(b"\"model_name\":");
    push_string(&mut json, response.model.as_bytes());
    json.extend_from_slice(b",\"model_version\":\"");
    push_display(&mut json, response.version);
    json.push(b'"');
    if !response.parameters.is_empty() {
        json.extend_from_slice(b",\"parameters\":{");
        separated(&mut json, &response.parameters, |json, (key, value)| {
            push_string(json, key.as_bytes());
            json.push(b':');
            push_parameter(json, value);
            Ok(())
        })?;
        json.push(b'}');
    }
    json.extend_from_slice(b",\"outputs\":[");
    let mut tail = Vec::new();
    separated(&mut json, &response.outputs, |json, output| {
        push_output(json, &mut tail, output, &format.form(&output.name))
    })?;
    json.extend_from_slice(b"]}");
    Ok(InferResponse { json, tail })
}

fn push_output(
    json: &mut Vec<u8>,
    tail: &mut Vec<Bytes>,
    output: &Tensor,
    form: &OutputForm,
) -> Result<()> {
    json.extend_from_slice(b"{\"name\":");
    push_string(json, output.name.as_bytes());
    json.extend_from_slice(b",\"datatype\":\"");
    json.extend_from_slice(output.datatype.name().as_bytes());
    json.extend_from_slice(b"\",\"shape\":[");
    separated(json, &output.shape, |json, dim| {
        push_display(json, dim);
        Ok(())
    })?;
    json.push(b']');
    match form {
        OutputForm::Json => {}
        OutputForm::Binary => {
            json.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
            push_display(json, output.data.len());
            json.extend_from_slice(b"}}");
            tail.extend(output.data.segments().iter().filter(|bytes| !bytes.is_empty()).cloned());
            return Ok(());
        }
        // The client knows where it is.
        OutputForm::Region(_) => {
            json.push(b'}');
            return Ok(());
        }
    }
    json.extend_from_slice(b",\"data\":[");
    push_data(json, output)?;
    json.extend_from_slice(b"]}");
    Ok(())
}

/// Appends the elements of a tensor, with commas between them.
pub(crate) fn push_data(json: &mut Vec<u8>, output: &Tensor) -> Result<()> {
    let data = output.data.contiguous();
    macro_rules! integers {
        ($type:ty) => {
            numbers(json, &data, |json, bytes| push_display(json, <$type>::from_le_bytes(bytes)))
        };
    }
    match output.datatype {
        DataType::Bool => numbers(json, &data, |json, [byte]: [u8; 1]| {
            json.extend_from_slice(if byte == 0 { b"false" } else { b"true" });
        }),
        DataType::Uint8 => integers!(u8),
        DataType::Uint16 => integers!(u16),
        DataType::Uint32 => integers!(u32),
        DataType::Uint64 => integers!(u64),
        DataType::Int8 => integers!(i8),
        DataType::Int16 => integers!(i16),
        DataType::Int32 => integers!(i32),
        DataType::Int64 => integers!(i64),
        // As Triton, which writes the double that the float is equal to.
        DataType::Fp32 => {
            numbers(json, &data, |json, bytes| push_double(json, f32::from_le_bytes(bytes).into()));
        }
        DataType::Fp64 => {
            numbers(json, &data, |json, bytes| push_double(json, f64::from_le_bytes(bytes)));
        }
        DataType::Bytes => {
            let elements = BytesElements::new(&data);
            return separated(json, elements, |json, element| {
                let element = element
                    .map_err(|_| Error::internal("the model's output has a truncated string"))?;
                push_string(json, element);
                Ok(())
            });
        }
        DataType::Fp16 | DataType::Bf16 => {
            return Err(Error::invalid_arg(format!(
                "sending {} data via JSON is not supported. Please use the binary data format for \
                 output",
                output.datatype
            )));
        }
    }
    Ok(())
}

fn numbers<const N: usize>(
    json: &mut Vec<u8>,
    data: &[u8],
    mut push: impl FnMut(&mut Vec<u8>, [u8; N]),
) {
    let (elements, _) = data.as_chunks::<N>();
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        push(json, *element);
    }
}

pub(crate) fn push_parameter(json: &mut Vec<u8>, value: &Parameter) {
    match value {
        Parameter::Bool(value) => push_display(json, value),
        Parameter::Int(value) => push_display(json, value),
        Parameter::Double(value) => push_double(json, *value),
        Parameter::String(value) => push_string(json, value.as_bytes()),
    }
}

fn push_display(json: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write as _;
    // Writing to memory does not fail.
    let _ = write!(json, "{value}");
}

fn separated<T>(
    json: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut Vec<u8>, T) -> Result<()>,
) -> Result<()> {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        push(json, item)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nereid_inference::Buffer;

    fn output(datatype: DataType, shape: &[i64], data: &[u8]) -> Tensor {
        let data = Buffer::from(data.to_vec());
        Tensor { name: "OUT".into(), datatype, shape: shape.to_vec(), data }
    }

    fn write(outputs: Vec<Tensor>, format: &OutputFormat) -> InferResponse {
        let response = Response { model: "m".into(), version: 3, ..Response::new(outputs) };
        write_infer_response("7", &response, format).unwrap()
    }

    #[test]
    fn json_in_tritons_order() {
        let floats: Vec<u8> = [2f32, 1.1].iter().flat_map(|v| v.to_le_bytes()).collect();
        let outputs = vec![
            output(DataType::Fp32, &[1, 2], &floats),
            output(DataType::Bytes, &[1], b"\x01\0\0\0x"),
            output(DataType::Bool, &[2], &[0, 1]),
            output(DataType::Int16, &[1], &[0xff, 0xff]),
        ];
        let written = write(outputs, &OutputFormat::default());
        assert_eq!(
            String::from_utf8(written.json).unwrap(),
            concat!(
                r#"{"id":"7","model_name":"m","model_version":"3","outputs":["#,
                r#"{"name":"OUT","datatype":"FP32","shape":[1,2],"data":[2.0,1.100000023841858]},"#,
                r#"{"name":"OUT","datatype":"BYTES","shape":[1],"data":["x"]},"#,
                r#"{"name":"OUT","datatype":"BOOL","shape":[2],"data":[false,true]},"#,
                r#"{"name":"OUT","datatype":"INT16","shape":[1],"data":[-1]}]}"#
            )
        );
    }

    #[test]
    fn binary_outputs_follow_the_json() {
        let outputs =
            vec![output(DataType::Fp16, &[1], &[1, 2]), output(DataType::Fp16, &[0], &[])];
        let written = write(outputs, &OutputFormat::all_binary());
        assert_eq!(written.tail, [Bytes::from_static(&[1, 2])]);
        let json = String::from_utf8(written.json).unwrap();
        assert!(json.contains(r#""parameters":{"binary_data_size":0}"#), "{json}");
    }
}
