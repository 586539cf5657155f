//! Dynamic batching, and what each scheduler excludes.

use nereid_inference::Result;

use super::{check, sequence};
use crate::proto::{
    ModelConfig, ModelDynamicBatching, ModelQueuePolicy, model_queue_policy::TimeoutAction,
};

pub(super) fn validate(config: &ModelConfig) -> Result<()> {
    if let Some(dynamic) = config.dynamic_batching() {
        validate_dynamic(config, dynamic)?;
    }
    if let Some(sequence) = config.sequence_batching() {
        sequence::validate(config, sequence)?;
    }
    let name = &config.name;
    check(config.is_ensemble() || config.ensemble_scheduling().is_none(), || {
        format!(
            "ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble"
        )
    })?;
    validate_cache(config)
}

fn validate_dynamic(config: &ModelConfig, dynamic: &ModelDynamicBatching) -> Result<()> {
    let name = &config.name;
    check_preferred("dynamic batching preferred size", &dynamic.preferred_batch_size, config)?;
    let levels = dynamic.priority_levels;
    if levels > 0 {
        let in_range = |level: u64| (1..=levels).contains(&level);
        check(in_range(dynamic.default_priority_level), || {
            format!("default priority level must be in range [1, {levels}] for {name}")
        })?;
        check(dynamic.priority_queue_policy.keys().copied().all(in_range), || {
            format!(
                "priority queue policy must have priority level in range [1, {levels}] for {name}"
            )
        })?;
    }
    if dynamic.preserve_ordering { validate_ordering(name, dynamic) } else { Ok(()) }
}

/// Responses can only keep the order of requests if nothing overtakes in the queue.
fn validate_ordering(name: &str, dynamic: &ModelDynamicBatching) -> Result<()> {
    check(dynamic.priority_levels <= 1, || {
        format!("Only one priority level is allowed when 'preserve_ordering' is true for {name}")
    })?;
    let delays = |policy: &ModelQueuePolicy| {
        policy.default_timeout_microseconds != 0 && policy.timeout_action() == TimeoutAction::Delay
    };
    let mut policies =
        dynamic.default_queue_policy.iter().chain(dynamic.priority_queue_policy.values());
    check(!policies.any(delays), || {
        format!(
            "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true \
             for {name}"
        )
    })
}

/// Batch sizes that a scheduler prefers are ones that the model takes.
pub(super) fn check_preferred(what: &str, sizes: &[i32], config: &ModelConfig) -> Result<()> {
    let name = &config.name;
    for &size in sizes {
        check(size > 0, || format!("{what} must be positive for {name}"))?;
        check(size <= config.max_batch_size, || {
            format!("{what} must be <= max batch size for {name}")
        })?;
    }
    Ok(())
}

fn validate_cache(config: &ModelConfig) -> Result<()> {
    if !config.caches_responses() {
        return Ok(());
    }
    let name = &config.name;
    let unsupported = |what: &str| {
        format!(
            "Response Cache does not currently support model {name} with {what}. Please disable \
             the response cache."
        )
    };
    check(config.sequence_batching().is_none(), || unsupported("sequence batching scheduler"))?;
    check(!config.decoupled(), || unsupported("'decoupled' transaction policy"))
}
