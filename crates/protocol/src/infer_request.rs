//! The JSON part of an inference request, with the binary tensors behind it.

use bytes::Bytes;
use nereid_inference::{
    Buffer, CorrelationId, DataType, Error, Parameter, Parameters, RegionRange, Request, Responder,
    Response, Result, SEQUENCE_END, SEQUENCE_START, Tensor, display_shape, element_count,
    log_prefix,
};
use nereid_model_config::ModelConfig;

use crate::json::{Member, NOT_STRING, Value, decode_data, parse, unable};
use crate::parameters::{ParameterKey, correlation_text};

/// What an inference request says, before it is known whether its model can take it.
#[derive(Debug, Default)]
pub struct InferRequest {
    pub id: String,
    pub correlation: CorrelationId,
    pub flags: u32,
    pub priority: u64,
    pub timeout_us: u64,
    pub parameters: Parameters,
    pub inputs: Vec<Tensor>,
    /// Inputs that lie in shared memory, by their position: their bytes are still to be found.
    pub region_inputs: Vec<(usize, RegionRange)>,
    /// Outputs that were asked for by name, without repetitions.
    pub requested_outputs: Vec<String>,
    pub format: OutputFormat,
}

impl InferRequest {
    /// The request itself, on its way to a model.
    pub fn into_request(
        self,
        model: impl Into<String>,
        version: Option<i64>,
        responder: Responder,
    ) -> Request {
        Request {
            id: self.id,
            correlation: self.correlation,
            flags: self.flags,
            priority: self.priority,
            timeout_us: self.timeout_us,
            parameters: self.parameters,
            inputs: self.inputs,
            requested_outputs: self.requested_outputs,
            ..Request::new(model, version, responder)
        }
    }

    /// Asks for an output by name. What an output was asked for first counts.
    pub fn list_output(&mut self, output: ListedOutput) -> Result<()> {
        if self.requested_outputs.contains(&output.name) {
            return Ok(());
        }
        check_tensors("outputs", self.requested_outputs.len())?;
        self.requested_outputs.push(output.name.clone());
        self.format.listed.push(output);
        Ok(())
    }

    /// Takes an input in; where in shared memory it is, if it is there.
    pub fn add_input(&mut self, tensor: Tensor, range: Option<RegionRange>) -> Result<()> {
        check_tensors("inputs", self.inputs.len())?;
        self.region_inputs.extend(range.map(|range| (self.inputs.len(), range)));
        self.inputs.push(tensor);
        Ok(())
    }

    /// Raises one of the flags of a sequence, if it is `set`.
    pub fn flag(&mut self, flag: u32, set: bool) {
        if set {
            self.flags |= flag;
        }
    }
}

/// Inputs, or outputs, of one request: more than any model has.
const MAX_TENSORS: usize = 4096;

fn check_tensors(what: &str, count: usize) -> Result<()> {
    if count < MAX_TENSORS {
        return Ok(());
    }
    Err(Error::invalid_arg(format!("a request may have at most {MAX_TENSORS} {what}")))
}

/// How outputs are sent.
#[derive(Debug, Default)]
pub struct OutputFormat {
    /// Where an output is not listed with a wish of its own.
    binary_by_default: bool,
    listed: Vec<ListedOutput>,
}

/// An output that is asked for by name, and how it is wanted.
#[derive(Debug)]
pub struct ListedOutput {
    pub name: String,
    pub form: OutputForm,
    /// How many of its largest elements are wanted instead of it; 0: the output itself.
    pub classes: usize,
}

/// How an output is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputForm {
    Json,
    Binary,
    /// In the client's shared memory.
    Region(RegionRange),
}

impl OutputFormat {
    /// Everything in binary: the answer to a raw request.
    pub fn all_binary() -> Self {
        Self { binary_by_default: true, listed: Vec::new() }
    }

    /// A listed output is JSON unless it was asked for otherwise; the default is for the others.
    pub fn form(&self, output: &str) -> OutputForm {
        match self.listed.iter().find(|listed| listed.name == output) {
            Some(listed) => listed.form.clone(),
            None if self.binary_by_default => OutputForm::Binary,
            None => OutputForm::Json,
        }
    }

    /// How many of its largest elements are wanted instead of an output; 0: the output itself.
    pub fn classes(&self, output: &str) -> usize {
        self.listed.iter().find(|listed| listed.name == output).map_or(0, |listed| listed.classes)
    }

