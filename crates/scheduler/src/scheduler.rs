//! The scheduler of a model: one of several.

use std::time::Instant;

use nereid_inference::Request;

use crate::{Deadlines, Queue, Rejected, Sequences, Step};

/// Whichever scheduler a model asks for.
pub enum Scheduler {
    /// The default scheduler or the dynamic batcher.
    Queue(Queue),
    Sequences(Sequences),
    /// The dynamic batcher of a model with a latency target.
    Deadlines(Deadlines),
}

impl Scheduler {
    /// Takes a request in, or rejects it.
    pub fn push(&mut self, request: Request, now: Instant) {
        match self {
            Self::Queue(queue) => queue.push(request, now),
            Self::Sequences(sequences) => sequences.push(request, now),
            Self::Deadlines(deadlines) => deadlines.push(request, now),
        }
    }

    /// Decides what runs next. `places` says how many batches each instance takes now.
    pub fn step(&mut self, now: Instant, places: &[usize]) -> Step {
        match self {
            Self::Queue(queue) => queue.step(now, places),
            Self::Sequences(sequences) => sequences.step(now, places),
            Self::Deadlines(deadlines) => deadlines.step(now, places),
        }
    }

    /// The instance is done with a batch, but for the requests that are to run again. Not every
    /// scheduler asks when.
    pub fn batch_done(
        &mut self,
        instance: usize,
        rescheduled: Vec<Request>,
        now: impl FnOnce() -> Instant,
    ) {
        match self {
            Self::Queue(queue) => queue.refuse_rescheduled(rescheduled),
            Self::Sequences(sequences) => sequences.batch_done(instance, rescheduled, now()),
            Self::Deadlines(deadlines) => deadlines.batch_done(instance, rescheduled, now()),
        }
    }

    /// There is an instance more: in the place of one that was retired and is vacant, or behind all.
    pub fn add_instance(&mut self, instance: usize) {
        match self {
            Self::Queue(_) => {}
            Self::Sequences(sequences) => sequences.add_instance(instance),
            Self::Deadlines(deadlines) => deadlines.add_instance(instance),
        }
    }

    /// An instance is to go. It is not to be offered as free any more once it is vacant.
    pub fn retire_instance(&mut self, instance: usize) {
        match self {
            Self::Queue(_) => {}
            Self::Sequences(sequences) => sequences.retire_instance(instance),
            Self::Deadlines(deadlines) => deadlines.retire_instance(instance),
        }
    }

    /// Whether nothing is bound to an instance that was retired.
    pub fn is_vacant(&self, instance: usize) -> bool {
        match self {
            Self::Queue(_) | Self::Deadlines(_) => true,
            Self::Sequences(sequences) => sequences.is_vacant(instance),
        }
    }

    /// Rejects what nobody waits for any more. Cheap when there is nothing.
    pub fn reject_cancelled(&mut self) {
        match self {
            Self::Queue(queue) => queue.reject_cancelled(),
            Self::Sequences(sequences) => sequences.reject_cancelled(),
            Self::Deadlines(deadlines) => deadlines.reject_cancelled(),
        }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.len(),
            Self::Sequences(sequences) => sequences.waiting(),
            Self::Deadlines(deadlines) => deadlines.len(),
        }
    }

    /// What was rejected since the last call.
    pub fn take_rejected(&mut self) -> Vec<Rejected> {
        match self {
            Self::Queue(queue) => queue.take_rejected(),
            Self::Sequences(sequences) => sequences.take_rejected(),
            Self::Deadlines(deadlines) => deadlines.take_rejected(),
        }
    }

    /// Sequences that ended without their last request since the last call.
    pub fn take_lost(&mut self) -> Vec<u64> {
        match self {
            Self::Queue(_) | Self::Deadlines(_) => Vec::new(),
            Self::Sequences(sequences) => sequences.take_lost(),
        }
    }
}
