//! Batches that a worker is running.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nereid_arena::Arena;
use nereid_backend::Batch;
use nereid_inference::{Cancellation, Error, Request, Response, Result, Tensor, Trace, Watch};

use crate::tensors::{shared_bytes, slice_at};

/// One batch in a worker, kept with its inputs until it is answered.
pub(crate) struct Executing {
    /// `None` where the last response of a request has been sent.
    requests: Vec<Option<Request>>,
    /// The instance's place; given back when `execute` has returned.
    batch: Option<Batch>,
    /// Inputs of requests that had their last response while `execute` goes on, and may read them.
    answered: Vec<Tensor>,
    /// The model asked about these requests' cancellation.
    watches: Vec<Watch>,
    /// It runs in the middle of another batch, which waits for it.
    pub(crate) nested: bool,
}

/// What a model's own request takes over from the batch that it is made for.
#[derive(Default)]
pub(crate) struct Heritage {
    /// It ends when none of them is wanted any more.
    pub(crate) cancellations: Vec<Cancellation>,
    /// The most urgent one that was given.
    pub(crate) priority: u64,
    /// What is left of the longest time that a client would wait; 0 if one sets no limit.
    pub(crate) timeout_us: u64,
    /// The latest moment at which any of their answers is of use, where all have one.
    pub(crate) deadline: Option<Instant>,
    /// Its execution holds resources of the rate limiter meanwhile.
    pub(crate) holds: bool,
    /// Of the first of them that is traced.
    pub(crate) trace: Option<Arc<dyn Trace>>,
}

impl Executing {
    pub(crate) fn new(mut batch: Batch, nested: bool) -> Self {
        batch.mark_input_ready();
        let requests = batch.requests.drain(..).map(Some).collect();
        Self { requests, batch: Some(batch), answered: Vec::new(), watches: Vec::new(), nested }
    }

    /// A tensor that an input of this batch holds.
    pub(crate) fn input_at(&self, arena: &Arena, location: usize, len: usize) -> Option<Bytes> {
        self.shared_inputs(arena).find_map(|input| slice_at(arena, input, location, len))
    }

    /// Inputs that lie in shared memory.
    fn shared_inputs<'a>(&'a self, arena: &'a Arena) -> impl Iterator<Item = &'a Bytes> {
        let open = self.requests.iter().flatten().map(|request| request.inputs.as_slice());
        open.chain([self.answered.as_slice()]).flat_map(|inputs| shared_bytes(arena, inputs))
    }

    /// What requests made on behalf of this batch take over from it.
    pub(crate) fn heritage(&self) -> Heritage {
        let open = || self.requests.iter().flatten();
        let left = |request: &Request| match request.timeout_us {
            0 => u64::MAX,
            timeout => {
                let spent = request.responder.times.arrived.elapsed().as_micros();
                timeout.saturating_sub(u64::try_from(spent).unwrap_or(u64::MAX)).max(1)
            }
        };
        Heritage {
            cancellations: open().map(|request| request.cancellation.clone()).collect(),
            priority: open().map(|request| request.priority).filter(|&p| p > 0).min().unwrap_or(0),
            timeout_us: open().map(left).max().filter(|&left| left < u64::MAX).unwrap_or(0),
            deadline: latest(open().map(|request| request.deadline)),
            holds: self.holds(),
            trace: open().find_map(|request| request.trace.clone()),
        }
    }

    /// The flag of a request that has not had its last answer.
    pub(crate) fn cancellation(&self, index: usize) -> Option<&Cancellation> {
        self.requests.get(index)?.as_ref().map(|request| &request.cancellation)
    }

    /// Keeps `watch` as long as this batch is in the worker.
    pub(crate) fn keep(&mut self, watch: Watch) {
        self.watches.push(watch);
    }

    pub(crate) fn holds(&self) -> bool {
        self.requests.iter().flatten().any(|request| request.nesting.holds)
    }

    /// `execute` has returned something for each request.
    pub(crate) fn answer_all(&mut self, returned: Vec<Returned>) {
        let expected = self.requests.len();
        if returned.len() != expected {
            let got = returned.len();
            self.fail_open(&Error::internal(format!(
                "worker sent {got} responses for {expected} requests"
            )));
            return;
        }
        let computed = Instant::now();
        if let Some(batch) = &mut self.batch {
            batch.mark_computed();
        }
        for (index, returned) in returned.into_iter().enumerate() {
            match returned {
                Returned::Response(response) => {
                    if let Some(request) = self.requests[index].take() {
                        answer(request, response, computed);
                    }
                }
                Returned::Again => self.reschedule(index),
                Returned::Nothing => {}
            }
        }
    }

    /// The request is to run again when this execution has ended.
    pub(crate) fn reschedule(&mut self, index: usize) {
        let Some(request) = self.requests.get_mut(index).and_then(Option::take) else { return };
        match &mut self.batch {
            Some(batch) => batch.reschedule(request),
            None => request.responder.answer(Err(Error::internal(
                "a request can only be rescheduled when 'execute' returns",
            ))),
        }
    }

    /// `execute` has returned; responses of a decoupled model may still come.
    pub(crate) fn give_back_place(&mut self) -> Option<Batch> {
        self.answered.clear();
        self.batch.take()
    }

    /// One response that a model has sent by itself.
    pub(crate) fn respond(&mut self, index: usize, response: Option<Result<Response>>, last: bool) {
        let Some(slot) = self.requests.get_mut(index) else { return };
        let Some(mut request) = slot.take() else { return };
        let response = response.map(|response| wanted(&request, response));
        request.responder.times.computed.get_or_insert_with(Instant::now);
        if last && self.batch.is_some() {
            self.answered.append(&mut request.inputs);
        }
        match (response, last) {
            (Some(response), true) => request.responder.answer(response),
            (None, true) => request.responder.finish(),
            (response, false) => {
                if let Some(response) = response {
                    request.responder.send(response);
                }
                *slot = Some(request);
            }
        }
    }

    /// Whether `execute` has not returned.
    pub(crate) fn has_place(&self) -> bool {
        self.batch.is_some()
    }

    /// Whether nothing more will come for this batch.
    pub(crate) fn is_over(&self) -> bool {
        self.batch.is_none() && self.requests.iter().all(Option::is_none)
    }

    pub(crate) fn fail(mut self, error: &Error) {
        self.fail_open(error);
    }

    fn fail_open(&mut self, error: &Error) {
        for request in self.requests.iter_mut().filter_map(Option::take) {
            request.responder.answer(Err(error.clone()));
        }
    }
}

/// The latest of some moments, if none of them is never.
fn latest(moments: impl Iterator<Item = Option<Instant>>) -> Option<Instant> {
    moments.reduce(|one, other| Some(one?.max(other?))).flatten()
}

/// What `execute` has returned for a request.
pub(crate) enum Returned {
    Response(Result<Response>),
    /// A response sender answers, or has answered.
    Nothing,
    /// The request is to run again.
    Again,
}

fn answer(mut request: Request, response: Result<Response>, computed: Instant) {
    request.responder.times.computed = Some(computed);
    let response = wanted(&request, response);
    request.responder.answer(response);
}

/// A response with what its request asked for.
fn wanted(request: &Request, response: Result<Response>) -> Result<Response> {
    response.map(|mut response| {
        response.outputs.retain(|output| request.wants(&output.name));
        response
    })
}
