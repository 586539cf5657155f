//! The JSON part of an inference request, with the binary tensors behind it.

use bytes::Bytes;
use nereid_inference::{
    Buffer, CorrelationId, DataType, Error, Parameter, Parameters, Result, SEQUENCE_END,
    SEQUENCE_START, Tensor, display_shape, element_count,
};

use crate::json::{Member, Value, decode_data, parse};

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
    /// Outputs that were asked for by name, without repetitions.
    pub requested_outputs: Vec<String>,
    pub format: OutputFormat,
}

/// Which outputs are sent in binary.
#[derive(Debug, Default)]
pub struct OutputFormat {
    /// Where an output is not listed with a wish of its own.
    binary_by_default: bool,
    listed: Vec<(String, bool)>,
}

impl OutputFormat {
    /// Everything in binary: the answer to a raw request.
    pub fn all_binary() -> Self {
        Self { binary_by_default: true, listed: Vec::new() }
    }

    /// A listed output is JSON unless it was asked for in binary; the default is for the others.
    pub fn is_binary(&self, output: &str) -> bool {
        let listed = self.listed.iter().find(|(name, _)| name == output);
        listed.map_or(self.binary_by_default, |(_, binary)| *binary)
    }
}

/// Parses `body`, whose first `header_len` bytes are JSON and whose rest are binary tensors.
///
/// Binary tensors are slices of `body`. `max_input_size` bounds what JSON makes up: the text and
/// each tensor in it. The checks come in Triton's order, since a request may fail several.
pub fn parse_infer_request(
    model: &str,
    body: &Bytes,
    header_len: usize,
    max_input_size: usize,
) -> Result<InferRequest> {
    if header_len > max_input_size {
        return Err(Error::invalid_arg(format!(
            "request JSON size of {header_len} bytes exceeds the maximum allowed input size of \
             {max_input_size} bytes. Use --http-max-input-size to increase the limit."
        )));
    }
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
        read_parameters(parameters.as_object("parameters")?, &mut request)?;
    }
    let mut inputs = Inputs { model, text, tail: body.slice(header_len..), max_input_size };
    for input in document.member("inputs")?.as_array("inputs")? {
        request.inputs.push(inputs.read(input)?);
    }
    if !inputs.tail.is_empty() {
        return Err(Error::invalid_arg(format!(
            "unexpected additional input data for model '{model}'"
        )));
    }
    if let Some(outputs) = document.get("outputs") {
        for output in outputs.as_array("outputs")? {
            read_output(output, &mut request)?;
        }
    }
    Ok(request)
}

fn read_parameters(parameters: &[Member], request: &mut InferRequest) -> Result<()> {
    for (key, value) in parameters {
        match key.as_str() {
            "sequence_id" => {
                request.correlation = match value {
                    Value::String(_) => match value.as_string(key)? {
                        id if id.is_empty() => CorrelationId::None,
                        id => CorrelationId::Text(id),
                    },
                    _ => match value.as_uint(key)? {
                        0 => CorrelationId::None,
                        id => CorrelationId::Number(id),
                    },
                }
            }
            "sequence_start" if value.as_bool(key)? => request.flags |= SEQUENCE_START,
            "sequence_end" if value.as_bool(key)? => request.flags |= SEQUENCE_END,
            "sequence_start" | "sequence_end" => {}
            "priority" => request.priority = value.as_uint(key)?,
            "timeout" => request.timeout_us = value.as_uint(key)?,
            "binary_data_output" => request.format.binary_by_default = value.as_bool(key)?,
            key if key.starts_with("triton_") => {
                return Err(Error::invalid_arg(
                    "parameter keys starting with 'triton_' are reserved for Triton usage and \
                     should not be specified.",
                ));
            }
            _ => request.parameters.push((key.clone(), custom_parameter(key, value)?)),
        }
    }
    Ok(())
}