    /// Whether classes are wanted instead of any output.
    pub fn wants_classes(&self) -> bool {
        self.listed.iter().any(|listed| listed.classes > 0)
    }

    /// How many bytes of a response are to become JSON.
    pub fn json_bytes(&self, response: &Response) -> usize {
        let json = response.outputs.iter().filter(|out| self.form(&out.name) == OutputForm::Json);
        json.map(|output| output.data.len()).sum()
    }

    /// Outputs that go to shared memory.
    pub fn regions(&self) -> impl Iterator<Item = (&str, &RegionRange)> {
        self.listed.iter().filter_map(|listed| match &listed.form {
            OutputForm::Region(range) => Some((listed.name.as_str(), range)),
            _ => None,
        })
    }
}

/// Parses `body`, a request to the model of `config`: the first `header_len` bytes are JSON, the
/// rest are binary tensors.
///
/// Binary tensors are slices of `body`. `max_input_size` bounds what JSON makes up: the text and
/// each tensor in it. The checks come in Triton's order, since a request may fail several.
pub fn parse_infer_request(
    config: &ModelConfig,
    body: &Bytes,
    header_len: usize,
    max_input_size: usize,
) -> Result<InferRequest> {
    check_text_size(header_len, max_input_size)?;
    let text = body.get(..header_len).ok_or_else(|| {
        let missing = header_len - body.len();
        Error::invalid_arg(format!(
            "unexpected size for request JSON, expecting {missing} more bytes"
        ))
    })?;
    let document = parse(text)?;
    let mut request = InferRequest::default();
    if let Some(id) = document.get("id") {
        request.id = id.as_string("id")?;
    }
    if let Some(parameters) = document.get("parameters") {
        let members = parameters.members().ok_or_else(|| {
            Error::internal("failed to get request params.: attempt to get members for non-object")
        })?;
        read_parameters(members, &mut request)?;
    }
    let model = config.name.as_str();
    let tail = body.slice(header_len..);
    let mut inputs = Inputs { model, text, tail, max_input_size, unknown_type: None };
    for input in document.member("inputs")?.as_array("inputs")? {
        let (tensor, range) = inputs.read(input)?;
        request.add_input(tensor, range)?;
    }
    if !inputs.tail.is_empty() {
        return Err(Error::invalid_arg(format!(
            "unexpected additional input data for model '{model}'"
        )));
    }
    if let Some(outputs) = document.get("outputs") {
        for output in outputs.as_array("outputs")? {
            request.list_output(read_output(output)?)?;
        }
    }
    match inputs.unknown_type {
        Some(name) => Err(unknown_datatype(config, &request.id, &name)),
        None => Ok(request),
    }
}

/// Bounds the JSON part of a request.
pub(crate) fn check_text_size(len: usize, max_input_size: usize) -> Result<()> {
    if len <= max_input_size {
        return Ok(());
    }
    Err(Error::invalid_arg(format!(
        "request JSON size of {len} bytes exceeds the maximum allowed input size of \
         {max_input_size} bytes. Use --http-max-input-size to increase the limit."
    )))
}

/// Why the input `name` is refused whose datatype is none: Triton only notices when it compares the
/// datatype with the model's.
pub fn unknown_datatype(config: &ModelConfig, id: &str, name: &str) -> Error {
    let model = &config.name;
    let expected = config.input.iter().find(|input| input.name == name);
    Error::invalid_arg(match expected.and_then(|input| input.datatype()) {
        Some(expected) => format!(
            "{}inference input '{name}' data-type is '<invalid>', but model '{model}' expects \
             '{expected}'",
            log_prefix(id)
        ),
        None => format!("unexpected inference input '{name}' for model '{model}'"),
    })
}

fn read_parameters(parameters: &[Member], request: &mut InferRequest) -> Result<()> {
    for (key, value) in parameters {
        match ParameterKey::of(key) {
            ParameterKey::SequenceId => {
                request.correlation = match value {
                    Value::String(_) => correlation_text(value.as_string(key)?)?,
                    Value::Uint(id) => (*id).into(),
                    // Triton tries the string last, so that is what its message is about.
                    _ => return Err(unable(key, NOT_STRING)),
                }
            }
            ParameterKey::SequenceStart => request.flag(SEQUENCE_START, value.as_bool(key)?),
            ParameterKey::SequenceEnd => request.flag(SEQUENCE_END, value.as_bool(key)?),
            ParameterKey::Priority => request.priority = value.as_uint(key)?,
            ParameterKey::Timeout => request.timeout_us = value.as_uint(key)?,
            ParameterKey::Reserved => {
                return Err(Error::invalid_arg(
                    "parameter keys starting with 'triton_' are reserved for Triton usage and \
                     should not be specified.",
                ));
            }
            ParameterKey::Custom if key == "binary_data_output" => {
                request.format.binary_by_default = value.as_bool(key)?;
            }
            ParameterKey::Custom => {
                request.parameters.push((key.to_string(), custom_parameter(key, value)?));
            }
        }
    }
    Ok(())
}

