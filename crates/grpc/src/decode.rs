//! A request message becomes a request.

use bytes::Bytes;
use nereid_inference::{Buffer, DataType, Error, RegionRange, Result, Tensor};
use nereid_model_config::ModelConfig;
use nereid_protocol::{InferRequest, ListedOutput, OutputForm, unknown_datatype};

use crate::contents::read_contents;
use crate::parameters::{read_classes, read_parameters, read_range};
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
        let Place { data, range } = inputs.place(&input, datatype)?;
        let InferInputTensor { name, shape, .. } = input;
        if datatype.is_none() {
            unknown.get_or_insert_with(|| name.clone());
        }
        let datatype = datatype.unwrap_or(DataType::Uint8);
        request.add_input(Tensor { name, datatype, shape, data: Buffer::One(data) }, range)?;
    }
    for output in message.outputs {
        request.list_output(read_output(output)?)?;
    }
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

/// Where the elements of an input are: here, or in shared memory.
struct Place {
    data: Bytes,
    range: Option<RegionRange>,
}

impl Inputs<'_> {
    fn place(&mut self, input: &InferInputTensor, datatype: Option<DataType>) -> Result<Place> {
        let (name, model) = (&input.name, self.model);
        if let Some(range) = read_range(&input.parameters, name)? {
            if input.contents.is_some() {
                return Err(Error::invalid_arg(format!(
                    "unexpected 'content' provided when using shared memory for input tensor \
                     '{name}' for model '{model}'"
                )));
            }
            return Ok(Place { data: Bytes::new(), range: Some(range) });
        }
        let data = match &input.contents {
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
        };
        Ok(Place { data: data?, range: None })
    }
}

fn read_output(output: InferRequestedOutputTensor) -> Result<ListedOutput> {
    let InferRequestedOutputTensor { name, parameters } = output;
    let range = read_range(&parameters, &name)?;
    let classes = read_classes(&parameters)?;
    let form = match range {
        Some(_) if classes > 0 => {
            return Err(Error::invalid_arg(
                "output can't set both 'shared_memory_region' and 'classification'",
            ));
        }
        Some(range) => OutputForm::Region(range),
        None => OutputForm::Binary,
    };
    Ok(ListedOutput { name, form, classes })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
