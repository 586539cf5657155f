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
