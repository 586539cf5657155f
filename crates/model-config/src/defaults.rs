//! What Triton adds to a configuration before it looks at it.

use crate::platform;
use crate::proto::{
    ModelConfig, ModelInstanceGroup, ModelOptimizationPolicy, ModelTransactionPolicy,
    ModelVersionPolicy, model_config::SchedulingChoice, model_instance_group::Kind,
    model_optimization_policy::PinnedMemoryBuffer, model_version_policy,
};

/// After this long without a request a sequence ends, in microseconds.
const SEQUENCE_IDLE: u64 = 1_000_000;

/// Fills what `config.pbtxt` left out. `model_name` is the model's folder; `default_file` is the
/// file that the model's backend loads unless told otherwise, where the caller knows better than
/// the table of Triton's own backends; it also tells the backend where the configuration does not.
/// `gpus`: on how many GPUs the backend can run models.
pub fn fill_defaults(
    config: &mut ModelConfig,
    model_name: &str,
    default_file: Option<&str>,
    gpus: usize,
) {
    if config.name.is_empty() {
        model_name.clone_into(&mut config.name);
    }
    fill_backend(config, default_file);
    config.version_policy.get_or_insert(ModelVersionPolicy {
        policy_choice: Some(model_version_policy::PolicyChoice::Latest(
            model_version_policy::Latest { num_versions: 1 },
        )),
    });
    fill_scheduling(config);
    if config.is_ensemble() {
        // Whether it is decoupled follows from its steps; until these are known, it is not.
        config.model_transaction_policy.get_or_insert(ModelTransactionPolicy { decoupled: false });
    } else {
        fill_optimization(config.optimization.get_or_insert_default());
        fill_instance_groups(config, gpus);
    }
}

/// Backend, platform and file name each other where only one of them was given.
fn fill_backend(config: &mut ModelConfig, default_file: Option<&str>) {
    if config.is_ensemble() {
        return;
    }
    if config.backend.is_empty() {
        let from_file = default_file.and_then(platform::backend_of_file).unwrap_or_default();
        let known = Some(config.backend_name()).filter(|backend| !backend.is_empty());
        config.backend = known.unwrap_or(from_file).to_owned();
    }
    if config.platform.is_empty()
        && let Some(platform) = platform::platform_of_backend(&config.backend)
    {
        platform.clone_into(&mut config.platform);
    }
    if config.default_model_filename.is_empty() {
        let file = default_file.or_else(|| platform::file_of(&config.backend, &config.platform));
        file.unwrap_or_default().clone_into(&mut config.default_model_filename);
    }
}

fn fill_optimization(optimization: &mut ModelOptimizationPolicy) {
    let pinned = PinnedMemoryBuffer { enable: true };
    optimization.input_pinned_memory.get_or_insert(pinned);
    optimization.output_pinned_memory.get_or_insert(pinned);
}

fn fill_scheduling(config: &mut ModelConfig) {
    match &mut config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(dynamic)) => {
            if dynamic.preferred_batch_size.is_empty() && config.max_batch_size > 0 {
                dynamic.preferred_batch_size.push(config.max_batch_size);
            }
        }
        Some(SchedulingChoice::SequenceBatching(sequence)) => {
            if sequence.max_sequence_idle_microseconds == 0 {
                sequence.max_sequence_idle_microseconds = SEQUENCE_IDLE;
            }
        }
        Some(SchedulingChoice::EnsembleScheduling(_)) | None => {}
    }
}

/// At least one group; every group has a name, a kind and at least one instance. Where there are GPUs
/// they are preferred, and a group that names none is for all of them.
fn fill_instance_groups(config: &mut ModelConfig, gpus: usize) {
    if config.instance_group.is_empty() {
        // Triton numbers the groups that it was given, but not the one that it makes itself.
        let name = config.name.clone();
        config.instance_group.push(ModelInstanceGroup { name, ..Default::default() });
    }
    for (index, group) in config.instance_group.iter_mut().enumerate() {
        if group.name.is_empty() {
            group.name = format!("{}_{index}", config.name);
        }
        if group.kind() == Kind::Auto {
            group.set_kind(if gpus > 0 { Kind::Gpu } else { Kind::Cpu });
        }
        if group.kind() == Kind::Gpu && group.gpus.is_empty() {
            group.gpus = (0..gpus as i32).collect();
        }
        group.count = group.count.max(1);
    }
}