pub(crate) fn custom_parameter(key: &str, value: &Value) -> Result<Parameter> {
    match value {
        Value::Bool(value) => Ok(Parameter::Bool(*value)),
        Value::Int(value) => Ok(Parameter::Int(*value)),
        Value::Uint(value) if i64::try_from(*value).is_ok() => Ok(Parameter::Int(*value as i64)),
        Value::Uint(value) => Ok(Parameter::Double(*value as f64)),
        Value::Double(value) => Ok(Parameter::Double(*value)),
        Value::String(_) => value.as_string(key).map(Parameter::String),
        _ => Err(Error::invalid_arg(format!(
            "parameter '{key}' has invalid type. It should be either 'int', 'bool', or 'string'."
        ))),
    }
}

/// Reads the inputs one after another, taking their binary data off the tail.
struct Inputs<'a> {
    model: &'a str,
    text: &'a [u8],
    tail: Bytes,
    max_input_size: usize,
    /// The first input whose datatype is none. It does not matter if the request fails otherwise.
    unknown_type: Option<String>,
}

/// Where the elements of an input are.
enum Source<'a> {
    Json(&'a Value<'a>),
    Tail(&'a Value<'a>),
    Region(RegionRange),
}

impl Inputs<'_> {
    /// An input, and where in shared memory it is, if it is there.
    fn read(&mut self, input: &Value) -> Result<(Tensor, Option<RegionRange>)> {
        let source = source(input)?;
        let name = input.member("name")?.as_string("name")?;
        let datatype = input.member("datatype")?.as_str("datatype")?;
        let datatype = DataType::from_name(&datatype);
        let shape = read_shape(&name, input.member("shape")?.as_array("shape")?)?;
        let mut range = None;
        let data = match source {
            Source::Region(found) => {
                range = Some(found);
                Bytes::new()
            }
            Source::Tail(size) => self.binary(&name, size.as_uint("binary_data_size")?)?,
            Source::Json(data) => {
                let datatype = datatype.ok_or_else(|| {
                    Error::invalid_arg(format!("invalid datatype for input {name}"))
                })?;
                self.json(&name, data, datatype, &shape)?
            }
        };
        let datatype = datatype.unwrap_or_else(|| {
            self.unknown_type.get_or_insert_with(|| name.clone());
            DataType::Uint8
        });
        Ok((Tensor { name, datatype, shape, data: Buffer::One(data) }, range))
    }

    fn binary(&mut self, name: &str, size: u64) -> Result<Bytes> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > self.tail.len() {
            return Err(Error::invalid_arg(format!(
                "unexpected size for input '{name}', expecting {} additional bytes for model '{}'",
                size - self.tail.len(),
                self.model
            )));
        }
        Ok(self.tail.split_to(size))
    }

    fn json(&self, name: &str, data: &Value, datatype: DataType, shape: &[i64]) -> Result<Bytes> {
        let elements = check_input_size(name, datatype, shape, self.max_input_size)?;
        let Value::Data(span) = data else {
            return Err(unable("data", "attempt to access JSON non-array as array"));
        };
        decode_data(self.text, span.start, datatype, elements).map(Bytes::from)
    }
}

/// Bounds a tensor that is made of JSON, and refuses those that cannot be; its number of elements.
pub(crate) fn check_input_size(
    name: &str,
    datatype: DataType,
    shape: &[i64],
    max_input_size: usize,
) -> Result<usize> {
    if matches!(datatype, DataType::Fp16 | DataType::Bf16) {
        return Err(Error::invalid_arg(format!(
            "receiving {datatype} data via JSON is not supported. Please use the binary data \
             format for input {name}"
        )));
    }
    let Some(elements) = element_count(shape) else {
        return Err(Error::invalid_arg(format!(
            "invalid shape for input '{name}': shape {} causes total element count to exceed \
             maximum size of {}",
            display_shape(shape),
            i64::MAX
        )));
    };
    let element_size = datatype.byte_size().unwrap_or(4);
    let Some(size) = elements.checked_mul(element_size).filter(|&s| s <= i64::MAX as usize) else {
        return Err(Error::invalid_arg(format!(
            "byte size overflow for input '{name}': element count ({elements}) * data type \
             size ({element_size}) exceeds maximum allowed size ({})",
            i64::MAX
        )));
    };
    if size > max_input_size {
        return Err(Error::invalid_arg(format!(
            "JSON input '{name}' has a byte_size ({size} bytes) that exceeds the maximum \
             allowed value of {} bytes. Use --http-max-input-size to increase the limit.",
            max_input_size
        )));
    }
    Ok(elements)
}

