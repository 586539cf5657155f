//! From the scheduling part of a configuration to the settings of a scheduler.

use std::time::Duration;

use nereid_model_config::proto::{
    ModelConfig, ModelDynamicBatching, ModelQueuePolicy, model_queue_policy,
};
use nereid_scheduler::{Batching, Dynamic, QueuePolicies, QueuePolicy, TimeoutAction};

use crate::ordering::Ordering;

/// The default scheduler, or the dynamic batcher where the configuration asks for it.
pub(crate) fn batching(config: &ModelConfig) -> Batching {
    let dynamic = config.dynamic_batching().map(|dynamic| Dynamic {
        preferred_batch_sizes: ascending(&dynamic.preferred_batch_size),
        max_queue_delay: Duration::from_micros(dynamic.max_queue_delay_microseconds),
        policies: policies(dynamic),
    });
    Batching { max_batch_size: size(config.max_batch_size), dynamic, ragged_inputs: ragged(config) }
}

/// What keeps answers in order, where the configuration asks for that.
pub(crate) fn ordering(config: &ModelConfig) -> Option<Ordering> {
    let dynamic = config.dynamic_batching()?;
    dynamic.preserve_ordering.then(Ordering::default)
}

fn policies(dynamic: &ModelDynamicBatching) -> QueuePolicies {
    let by_level = dynamic.priority_queue_policy.iter();
    QueuePolicies {
        priority_levels: dynamic.priority_levels,
        default_priority_level: dynamic.default_priority_level,
        default_policy: dynamic.default_queue_policy.as_ref().map(policy).unwrap_or_default(),
        by_level: by_level.map(|(&level, own)| (level, policy(own))).collect(),
    }
}

fn policy(policy: &ModelQueuePolicy) -> QueuePolicy {
    QueuePolicy {
        timeout_action: match policy.timeout_action() {
            model_queue_policy::TimeoutAction::Reject => TimeoutAction::Reject,
            model_queue_policy::TimeoutAction::Delay => TimeoutAction::Delay,
        },
        default_timeout: Duration::from_micros(policy.default_timeout_microseconds),
        allow_timeout_override: policy.allow_timeout_override,
        max_queue_size: policy.max_queue_size as usize,
    }
}

fn ragged(config: &ModelConfig) -> Vec<String> {
    let ragged = config.input.iter().filter(|input| input.allow_ragged_batch);
    ragged.map(|input| input.name.clone()).collect()
}

fn ascending(sizes: &[i32]) -> Vec<usize> {
    let mut sizes: Vec<usize> = sizes.iter().copied().map(size).collect();
    sizes.sort_unstable();
    sizes
}

fn size(size: i32) -> usize {
    usize::try_from(size).unwrap_or(0)
}
