//! The default scheduler and the dynamic batcher: one queue, two ways to take from it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nereid_inference::Request;

/// How requests are put together.
#[derive(Clone, Debug, Default)]
pub struct Batching {
    /// Largest batch, counted in the first dimension; 0 where the model does not batch.
    pub max_batch_size: usize,
    /// Without it every request is a batch of its own.
    pub dynamic: Option<Dynamic>,
}

/// Settings of the dynamic batcher.
#[derive(Clone, Debug, Default)]
pub struct Dynamic {
    /// Sizes worth waiting for, ascending.
    pub preferred_batch_sizes: Vec<usize>,
    /// How long the oldest request may wait for others.
    pub max_queue_delay: Duration,
}

/// Requests that wait for an instance, in order of arrival.
pub struct Queue {
    batching: Batching,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    request: Request,
    since: Instant,
}

/// What to do while an instance is free.
pub enum Step {
    /// Run these together.
    Dispatch(Vec<Request>),
    /// A better batch may come; ask again by then at the latest.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

impl Queue {
    pub fn new(batching: Batching) -> Self {
        Self { batching, waiting: VecDeque::new() }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn push(&mut self, request: Request, now: Instant) {
        self.waiting.push_back(Waiting { request, since: now });
    }

    /// Takes out the requests whose clients are gone, for the caller to answer once it holds no
    /// lock. Cheap when there are none.
    pub fn take_cancelled(&mut self) -> Vec<Request> {
        if !self.waiting.iter().any(|waiting| waiting.request.cancellation.is_cancelled()) {
            return Vec::new();
        }
        let (cancelled, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.request.cancellation.is_cancelled());
        self.waiting = waiting;
        let cancelled: VecDeque<Waiting> = cancelled;
        cancelled.into_iter().map(|waiting| waiting.request).collect()
    }

    /// Decides for a free instance. An idle model answers a lone request at once unless its
    /// configuration asks for a delay.
    pub fn step(&mut self, now: Instant) -> Step {
        let Some(first) = self.waiting.front() else { return Step::Idle };
        let Some(dynamic) = &self.batching.dynamic else { return self.dispatch(1) };
        let deadline = first.since + dynamic.max_queue_delay;
        let fit = self.fitting();
        let best = dynamic.preferred_batch_sizes.last() == Some(&fit.size);
        if fit.closed || best || now >= deadline {
            return self.dispatch(fit.preferred.unwrap_or(fit.count));
        }
        Step::WaitUntil(deadline)
    }

    fn dispatch(&mut self, count: usize) -> Step {
        Step::Dispatch(self.waiting.drain(..count).map(|waiting| waiting.request).collect())
    }

    /// How many requests from the front can run together.
    fn fitting(&self) -> Fit {
        let dynamic = self.batching.dynamic.as_ref();
        let preferred_sizes = dynamic.map_or(&[][..], |dynamic| &dynamic.preferred_batch_sizes);
        let mut fit = Fit { count: 0, size: 0, preferred: None, closed: false };
        for Waiting { request, .. } in &self.waiting {
            let size = fit.size + request.batch_size;
            let joins =
                size <= self.batching.max_batch_size && joins(&self.waiting[0].request, request);
            if fit.count > 0 && !joins {
                fit.closed = true;
                break;
            }
            fit.count += 1;
            fit.size = size;
            if preferred_sizes.contains(&size) {
                fit.preferred = Some(fit.count);
            }
        }
        fit.closed |= fit.size >= self.batching.max_batch_size;
        fit
    }
}

/// The longest run of requests at the front that may form a batch.
struct Fit {
    count: usize,
    size: usize,
    /// The largest part of it whose size is a preferred one, in requests.
    preferred: Option<usize>,
    /// Nothing that may still come can join it.
    closed: bool,
}

/// Whether two requests differ in nothing but their first dimension.
fn joins(first: &Request, other: &Request) -> bool {
    fn rest(shape: &[i64]) -> &[i64] {
        shape.get(1..).unwrap_or_default()
    }
    first.inputs.len() == other.inputs.len()
        && first.inputs.iter().all(|input| {
            other.input(&input.name).is_some_and(|same| {
                input.datatype == same.datatype && rest(&input.shape) == rest(&same.shape)
            })
        })
}

#[cfg(test)]
#[path = "batching_tests.rs"]
mod tests;
