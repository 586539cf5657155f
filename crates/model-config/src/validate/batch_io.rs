//! Tensors that the server computes or cuts for a whole batch.

use nereid_inference::{DataType, Result};

use super::check;
use crate::proto::{BatchInput, BatchOutput, ModelConfig};

pub(super) fn validate(config: &ModelConfig) -> Result<()> {
    config.batch_input.iter().try_for_each(|input| validate_input(config, input))?;
    config.batch_output.iter().try_for_each(|output| validate_output(config, output))
}

fn validate_input(config: &ModelConfig, input: &BatchInput) -> Result<()> {
    let name = &config.name;
    // Triton leaves this one to its backends.
    check(input.data_type != 0, || "unexpected batch input data type 'TYPE_INVALID'".to_owned())?;
    check(matches!(input.datatype(), Some(DataType::Int32 | DataType::Fp32)), || {
        format!("batch input data type must be TYPE_INT32 or TYPE_FP32 for {name}")
    })?;
    let kind = input.kind().as_str_name();
    check_sources(config, "input", kind, &input.source_input)
}

fn validate_output(config: &ModelConfig, output: &BatchOutput) -> Result<()> {
    let name = &config.name;
    for target in &output.target_name {
        check(config.find_output(target).is_some(), || {
            format!("unknown target output name '{target}' for {name}")
        })?;
    }
    check_sources(config, "output", output.kind().as_str_name(), &output.source_input)
}

fn check_sources(config: &ModelConfig, role: &str, kind: &str, sources: &[String]) -> Result<()> {
    let name = &config.name;
    check(sources.len() == 1, || {
        format!(
            "batch {role} kind '{kind}' expects 1 source input, got {} for {name}",
            sources.len()
        )
    })?;
    sources.iter().try_for_each(|source| {
        check(config.find_input(source).is_some(), || {
            format!("unknown source input name '{source}' for {name}")
        })
    })
}
