//! A request message becomes a request.

use std::collections::HashSet;

use bytes::Bytes;
use nereid_inference::{Buffer, DataType, Error, Result, Tensor};
use nereid_model_config::ModelConfig;
use nereid_protocol::{InferRequest, not_yet, unknown_datatype};

use crate::contents::read_contents;
use crate::parameters::{names_region, read_parameters, wants_classes};
use crate::proto::ModelInferRequest;
use crate::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};

/// What a message says.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) request: InferRequest,
    /// The end of a decoupled model's responses is to be announced in any case.
    pub(crate) empty_final: bool,
}

/// Reads a request to the model of `config`. Raw contents stay where they are. The checks come in
/// Triton's order, since a request may fail several.
pub(crate) fn decode(config: &ModelConfig, message: ModelInferRequest) -> Result<Decoded> {
    let mut request = InferRequest { id: message.id, ..InferRequest::default() };
    let empty_final = read_parameters(message.parameters, &mut request)?;
    let raw = message.raw_input_contents;
    let mut inputs =
        Inputs { model: &message.model_name, any_raw: !raw.is_empty(), raw: raw.into_iter() };
    let mut unknown = None;
    for input in message.inputs {
        let datatype = DataType::from_name(&input.datatype);
        let data = inputs.data(&input, datatype)?;
        let InferInputTensor { name, shape, .. } = input;
        if datatype.is_none() {
            unknown.get_or_insert_with(|| name.clone());
        }
        let datatype = datatype.unwrap_or(DataType::Uint8);
        request.inputs.push(Tensor { name, datatype, shape, data: Buffer::One(data) });
    }
    request.requested_outputs = read_outputs(message.outputs)?;
    match unknown {
        Some(name) => Err(unknown_datatype(config, &request.id, &name)),
        None => Ok(Decoded { request, empty_final }),
    }
}

/// Finds the data of one input after another.
struct Inputs<'a> {
    model: &'a str,
    /// The request has raw contents, whether or not any are left.
    any_raw: bool,
    raw: std::vec::IntoIter<Bytes>,
}

impl Inputs<'_> {
    fn data(&mut self, input: &InferInputTensor, datatype: Option<DataType>) -> Result<Bytes> {
        let (name, model) = (&input.name, self.model);
        if names_region(&input.parameters, name)? {
            return Err(match input.contents {
                Some(_) => Error::invalid_arg(format!(
                    "unexpected 'content' provided when using shared memory for input tensor \
                     '{name}' for model '{model}'"
                )),
                None => not_yet("shared_memory_region"),
            });
        }
        match &input.contents {
            Some(_) if self.any_raw => Err(Error::invalid_arg(format!(
                "contents field must not be specified when using raw_input_contents for '{name}' \
                 for model '{model}'"
            ))),
            Some(contents) => read_contents(contents, datatype, name, model).map(Bytes::from),
            None => self.raw.next().ok_or_else(|| {
                Error::invalid_arg(format!(
                    "unable to find data for input tensor '{name}' for model '{model}' in request."
                ))
            }),
        }
    }
}

/// Names of the outputs that were asked for, without repetitions.
fn read_outputs(outputs: Vec<InferRequestedOutputTensor>) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut names = Vec::with_capacity(outputs.len());
    for InferRequestedOutputTensor { name, parameters } in outputs {
        match (names_region(&parameters, &name)?, wants_classes(&parameters)?) {
            (true, true) => {
                return Err(Error::invalid_arg(
                    "output can't set both 'shared_memory_region' and 'classification'",
                ));
            }
            (true, false) => return Err(not_yet("shared_memory_region")),
            (false, true) => return Err(not_yet("classification")),
            (false, false) => {}
        }
        if seen.insert(name.clone()) {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
