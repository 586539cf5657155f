//! How a session is to be run: the parameters of Triton's ONNX Runtime backend.

use nereid_inference::{Error, Result};
use nereid_model_config::ModelConfig;

/// Parameters that are about GPUs.
pub(crate) const IGNORED: [&str; 4] = [
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
];

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Whom messages are about.
    pub(crate) model: String,
    /// 0: the threads that all sessions share.
    pub(crate) intra_op_threads: usize,
    pub(crate) inter_op_threads: usize,
    pub(crate) parallel: bool,
    pub(crate) optimization: Optimization,
    pub(crate) memory_arena: bool,
    pub(crate) memory_pattern: bool,
    /// Devices whose memory arenas shrink after every run, as `cpu:0`.
    pub(crate) shrink: Option<String>,
    pub(crate) device_allocator_for_initializers: bool,
    pub(crate) operator_libraries: Vec<String>,
}

/// `optimization { graph { level } }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Optimization {
    All,
    Extended,
    Basic,
    None,
}

impl Options {
    pub(crate) fn read(config: &ModelConfig) -> Result<Self> {
        for key in IGNORED.into_iter().filter(|key| config.parameter(key).is_some()) {
            tracing::info!("'{}': parameter '{key}' means nothing on a CPU", config.name);
        }
        refuse_accelerators(config)?;
        let operations = config.model_operations.as_ref();
        Ok(Self {
            model: config.name.clone(),
            intra_op_threads: count(config, "intra_op_thread_count")?,
            inter_op_threads: count(config, "inter_op_thread_count")?,
            parallel: count(config, "execution_mode")? == 1,
            optimization: optimization(config),
            memory_arena: switch(config, "enable_mem_arena", true)?,
            memory_pattern: switch(config, "enable_mem_pattern", true)?,
            shrink: config.parameter("memory.enable_memory_arena_shrinkage").map(str::to_owned),
            device_allocator_for_initializers: switch(
                config,
                "session.use_device_allocator_for_initializers",
                false,
            )?,
            operator_libraries: operations
                .map(|operations| operations.op_library_filename.clone())
                .unwrap_or_default(),
        })
    }
}

fn optimization(config: &ModelConfig) -> Optimization {
    let graph = config.optimization.as_ref().and_then(|optimization| optimization.graph.as_ref());
    match graph.map(|graph| graph.level) {
        Some(-1) => Optimization::Basic,
        Some(1) => Optimization::Extended,
        Some(2) => Optimization::None,
        _ => Optimization::All,
    }
}

/// Accelerators of CPU models change what runs them; those of GPUs do not concern a CPU.
fn refuse_accelerators(config: &ModelConfig) -> Result<()> {
    let accelerators = config.optimization.as_ref().and_then(|o| o.execution_accelerators.as_ref());
    match accelerators.and_then(|found| found.cpu_execution_accelerator.first()) {
        Some(accelerator) => Err(Error::invalid_arg(format!(
            "unknown Execution Accelerator '{}' is requested",
            accelerator.name
        ))),
        None => Ok(()),
    }
}

fn switch(config: &ModelConfig, key: &str, default: bool) -> Result<bool> {
    Ok(config.number_parameter::<usize>(key)?.map_or(default, |number| number != 0))
}

fn count(config: &ModelConfig, key: &str) -> Result<usize> {
    Ok(config.number_parameter(key)?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nereid_model_config::ModelParameter;

    fn config(key: &str, value: &str) -> ModelConfig {
        let value = ModelParameter { string_value: value.to_owned() };
        ModelConfig { parameters: [(key.to_owned(), value)].into(), ..Default::default() }
    }

    #[test]
    fn parameters_are_read() {
        let options = Options::read(&config("intra_op_thread_count", "2")).unwrap();
        assert_eq!((options.intra_op_threads, options.memory_arena), (2, true));
        assert!(!Options::read(&config("enable_mem_arena", "0")).unwrap().memory_arena);
        assert!(Options::read(&config("execution_mode", "1")).unwrap().parallel);
        let error = Options::read(&config("execution_mode", "fast")).unwrap_err();
        assert!(error.message().contains("'fast'"), "{error}");
    }
}