/// An input must say in exactly one way where its elements are; Triton checks this first.
fn source<'a>(input: &'a Value<'a>) -> Result<Source<'a>> {
    let data = input.get("data");
    let parameters = input.get("parameters");
    let parameter = |key| parameters.and_then(|parameters| parameters.get(key));
    let size = parameter("binary_data_size");
    let region = parameter("shared_memory_region");
    match (data, size, region) {
        (Some(data), None, None) => Ok(Source::Json(data)),
        (None, Some(size), None) => Ok(Source::Tail(size)),
        (None, None, Some(region)) => read_range(region, parameters).map(Source::Region),
        _ => Err(only_one_field(&[
            (data, "'data'"),
            (size, "'binary_data_size'"),
            (region, "'shared_memory_region'"),
        ])),
    }
}

fn only_one_field(fields: &[(Option<&Value>, &str)]) -> Error {
    let set: Vec<&str> =
        fields.iter().filter(|(value, _)| value.is_some()).map(|(_, name)| *name).collect();
    let what = if set.is_empty() {
        "But no field is set".to_owned()
    } else {
        format!("But set {}", set.join(" "))
    };
    Error::invalid_arg(format!(
        "Input must set only one of the following fields: 'data', 'binary_data_size' in \
         'parameters', 'shared_memory_region' in 'parameters'. {what}"
    ))
}

/// Where in shared memory a tensor is: `shared_memory_region` and the parameters beside it.
fn read_range(region: &Value, parameters: Option<&Value>) -> Result<RegionRange> {
    let number = |key: &str| {
        let value = parameters.and_then(|parameters| parameters.get(key));
        value.map_or(Ok(0), |value| value.as_uint(key))
    };
    Ok(RegionRange {
        region: region.as_string("shared_memory_region")?,
        offset: number("shared_memory_offset")?,
        byte_size: number("shared_memory_byte_size")?,
    })
}

fn read_shape(name: &str, dims: &[Value]) -> Result<Vec<i64>> {
    // What does not fit comes out negative, which no dimension may be.
    let shape: Vec<i64> =
        dims.iter().map(|dim| Ok(dim.as_uint("shape")? as i64)).collect::<Result<_>>()?;
    if shape.iter().any(|&dim| dim < 0) {
        return Err(Error::invalid_arg(format!(
            "invalid shape for input '{name}': shape {} contains one or more invalid dimensions",
            display_shape(&shape)
        )));
    }
    Ok(shape)
}

fn read_output(output: &Value) -> Result<ListedOutput> {
    let parameters = output.get("parameters");
    let parameter = |key| parameters.and_then(|parameters| parameters.get(key));
    let classes = match parameter("classification") {
        Some(count) => count
            .as_uint("classification")
            .map_err(|error| Error::internal(error.message().replacen("parse", "set", 1)))?,
        None => 0,
    };
    let binary = match parameter("binary_data") {
        Some(wish) => wish.as_bool("binary_data")?,
        None => false,
    };
    let form = match parameter("shared_memory_region") {
        Some(region) => {
            let clash = [(classes != 0, "classification"), (binary, "binary_data")];
            if let Some((_, other)) = clash.iter().find(|(set, _)| *set) {
                return Err(Error::invalid_arg(format!(
                    "Output can't set both 'shared_memory_region' and '{other}'"
                )));
            }
            OutputForm::Region(read_range(region, parameters)?)
        }
        None if binary => OutputForm::Binary,
        None => OutputForm::Json,
    };
    let name = output.member("name")?.as_string("name")?;
    Ok(ListedOutput { name, form, classes: usize::try_from(classes).unwrap_or(usize::MAX) })
}

#[cfg(test)]
#[path = "infer_request_tests.rs"]
mod tests;
