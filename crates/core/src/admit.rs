//! Checks a request against the configuration of its model, in Triton's order and words.

use std::collections::HashSet;

use nereid_inference::{
    BytesElements, CorrelationId, DataType, Error, Request, Result, Tensor, Truncated,
    display_shape, element_count, log_prefix,
};
use nereid_model_config::ModelConfig;
use nereid_model_config::proto::model_sequence_batching::control::Kind;

const BATCH_NOTE: &str = "NOTE: Setting a non-zero max_batch_size in the model config requires a \
    batch dimension to be prepended to each input shape. If you want to specify the full shape \
    including the batch dim in your input dims config, try setting max_batch_size to zero. See \
    the model configuration docs for more info on max_batch_size.";

/// What a model takes and gives: the part of its configuration that requests are held against.
pub(crate) struct Signature {
    inputs: Vec<InputSpec>,
    outputs: Vec<String>,
    max_batch_size: i64,
    /// The control input that tells the model which sequence it runs.
    correlation: Option<(String, DataType)>,
}

struct InputSpec {
    name: String,
    datatype: DataType,
    /// Including the batch dimension, as -1, where the model batches.
    dims: Vec<i64>,
    optional: bool,
    ragged: bool,
}

impl Signature {
    pub(crate) fn new(config: &ModelConfig) -> Result<Self> {
        let inputs = config
            .input
            .iter()
            .map(|input| {
                let datatype = input.datatype().ok_or_else(|| {
                    Error::invalid_arg(format!("input '{}' has no data type", input.name))
                })?;
                let dims = config.full_dims(&input.dims);
                Ok(InputSpec {
                    name: input.name.clone(),
                    datatype,
                    dims,
                    optional: input.optional,
                    ragged: input.allow_ragged_batch,
                })
            })
            .collect::<Result<_>>()?;
        let outputs = config.output.iter().map(|output| output.name.clone()).collect();
        let max_batch_size = i64::from(config.max_batch_size);
        Ok(Self { inputs, outputs, max_batch_size, correlation: correlation_input(config) })
    }

    /// Whether a request wants every output there is, whether it names them or not.
    pub(crate) fn wants_all_outputs(&self, request: &Request) -> bool {
        self.outputs.iter().all(|output| request.wants(output))
    }

    /// Fourth stop of a request. Sets its batch size.
    pub(crate) fn admit(&self, model: &str, request: &mut Request) -> Result<()> {
        self.check_outputs(model, request)?;
        self.check_input_names(model, request)?;
        request.batch_size = self.batch_size(model, request)?;
        for spec in &self.inputs {
            if let Some(input) = request.input(&spec.name) {
                check_input(model, spec, input, self.max_batch_size > 0)
                    .map_err(|message| refusal(request, &message))?;
            }
        }
        self.check_correlation(model, request)
    }

    /// A model whose sequences have numbers cannot be told a name, and the other way round.
    fn check_correlation(&self, model: &str, request: &Request) -> Result<()> {
        let Some((name, expected)) = &self.correlation else { return Ok(()) };
        let got = match request.correlation {
            CorrelationId::None => return Ok(()),
            CorrelationId::Number(_) => DataType::Uint64,
            CorrelationId::Text(_) => DataType::Bytes,
        };
        if (got == DataType::Bytes) == (*expected == DataType::Bytes) {
            return Ok(());
        }
        let message = format!(
            "sequence batching control '{name}' data-type is '{got}', but model '{model}' expects \
             '{expected}'"
        );
        Err(refusal(request, &message))
    }

    fn check_outputs(&self, model: &str, request: &Request) -> Result<()> {
        let unknown = request.requested_outputs.iter().find(|name| !self.outputs.contains(name));
        match unknown {
            Some(name) => Err(Error::invalid_arg(format!(
                "unexpected inference output '{name}' for model '{model}'"
            ))),
            None => Ok(()),
        }
    }

    fn check_input_names(&self, model: &str, request: &Request) -> Result<()> {
        // A set: a client may send a great many inputs before they are counted.
        let mut seen = HashSet::with_capacity(request.inputs.len());
        for input in &request.inputs {
            if !seen.insert(input.name.as_str()) {
                let message = format!("input '{}' already exists in request", input.name);
                return Err(refusal(request, &message));
            }
        }
        let required = self.inputs.iter().filter(|spec| !spec.optional).count();
        if !(required..=self.inputs.len()).contains(&request.inputs.len()) {
            return Err(self.wrong_count(model, request, required));
        }
        for input in &request.inputs {
            if !self.inputs.iter().any(|spec| spec.name == input.name) {
                return Err(Error::invalid_arg(format!(
                    "unexpected inference input '{}' for model '{model}'",
                    input.name
                )));
            }
        }
        match self.missing(request).as_slice() {
            [] => Ok(()),
            _ => Err(self.wrong_count(model, request, required)),
        }
    }

