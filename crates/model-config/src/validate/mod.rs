//! Whether a configuration makes sense, judged in Triton's words.

mod batch_io;
mod ensemble;
mod instance_groups;
mod scheduling;
mod sequence;
mod tensors;

use nereid_inference::{Error, Result};

use crate::{ModelConfig, platform};

/// Rejects what Triton rejects, in Triton's order; to be called after [`crate::fill_defaults`] and with
/// the same number of GPUs.
///
/// # Errors
/// Invalid argument, with Triton's message.
pub fn validate(config: &ModelConfig, gpus: usize) -> Result<()> {
    let name = &config.name;
    check(!name.is_empty(), || "model configuration must specify 'name'".to_owned())?;
    check_platform(config)?;
    check(config.max_batch_size >= 0, || {
        format!("'max_batch_size' must be non-negative value for {name}")
    })?;
    check(config.version_policy.is_some(), || format!("must specify 'version policy' for {name}"))?;
    scheduling::validate(config)?;
    if config.is_ensemble() {
        ensemble::validate(config)?;
    }
    if !config.is_ensemble() {
        instance_groups::validate(config, gpus)?;
    }
    tensors::validate(config)?;
    batch_io::validate(config)?;
    config.sequence_batching().map_or(Ok(()), sequence::validate_states)
}

fn check_platform(config: &ModelConfig) -> Result<()> {
    let (name, platform) = (&config.name, config.platform.as_str());
    if config.is_ensemble() {
        return check(config.backend.is_empty(), || {
            format!(
                "Ensemble model '{name}' must have platform type 'ensemble' and empty backend type"
            )
        });
    }
    check(!config.backend.is_empty() || platform::backend_of_platform(platform).is_some(), || {
        format!("unexpected platform type '{platform}' for {name}")
    })
}

fn check(fine: bool, message: impl FnOnce() -> String) -> Result<()> {
    if fine { Ok(()) } else { Err(Error::invalid_arg(message())) }
}

#[cfg(test)]
mod tests;