fn custom_parameter(key: &str, value: &Value) -> Result<Parameter> {
    match value {
        Value::Bool(value) => Ok(Parameter::Bool(*value)),
        Value::Int(value) => Ok(Parameter::Int(*value)),
        Value::Uint(value) if i64::try_from(*value).is_ok() => Ok(Parameter::Int(*value as i64)),
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
}

impl Inputs<'_> {
    fn read(&mut self, input: &Value) -> Result<Tensor> {
        input.as_object("inputs")?;
        let name = input.member("name")?.as_string("name")?;
        let datatype_name = input.member("datatype")?.as_string("datatype")?;
        let shape = read_shape(&name, input.member("shape")?.as_array("shape")?)?;
        let no_parameters = Value::Object(Vec::new());
        let parameters = input.get("parameters").unwrap_or(&no_parameters);
        parameters.as_object("parameters")?;
        refuse_shared_memory(parameters)?;
        let datatype = DataType::from_name(&datatype_name);
        let data = match (input.get("data"), parameters.get("binary_data_size")) {
            (Some(_), Some(_)) => {
                return Err(only_one_field("But set 'data' 'binary_data_size'"));
            }
            (None, None) => return Err(only_one_field("But no field is set")),
            (None, Some(size)) => self.binary(&name, size.as_uint("binary_data_size")?)?,
            (Some(data), None) => {
                let datatype = datatype.ok_or_else(|| {
                    Error::invalid_arg(format!("invalid datatype for input {name}"))
                })?;
                self.json(&name, data, datatype, &shape)?
            }
        };
        // The model's own datatype is compared later; a name that means nothing fails there too.
        let datatype = datatype.ok_or_else(|| {
            Error::invalid_arg(format!(
                "inference input '{name}' data-type is '<invalid>' for model '{}'",
                self.model
            ))
        })?;
        Ok(Tensor { name, datatype, shape, data: Buffer::One(data) })
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

    fn json(
        &self,
        name: &str,
        data: &Value,
        datatype: DataType,
        shape: &[i64],
    ) -> Result<Bytes> {
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
        let Some(size) = elements.checked_mul(element_size).filter(|&s| s <= i64::MAX as usize)
        else {
            return Err(Error::invalid_arg(format!(
                "byte size overflow for input '{name}': element count ({elements}) * data type \
                 size ({element_size}) exceeds maximum allowed size ({})",
                i64::MAX
            )));
        };
        if size > self.max_input_size {
            return Err(Error::invalid_arg(format!(
                "JSON input '{name}' has a byte_size ({size} bytes) that exceeds the maximum \
                 allowed value of {} bytes. Use --http-max-input-size to increase the limit.",
                self.max_input_size
            )));
        }
        let Value::Data(span) = data else {
            data.as_array("data")?;
            return Ok(Bytes::new());
        };
        decode_data(self.text, span.start, datatype, elements).map(Bytes::from)
    }
}

fn read_shape(name: &str, dims: &[Value]) -> Result<Vec<i64>> {
    dims.iter()
        .map(|dim| {
            i64::try_from(dim.as_uint("shape")?).map_err(|_| {
                Error::invalid_arg(format!(
                    "invalid shape for input '{name}': shape contains one or more invalid \
                     dimensions"
                ))
            })
        })
        .collect()
}

fn only_one_field(what: &str) -> Error {
    Error::invalid_arg(format!(
        "Input must set only one of the following fields: 'data', 'binary_data_size' in \
         'parameters', 'shared_memory_region' in 'parameters'. {what}"
    ))
}

fn refuse_shared_memory(parameters: &Value) -> Result<()> {
    match parameters.get("shared_memory_region") {
        Some(_) => Err(Error::unsupported("'shared_memory_region' is not supported yet")),
        None => Ok(()),
    }
}

fn read_output(output: &Value, request: &mut InferRequest) -> Result<()> {
    output.as_object("outputs")?;
    let name = output.member("name")?.as_string("name")?;
    let mut binary = false;
    if let Some(parameters) = output.get("parameters") {
        parameters.as_object("parameters")?;
        refuse_shared_memory(parameters)?;
        match parameters.get("classification").map(|count| count.as_uint("classification")) {
            None | Some(Ok(0)) => {}
            Some(Ok(_)) => {
                return Err(Error::unsupported("'classification' is not supported yet"));
            }
            Some(Err(error)) => return Err(error),
        }
        if let Some(wish) = parameters.get("binary_data") {
            binary = wish.as_bool("binary_data")?;
        }
    }
    if !request.requested_outputs.contains(&name) {
        request.format.listed.push((name.clone(), binary));
        request.requested_outputs.push(name);
    }
    Ok(())
}

#[cfg(test)]
#[path = "infer_request_tests.rs"]
mod tests;
