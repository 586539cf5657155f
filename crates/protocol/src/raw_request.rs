//! Requests whose whole body is the data of a model's only input.

use bytes::{BufMut, Bytes, BytesMut};
use nereid_inference::{Buffer, DataType, Error, Result, Tensor};
use nereid_model_config::ModelConfig;

use crate::infer_request::{InferRequest, OutputFormat};

/// Makes a request of a body without JSON. The one dimension that the model leaves open follows
/// from the body's length; all outputs are sent in binary.
pub fn raw_infer_request(config: &ModelConfig, body: Bytes) -> Result<InferRequest> {
    let refuse = |message: String| {
        Err(Error::invalid_arg(format!("[request id: <id_unknown>] {message}")))
    };
    let [input] = config.input.as_slice() else {
        let count = config.input.len();
        return refuse(format!(
            "Raw request must only have 1 input (found 1) to be deduced but got {count} inputs in \
             '{}' model configuration",
            config.name
        ));
    };
    let datatype = input.datatype().unwrap_or(DataType::Uint8);
    let batch = (config.max_batch_size > 0).then_some(1);
    let mut shape: Vec<i64> = batch.into_iter().chain(input.dims.iter().copied()).collect();
    let data = match datatype.byte_size() {
        None if shape.iter().all(|&dim| dim == 1 || dim == -1) => {
            shape.fill(1);
            string_element(&body)
        }
        None => {
            return refuse(format!(
                "For BYTE datatype raw input '{}', the model must have input shape [1]",
                input.name
            ));
        }
        Some(element_size) => {
            if shape.iter().filter(|&&dim| dim == -1).count() > 1 {
                return refuse(format!(
                    "The shape of the raw input '{}' can not be deduced because there are more \
                     than one variable-sized dimension",
                    input.name
                ));
            }
            let fixed: i64 = shape.iter().filter(|&&dim| dim != -1).product();
            let row = fixed.max(1) as usize * element_size;
            let open = (body.len() / row) as i64;
            shape.iter_mut().filter(|dim| **dim == -1).for_each(|dim| *dim = open);
            body
        }
    };
    let tensor = Tensor { name: input.name.clone(), datatype, shape, data: Buffer::One(data) };
    Ok(InferRequest {
        inputs: vec![tensor],
        format: OutputFormat::all_binary(),
        ..InferRequest::default()
    })
}

/// The body as the only element of a tensor of strings.
fn string_element(body: &[u8]) -> Bytes {
    let mut element = BytesMut::with_capacity(4 + body.len());
    element.put_u32_le(u32::try_from(body.len()).unwrap_or(u32::MAX));
    element.put_slice(body);
    element.freeze()
}
