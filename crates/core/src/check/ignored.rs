//! Fields that may be given and change nothing here.

use nereid_model_config::ModelConfig;

const GPU: &str = "it is about GPUs, and models run on the CPU here";

/// The fields of a configuration that have no effect, each with the reason.
pub(super) fn ignored(config: &ModelConfig) -> Vec<(&'static str, &'static str)> {
    let optimization = config.optimization.clone().unwrap_or_default();
    let accelerators = optimization.execution_accelerators.unwrap_or_default();
    let groups = || config.instance_group.iter();
    let growable = |config: &ModelConfig| {
        let sequences = config.sequence_batching();
        sequences.is_some_and(|sequences| sequences.state.iter().any(|s| s.use_growable_memory))
    };
    let ensemble_step = |of: fn(&ModelConfig) -> bool| config.is_ensemble() && of(config);
    let fields = [
        (optimization.cuda.is_some(), "cuda", GPU),
        (optimization.input_pinned_memory.is_some(), "input_pinned_memory", GPU),
        (optimization.output_pinned_memory.is_some(), "output_pinned_memory", GPU),
        (optimization.gather_kernel_buffer_threshold != 0, "gather_kernel_buffer_threshold", GPU),
        (optimization.eager_batching, "eager_batching", GPU),
        (!accelerators.gpu_execution_accelerator.is_empty(), "gpu_execution_accelerator", GPU),
        (!config.cc_model_filenames.is_empty(), "cc_model_filenames", GPU),
        (groups().any(|g| !g.secondary_devices.is_empty()), "secondary_devices", GPU),
        (
            groups().any(|group| !group.host_policy.is_empty()),
            "host_policy",
            "instances are not bound to cores",
        ),
        (growable(config), "use_growable_memory", GPU),
        (
            config.model_operations.is_some() && config.backend_name() != "onnxruntime",
            "model_operations",
            "only ONNX Runtime takes libraries of operations",
        ),
        (
            config.parameter("TRITON_BATCH_STRATEGY_PATH").is_some(),
            "TRITON_BATCH_STRATEGY_PATH",
            "libraries that decide on batches are not opened",
        ),
        (!config.runtime.is_empty(), "runtime", "backends are part of the server"),
        (
            ensemble_step(|config| !config.model_warmup.is_empty()),
            "model_warmup",
            "the warm-up of an ensemble is that of its models",
        ),
    ];
    fields
        .into_iter()
        .filter(|(given, ..)| *given)
        .map(|(_, field, reason)| (field, reason))
        .collect()
}
