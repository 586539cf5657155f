//! Parameters of requests, tensors and responses.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use nereid_inference::{Error, Parameter, RegionRange, Result, SEQUENCE_END, SEQUENCE_START};
use nereid_protocol::{InferRequest, ParameterKey, correlation_text};

use crate::proto::InferParameter;
use crate::proto::infer_parameter::ParameterChoice;

/// The one reserved parameter that clients may set: a decoupled model's end is to be announced even
/// where no response is left to carry the news.
const EMPTY_FINAL: &str = "triton_enable_empty_final_response";

/// gRPC's binary metadata: padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(crate) type ParameterMap = BTreeMap<String, InferParameter>;

/// Reads the parameters of a request into it; whether it asks for an empty final response.
pub(crate) fn read_parameters(
    parameters: ParameterMap,
    request: &mut InferRequest,
) -> Result<bool> {
    let mut empty_final = false;
    for (key, InferParameter { parameter_choice: value }) in parameters {
        use ParameterChoice::{BoolParam, Int64Param, StringParam, Uint64Param};
        match (ParameterKey::of(&key), value) {
            // Two's complement: Triton does not look at the sign either.
            (ParameterKey::SequenceId, Some(Int64Param(id))) => {
                request.correlation = (id as u64).into();
            }
            (ParameterKey::SequenceId, Some(StringParam(id))) => {
                request.correlation = correlation_text(id)?;
            }
            (ParameterKey::SequenceStart, Some(BoolParam(set))) => {
                request.flag(SEQUENCE_START, set);
            }
            (ParameterKey::SequenceEnd, Some(BoolParam(set))) => request.flag(SEQUENCE_END, set),
            (ParameterKey::Priority, Some(Uint64Param(priority))) => request.priority = priority,
            (ParameterKey::Priority, Some(Int64Param(priority))) => {
                request.priority = u64::try_from(priority).map_err(|_| {
                    Error::invalid_arg("invalid value for 'priority', expected value >= 0.")
                })?;
            }
            (ParameterKey::Timeout, Some(Int64Param(us))) => request.timeout_us = us as u64,
            (ParameterKey::Reserved, Some(BoolParam(wish))) if key == EMPTY_FINAL => {
                empty_final = wish;
            }
            (ParameterKey::Reserved, _) if key != EMPTY_FINAL => return Err(reserved()),
            (ParameterKey::Custom, Some(value)) if !matches!(value, Uint64Param(_)) => {
                request.parameters.push((key, custom(value)));
            }
            (meaning, _) => return Err(wrong_type(meaning, &key)),
        }
    }
    Ok(empty_final)
}

fn custom(value: ParameterChoice) -> Parameter {
    match value {
        ParameterChoice::BoolParam(value) => Parameter::Bool(value),
        ParameterChoice::Int64Param(value) => Parameter::Int(value),
        ParameterChoice::Uint64Param(value) => Parameter::Int(value as i64),
        ParameterChoice::DoubleParam(value) => Parameter::Double(value),
        ParameterChoice::StringParam(value) => Parameter::String(value),
    }
}

fn reserved() -> Error {
    Error::invalid_arg(format!(
        "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following \
         keys starting with 'triton_' are allowed: {EMPTY_FINAL}"
    ))
}

/// Metadata that is forwarded: what is binary (`-bin`) travels as base64, but models get it as it was.
pub(crate) fn decode_binary((name, value): &mut (String, Parameter)) {
    if name.ends_with("-bin")
        && let Parameter::String(text) = value
        && let Ok(bytes) = BASE64.decode(&*text)
    {
        *text = String::from_utf8_lossy(&bytes).into_owned();
    }
}

fn wrong_type(meaning: ParameterKey, key: &str) -> Error {
    let expected = match meaning {
        ParameterKey::SequenceId => "int64_param or string_param",
        ParameterKey::SequenceStart | ParameterKey::SequenceEnd | ParameterKey::Reserved => {
            "bool_param"
        }
        ParameterKey::Priority => "int64_param or uint64_param",
        ParameterKey::Timeout => "int64_param",
        ParameterKey::Custom => "int64_param, bool_param, or string_param",
    };
    Error::invalid_arg(format!("invalid value type for '{key}' parameter, expected {expected}."))
}

/// Where in shared memory the parameters of a tensor say it is; they must say that completely.
pub(crate) fn read_range(parameters: &ParameterMap, tensor: &str) -> Result<Option<RegionRange>> {
    const REGION: &str = "shared_memory_region";
    const SIZE: &str = "shared_memory_byte_size";
    const OFFSET: &str = "shared_memory_offset";
    if parameters.is_empty() {
        return Ok(None);
    }
    let value = |key| parameters.get(key).map(|parameter| &parameter.parameter_choice);
    let wrong_type = |key: &str, expected: &str| {
        Error::invalid_arg(format!(
            "invalid value type for '{key}' parameter for tensor '{tensor}', expected {expected}."
        ))
    };
    let region = match value(REGION) {
        None => None,
        Some(Some(ParameterChoice::StringParam(region))) => Some(region),
        Some(_) => return Err(wrong_type(REGION, "string_param")),
    };
    let number = |key| match value(key) {
        None => Ok(None),
        // A negative number is out of range as an unsigned one, too.
        Some(Some(ParameterChoice::Int64Param(number))) if region.is_some() => {
            Ok(Some(*number as u64))
        }
        Some(Some(ParameterChoice::Int64Param(_))) => Err(Error::invalid_arg(format!(
            "'{key}' can not be specified without '{REGION}' parameter for tensor '{tensor}'"
        ))),
        Some(_) => Err(wrong_type(key, "int64_param")),
    };
    let (offset, byte_size) = (number(OFFSET)?.unwrap_or(0), number(SIZE)?);
    let Some(region) = region else { return Ok(None) };
    let byte_size = byte_size.ok_or_else(|| {
        Error::invalid_arg(format!(
            "'{SIZE}' must be specified along with '{REGION}' parameter for tensor '{tensor}'"
        ))
    })?;
    Ok(Some(RegionRange { region: region.clone(), offset, byte_size }))
}

/// How many classes the parameters of an output ask for instead of its numbers; 0: none.
pub(crate) fn read_classes(parameters: &ParameterMap) -> Result<usize> {
    match parameters.get("classification").map(|parameter| &parameter.parameter_choice) {
        None => Ok(0),
        Some(Some(ParameterChoice::Int64Param(count @ 1..))) => {
            Ok(usize::try_from(*count).unwrap_or(usize::MAX))
        }
        Some(Some(ParameterChoice::Int64Param(_))) => {
            Err(Error::invalid_arg("invalid value for 'classification' parameter, expected >= 0"))
        }
        Some(_) => Err(Error::invalid_arg(
            "invalid value type for 'classification' parameter, expected int64_param",
        )),
    }
}

/// A parameter of a response.
pub(crate) fn to_message(parameter: Parameter) -> InferParameter {
    let choice = match parameter {
        Parameter::Bool(value) => ParameterChoice::BoolParam(value),
        Parameter::Int(value) => ParameterChoice::Int64Param(value),
        Parameter::Double(value) => ParameterChoice::DoubleParam(value),
        Parameter::String(value) => ParameterChoice::StringParam(value),
    };
    InferParameter { parameter_choice: Some(choice) }
}