    fn missing<'a>(&'a self, request: &Request) -> Vec<&'a str> {
        self.inputs
            .iter()
            .filter(|spec| !spec.optional && request.input(&spec.name).is_none())
            .map(|spec| spec.name.as_str())
            .collect()
    }

    fn wrong_count(&self, model: &str, request: &Request, required: usize) -> Error {
        let total = self.inputs.len();
        let expected = if required == total {
            format!("expected {total} inputs")
        } else {
            format!("expected number of inputs between {required} and {total}")
        };
        let got: Vec<&str> = request.inputs.iter().map(|input| input.name.as_str()).collect();
        let message = format!(
            "{expected} but got {} inputs for model '{model}'. Got input(s) {}, but missing \
             required input(s) {}. Please provide all required input(s).",
            got.len(),
            quoted(&got),
            quoted(&self.missing(request)),
        );
        refusal(request, &message)
    }

    /// The first dimension, which all inputs of a batching model share.
    fn batch_size(&self, model: &str, request: &Request) -> Result<usize> {
        if self.max_batch_size == 0 {
            return Ok(1);
        }
        let mut batch_size = None;
        for input in &request.inputs {
            let Some(&dim) = input.shape.first() else {
                return Err(refusal(
                    request,
                    &format!(
                        "input '{}' has no shape but model requires batch dimension for '{model}'",
                        input.name
                    ),
                ));
            };
            if *batch_size.get_or_insert(dim) != dim {
                return Err(refusal(
                    request,
                    &format!(
                        "input '{}' batch size does not match other inputs for '{model}'",
                        input.name
                    ),
                ));
            }
        }
        let batch_size = batch_size.unwrap_or(1);
        if batch_size > self.max_batch_size {
            return Err(refusal(
                request,
                &format!(
                    "inference request batch-size must be <= {} for '{model}'",
                    self.max_batch_size
                ),
            ));
        }
        Ok(usize::try_from(batch_size).unwrap_or(0))
    }
}

fn correlation_input(config: &ModelConfig) -> Option<(String, DataType)> {
    config.sequence_batching()?.control_input.iter().find_map(|input| {
        let mut controls = input.control.iter();
        let control = controls.find(|control| control.kind() == Kind::ControlSequenceCorrid)?;
        Some((input.name.clone(), control.datatype()?))
    })
}

fn check_input(model: &str, spec: &InputSpec, input: &Tensor, batches: bool) -> Result<(), String> {
    let InputSpec { name, datatype, dims, .. } = spec;
    if input.datatype != *datatype {
        return Err(format!(
            "inference input '{name}' data-type is '{}', but model '{model}' expects '{datatype}'",
            input.datatype
        ));
    }
    if input.shape.contains(&-1) {
        return Err(format!(
            "All input dimensions should be specified for input '{name}' for model '{model}', got \
             {}",
            display_shape(&input.shape)
        ));
    }
    let fits = input.shape.len() == dims.len()
        && dims.iter().zip(&input.shape).all(|(&dim, &got)| got >= 0 && (dim == -1 || dim == got));
    if !fits && !spec.ragged {
        return Err(format!(
            "unexpected shape for input '{name}' for model '{model}'. Expected {}, got {}. {}",
            display_shape(dims),
            display_shape(&input.shape),
            if batches { BATCH_NOTE } else { "" }
        ));
    }
    check_data(model, name, input)
}

fn check_data(model: &str, name: &str, input: &Tensor) -> Result<(), String> {
    let Some(elements) = element_count(&input.shape) else {
        return Err(format!(
            "invalid shape for input '{name}': shape {} causes total element count to exceed \
             maximum size of {}",
            display_shape(&input.shape),
            i64::MAX
        ));
    };
    let got = input.data.len();
    let Some(element_size) = input.datatype.byte_size() else {
        return check_strings(model, name, &input.data.contiguous(), elements);
    };
    match elements.checked_mul(element_size) {
        Some(expected) if expected == got => Ok(()),
        Some(expected) => Err(format!(
            "input byte size mismatch for input '{name}' for model '{model}'. Expected \
             {expected}, got {got}"
        )),
        None => Err(format!(
            "byte size overflow for input '{name}': element count ({elements}) * data type size \
             ({element_size}) exceeds maximum allowed size ({})",
            i64::MAX
        )),
    }
}

fn check_strings(model: &str, name: &str, data: &[u8], expected: usize) -> Result<(), String> {
    let mut count = 0;
    for element in BytesElements::new(data) {
        match element {
            Ok(_) => count += 1,
            Err(Truncated::Length(left)) => {
                return Err(format!(
                    "incomplete string length indicator for inference input '{name}' for model \
                     '{model}', expecting 4 bytes but only {left} bytes available. Please make \
                     sure the string length indicator is in one buffer."
                ));
            }
            // As Triton, which counts an element that is cut short as missing.
            Err(Truncated::Element { .. }) => break,
        }
        if count > expected {
            return Err(format!(
                "unexpected number of string elements {count} for inference input '{name}' for \
                 model '{model}', expecting {expected}"
            ));
        }
    }
    if count == expected {
        return Ok(());
    }
    Err(format!(
        "expected {expected} string elements for inference input '{name}' for model '{model}', got \
         {count}"
    ))
}

fn refusal(request: &Request, message: &str) -> Error {
    Error::invalid_arg(format!("{}{message}", log_prefix(&request.id)))
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", names.join(","))
}
