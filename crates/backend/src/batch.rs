//! Requests that an instance runs together.

use std::sync::Arc;
use std::time::Instant;

use nereid_inference::{Error, Request};

/// One execution of an instance.
///
/// Dropping it, in whatever thread, frees its place for the next batch. Requests that are still in
/// it are answered with an error by their responders.
pub struct Batch {
    pub requests: Vec<Request>,
    started: Instant,
    input_ready: Option<Instant>,
    computed: Option<Instant>,
    size: usize,
    rescheduled: Vec<Request>,
    ticket: Option<Ticket>,
}

struct Ticket {
    owner: Arc<dyn BatchOwner>,
    seat: usize,
}

/// What an execution took, for statistics.
#[derive(Clone, Copy, Debug)]
pub struct BatchReport {
    /// Sum of the requests' batch sizes.
    pub size: usize,
    pub started: Instant,
    pub input_ready: Instant,
    pub computed: Instant,
    pub ended: Instant,
}

/// Who handed the batch out and wants the instance back, and the requests that are to run again.
pub trait BatchOwner: Send + Sync + 'static {
    fn batch_done(self: Arc<Self>, seat: usize, report: BatchReport, rescheduled: Vec<Request>);
}

impl Batch {
    pub fn new(requests: Vec<Request>, owner: Arc<dyn BatchOwner>, seat: usize) -> Self {
        let mut batch = Self::unowned(requests);
        batch.ticket = Some(Ticket { owner, seat });
        batch
    }

    /// A batch that nobody waits for, in tests.
    pub fn unowned(mut requests: Vec<Request>) -> Self {
        let started = Instant::now();
        for request in &mut requests {
            request.responder.times.started = Some(started);
        }
        let size = requests.iter().map(|request| request.batch_size).sum();
        Self {
            requests,
            started,
            input_ready: None,
            computed: None,
            size,
            rescheduled: Vec::new(),
            ticket: None,
        }
    }

    /// Sum of the requests' batch sizes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Marks the end of preparing inputs: what follows is the model's own time.
    pub fn mark_input_ready(&mut self) {
        let now = Instant::now();
        self.input_ready = Some(now);
        for request in &mut self.requests {
            request.responder.times.input_ready = Some(now);
        }
    }

    /// Marks the end of the model's own time: what follows is preparing outputs.
    pub fn mark_computed(&mut self) {
        let now = Instant::now();
        self.computed = Some(now);
        for request in &mut self.requests {
            request.responder.times.computed = Some(now);
        }
    }

    /// Gives back a request that this execution has not finished: it will run again, in another
    /// batch, once this one has been dropped. Only models with `iterative_sequence` may do that.
    pub fn reschedule(&mut self, mut request: Request) {
        request.rescheduled = true;
        self.rescheduled.push(request);
    }

    /// Answers every request with the same error.
    pub fn fail(mut self, error: &Error) {
        for request in self.requests.drain(..) {
            request.responder.answer(Err(error.clone()));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.requests.clear();
        let Some(Ticket { owner, seat }) = self.ticket.take() else { return };
        let ended = Instant::now();
        let computed = self.computed.unwrap_or(ended);
        let input_ready = self.input_ready.unwrap_or(self.started);
        let report =
            BatchReport { size: self.size, started: self.started, input_ready, computed, ended };
        owner.batch_done(seat, report, std::mem::take(&mut self.rescheduled));
    }
}
