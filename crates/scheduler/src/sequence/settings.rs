//! The settings of the sequence batcher.

use std::time::Duration;

use crate::Hold;

/// How sequences are put together.
#[derive(Clone, Debug)]
pub struct SequenceBatching {
    pub strategy: Strategy,
    /// Sequences that an instance may have at a time.
    pub slots: usize,
    /// Requests that an instance may run together.
    pub max_batch_size: usize,
    /// A sequence ends when its client sends nothing for so long after its last answer.
    pub max_sequence_idle: Duration,
    /// Inputs whose shapes may differ between the requests of a batch.
    pub ragged_inputs: Vec<String>,
    /// A request is a sequence of its own, which goes on as long as the model gives it back.
    pub iterative: bool,
    /// Holds all instances back.
    pub hold: Hold,
}

/// Which of an instance's sequences run together.
#[derive(Clone, Debug)]
pub enum Strategy {
    /// All that have a request, each at the row of its slot.
    Direct {
        max_queue_delay: Duration,
        /// Share of the slots that is worth waiting for; 0: none is.
        minimum_slot_utilization: f32,
    },
    /// Those whose requests are the oldest, as the dynamic batcher would take them.
    Oldest {
        /// Sizes worth waiting for, ascending.
        preferred_batch_sizes: Vec<usize>,
        max_queue_delay: Duration,
    },
}
