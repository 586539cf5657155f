//! What a scheduler decides.

use std::time::Instant;

use crate::Closed;
use nereid_inference::{Error, Request, log_prefix};

/// What to do now.
pub enum Step {
    /// Run these together, then ask again.
    Dispatch(Dispatch),
    /// Nothing to do before then, unless something happens.
    WaitUntil(Instant),
    /// Nothing to do until something happens.
    Idle,
}

/// Requests that run together.
#[derive(Default)]
pub struct Dispatch {
    /// Which of the places' instances runs them.
    pub instance: usize,
    pub requests: Vec<Request>,
    /// Rows of the batch that belong to sequences which have nothing to run now.
    pub idle_rows: Vec<usize>,
    /// Why the dynamic batcher let it go; `None` from everybody else.
    pub closed: Option<Closed>,
    /// The sequence of each request, by a key of its own; empty where there are no sequences.
    pub sequences: Vec<u64>,
}

/// A request that will not run. The driver answers it, once it holds no lock.
pub struct Rejected {
    pub request: Request,
    pub error: Error,
}

impl Rejected {
    /// It does not join the queue.
    pub(crate) fn refused(mut request: Request, error: Error) -> Self {
        request.responder.times.queued = None;
        Self { request, error }
    }

    /// As many wait as a policy lets wait.
    pub(crate) fn queue_full(request: Request) -> Self {
        let prefix = log_prefix(&request.id);
        let error = Error::unavailable(format!("{prefix}Exceeds maximum queue size"));
        Self::refused(request, error)
    }

    /// It has waited as long as a policy lets it.
    pub(crate) fn timed_out(request: Request) -> Self {
        Self { request, error: Error::unavailable("Request timeout expired") }
    }

    /// A model gave the request back, but it has no iterative sequences.
    pub(crate) fn not_iterative(request: Request) -> Self {
        let error = Error::invalid_arg(
            "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model is \
             not configured to handle such a flag.",
        );
        Self { request, error }
    }
}

/// The instance that takes the most further batches, if any takes one. `places` counts them.
pub(crate) fn freest(places: &[usize]) -> Option<usize> {
    (0..places.len()).rev().max_by_key(|&instance| places[instance]).filter(|&i| places[i] > 0)
}

/// The earlier of two moments, either of which may never come.
pub fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Waits for a moment that may never come.
pub(crate) fn wait(until: Option<Instant>) -> Step {
    until.map_or(Step::Idle, Step::WaitUntil)
}
