//! From the scheduling part of a configuration to the settings of a scheduler.

use std::path::Path;
use std::time::Duration;

use nereid_inference::Result;
use nereid_model_config::proto::{
    ModelConfig, ModelDynamicBatching, ModelQueuePolicy, ModelSequenceBatching, model_queue_policy,
    model_sequence_batching::StrategyChoice,
};
use nereid_scheduler::{
    Batching, Deadlines, Dynamic, Hold, Queue, QueuePolicies, QueuePolicy, Scheduler,
    SequenceBatching, Sequences, Strategy, TimeoutAction,
};

use crate::latency_target::LatencyTarget;
use crate::ordering::Ordering;
use crate::sequencing::Sequencing;

/// What a pool needs to know about the scheduling of its model.
pub(crate) struct Scheduling {
    pub(crate) scheduler: Scheduler,
    /// How many batches an instance may be given before it is done with the first.
    pub(crate) ahead: usize,
    /// Where answers must keep the order of their requests.
    pub(crate) ordering: Option<Ordering>,
    /// Where the model has sequences.
    pub(crate) sequencing: Option<Sequencing>,
}

impl Scheduling {
    /// What the configuration asks for, for so many instances.
    pub(crate) fn new(
        config: &ModelConfig,
        model_dir: &Path,
        instances: usize,
        hold: Hold,
    ) -> Result<Self> {
        let sequencing = Sequencing::new(config, model_dir)?;
        if let Some(sequence) = config.sequence_batching() {
            let sequences = Sequences::new(sequence_batching(config, sequence, hold), instances);
            let scheduler = Scheduler::Sequences(sequences);
            // A sequence has one request in flight. That also keeps the order of answers within
            // an instance, which is all that `preserve_ordering` of the oldest strategy promises.
            return Ok(Self { scheduler, ahead: 1, ordering: None, sequencing });
        }
        let batching = batching(config, hold);
        if LatencyTarget::new(config)?.is_some() {
            let ordering = ordering(config);
            let deadlines = Deadlines::new(batching, instances, ordering.is_some());
            let scheduler = Scheduler::Deadlines(deadlines);
            return Ok(Self { scheduler, ahead: 1, ordering, sequencing });
        }
        let ahead = if batching.gains_by_waiting() { 1 } else { usize::MAX };
        let scheduler = Scheduler::Queue(Queue::new(batching));
        Ok(Self { scheduler, ahead, ordering: ordering(config), sequencing })
    }
}

/// The default scheduler, or the dynamic batcher where the configuration asks for it.
fn batching(config: &ModelConfig, hold: Hold) -> Batching {
    let dynamic = config.dynamic_batching().map(|dynamic| Dynamic {
        preferred_batch_sizes: ascending(&dynamic.preferred_batch_size),
        max_queue_delay: Duration::from_micros(dynamic.max_queue_delay_microseconds),
        policies: policies(dynamic),
    });
    Batching {
        max_batch_size: size(config.max_batch_size),
        dynamic,
        ragged_inputs: ragged(config),
        hold,
    }
}

fn ordering(config: &ModelConfig) -> Option<Ordering> {
    let dynamic = config.dynamic_batching()?;
    dynamic.preserve_ordering.then(Ordering::default)
}

fn sequence_batching(
    config: &ModelConfig,
    sequence: &ModelSequenceBatching,
    hold: Hold,
) -> SequenceBatching {
    let max_batch_size = size(config.max_batch_size).max(1);
    let mut slots = max_batch_size;
    let strategy = match &sequence.strategy_choice {
        Some(StrategyChoice::Oldest(oldest)) => {
            if oldest.max_candidate_sequences > 0 {
                slots = size(oldest.max_candidate_sequences);
            }
            Strategy::Oldest {
                preferred_batch_sizes: ascending(&oldest.preferred_batch_size),
                max_queue_delay: Duration::from_micros(oldest.max_queue_delay_microseconds),
            }
        }
        Some(StrategyChoice::Direct(direct)) => Strategy::Direct {
            max_queue_delay: Duration::from_micros(direct.max_queue_delay_microseconds),
            minimum_slot_utilization: direct.minimum_slot_utilization,
        },
        None => Strategy::Direct { max_queue_delay: Duration::ZERO, minimum_slot_utilization: 0.0 },
    };
    SequenceBatching {
        strategy,
        slots,
        max_batch_size,
        max_sequence_idle: Duration::from_micros(sequence.max_sequence_idle_microseconds),
        ragged_inputs: ragged(config),
        iterative: sequence.iterative_sequence,
        hold,
    }
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
