//! Reads the control inputs of a request, under the names that the configuration gave them.

use nereid_inference::{BytesElements, DataType, Request, Result, Tensor};
use nereid_model_config::ModelConfig;
use nereid_model_config::proto::model_sequence_batching::control::Kind;

use crate::total::Total;

/// The names of the control inputs; those that a model does not have are empty.
pub(crate) struct Controls {
    start: String,
    end: String,
    ready: String,
    correlation: String,
}

impl Controls {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let inputs = config.sequence_batching().map_or(&[][..], |batching| &batching.control_input);
        let name = |kind: Kind| {
            let mut having =
                inputs.iter().filter(|input| input.control.iter().any(|c| c.kind() == kind));
            having.next().map_or_else(String::new, |input| input.name.clone())
        };
        Self {
            start: name(Kind::ControlSequenceStart),
            end: name(Kind::ControlSequenceEnd),
            ready: name(Kind::ControlSequenceReady),
            correlation: name(Kind::ControlSequenceCorrid),
        }
    }

    pub(crate) fn starts(&self, request: &Request) -> Result<bool> {
        is_set(request, &self.start, false)
    }

    pub(crate) fn ends(&self, request: &Request) -> Result<bool> {
        is_set(request, &self.end, false)
    }

    /// Whether the row has a request in it at all.
    pub(crate) fn is_ready(&self, request: &Request) -> Result<bool> {
        is_set(request, &self.ready, true)
    }

    /// The correlation ID as the model was told it, text or the digits of a number.
    pub(crate) fn correlation(&self, request: &Request) -> Result<String> {
        let Some(tensor) = request.input(&self.correlation) else { return Ok(String::new()) };
        Ok(match tensor.datatype {
            DataType::Bytes => first_text(tensor),
            DataType::Uint64 => (Total::of(tensor)?.whole() as u64).to_string(),
            _ => Total::of(tensor)?.whole().to_string(),
        })
    }
}

fn is_set(request: &Request, name: &str, otherwise: bool) -> Result<bool> {
    match request.input(name) {
        Some(tensor) => Ok(!Total::of(tensor)?.is_zero()),
        None => Ok(otherwise),
    }
}

fn first_text(tensor: &Tensor) -> String {
    let data = tensor.data.contiguous();
    let first = BytesElements::new(&data).next().and_then(|element| element.ok());
    first.map_or_else(String::new, |text| String::from_utf8_lossy(text).into_owned())
}
