//! The `parameters` of a configuration that Triton's PyTorch backend knows.

use nereid_inference::{Error, Result};
use nereid_model_config::ModelConfig;

use crate::ffi::Options;

/// Parameters that are about GPUs, or about what is always so here.
pub(crate) const IGNORED: [&str; 3] =
    ["DISABLE_CUDNN", "ENABLE_CACHE_CLEANING", "FORCE_CPU_ONLY_INPUT_TENSORS"];

/// How a model is to be run.
#[derive(Debug)]
pub(crate) struct Parameters {
    pub(crate) options: Options,
    /// Instances share a module even if its runs change it.
    pub(crate) share: bool,
    /// 0 where it is not given.
    pub(crate) intra_op: i32,
    pub(crate) inter_op: i32,
}

impl Parameters {
    pub(crate) fn read(config: &ModelConfig) -> Result<Self> {
        for key in IGNORED.into_iter().filter(|key| config.parameter(key).is_some()) {
            tracing::info!("'{}': parameter '{key}' means nothing on a CPU", config.name);
        }
        let switch = |key| Ok::<i32, Error>(flag(config, key)?.map_or(-1, i32::from));
        let options = Options {
            inference_mode: i32::from(flag(config, "INFERENCE_MODE")?.unwrap_or(true)),
            optimized: i32::from(!flag(config, "DISABLE_OPTIMIZED_EXECUTION")?.unwrap_or(false)),
            dict_input: 0,
            jit_profiling: switch("ENABLE_JIT_PROFILING")?,
            jit_executor: switch("ENABLE_JIT_EXECUTOR")?,
            tensor_fuser: switch("ENABLE_TENSOR_FUSER")?,
        };
        Ok(Self {
            options,
            share: flag(config, "ENABLE_WEIGHT_SHARING")?.unwrap_or(false),
            intra_op: count(config, "INTRA_OP_THREAD_COUNT")?,
            inter_op: count(config, "INTER_OP_THREAD_COUNT")?,
        })
    }
}

/// Triton's spellings of yes and no.
fn flag(config: &ModelConfig, key: &str) -> Result<Option<bool>> {
    let Some(value) = config.parameter(key) else { return Ok(None) };
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(Error::invalid_arg(format!(
            "failed to convert '{value}' to boolean value for parameter '{key}'"
        ))),
    }
}

fn count(config: &ModelConfig, key: &str) -> Result<i32> {
    Ok(config.number_parameter(key)?.unwrap_or(0).max(0))
}
