//! A response becomes a message.

use bytes::Bytes;
use nereid_frontend::Delivery;
use nereid_inference::{Error, Response, Result};
use prost::Message;

use crate::parameters::to_message;
use crate::proto::ModelInferResponse;
use crate::proto::model_infer_response::InferOutputTensor;
use crate::status::MAX_MESSAGE;

/// The ninth and last stop of a request.
pub(crate) fn encode(
    id: String,
    response: Response,
    delivery: &Delivery,
) -> Result<ModelInferResponse> {
    let response = delivery.deliver(response)?;
    let mut message = ModelInferResponse {
        model_name: response.model,
        model_version: response.version.to_string(),
        id,
        parameters: response
            .parameters
            .into_iter()
            .map(|(key, value)| (key, to_message(value)))
            .collect(),
        outputs: Vec::with_capacity(response.outputs.len()),
        raw_output_contents: Vec::with_capacity(response.outputs.len()),
    };
    for output in response.outputs {
        // What lies in shared memory is not sent, but has a place among the contents.
        message.raw_output_contents.push(match delivery.places(&output.name) {
            true => Bytes::new(),
            false => output.data.contiguous(),
        });
        message.outputs.push(InferOutputTensor {
            name: output.name,
            datatype: output.datatype.name().to_owned(),
            shape: output.shape,
            ..InferOutputTensor::default()
        });
    }
    let size = message.encoded_len();
    if size > MAX_MESSAGE {
        return Err(Error::invalid_arg(format!(
            "Response has byte size {size} which exceeds gRPC's byte size limit {MAX_MESSAGE}."
        )));
    }
    Ok(message)
}
