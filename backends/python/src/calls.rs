//! Requests that a model makes of other models (business logic scripting).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nereid_inference::{
    Answer, Cancellation, Code, Error, Nesting, Request, Responder, Response, ResponseSink, Result,
    Tensor, Times, Watch,
};

use crate::executing::Heritage;
use crate::extras::CallExtras;
use crate::link::{Link, Part};
use crate::peers::Way;

/// Which call of a worker's this is.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// Of the worker that makes it.
    pub(crate) generation: u64,
    pub(crate) id: u64,
    /// The batch that it is made for, as far as the worker knows.
    pub(crate) on_behalf: Option<u64>,
}

/// Sends a worker's request on its way. It enters the server like any other request; the answer
/// goes back to the worker from whatever thread has it.
pub(crate) fn start(link: &Arc<Link>, call: Call, extras: &[u8], inputs: Result<Vec<Tensor>>) {
    let extras = CallExtras::read(extras);
    let model = extras.model_name.as_ref();
    let version = extras.version();
    let heritage = link.heritage(call.on_behalf);
    let stream = extras.decoupled;
    let may_cancel = stream || extras.may_cancel;
    let (cancellation, watches) = cancellation(&heritage, may_cancel);
    if may_cancel {
        link.open_call(call.generation, call.id, &cancellation);
    }
    let way = link.peers.way(link, model, &|model| link.host.service.members(model));
    link.begin_wait(call.generation, model);
    let back = CallSink {
        link: link.clone(),
        call,
        model: model.to_owned(),
        stream,
        on_host: extras.on_host,
        answered: false,
        watches,
    };
    let mut request = Request::new(model, version, Responder::new(Box::new(back)));
    extras.fill(&mut request);
    request.cancellation = cancellation;
    request.trace = heritage.trace.as_ref().map(|trace| trace.child());
    if request.priority == 0 {
        request.priority = heritage.priority;
    }
    if request.timeout_us == 0 {
        request.timeout_us = heritage.timeout_us;
    }
    request.deadline = heritage.deadline;
    request.nesting = Nesting { holds: heritage.holds, ..Nesting::default() }.call();
    if let Way::Within(instance) = way {
        request.nesting.within = Some(instance);
    }
    let circle = match way {
        Way::Circle(reason) => Err(Error::unavailable(reason)),
        _ => Ok(()),
    };
    match circle.and(inputs) {
        Ok(inputs) => {
            request.inputs = inputs;
            link.host.service.infer(request);
        }
        Err(error) => request.responder.answer(Err(error)),
    }
}

/// The flag of a request that ends with those that it is made for; one that may also be cancelled
/// by itself, or that serves several, has a flag of its own.
fn cancellation(heritage: &Heritage, own: bool) -> (Cancellation, Vec<Watch>) {
    match heritage.cancellations.as_slice() {
        [only] if !own => (only.clone(), Vec::new()),
        parents => {
            let child = Cancellation::default();
            let wanted = Arc::new(AtomicUsize::new(parents.len()));
            let watch = |parent: &Cancellation| {
                let (child, wanted) = (child.clone(), wanted.clone());
                parent.watch(move || {
                    if wanted.fetch_sub(1, Ordering::AcqRel) == 1 {
                        child.cancel();
                    }
                })
            };
            let watches = parents.iter().map(watch).collect();
            (child, watches)
        }
    }
}

/// Brings the answers back to the worker that asked.
struct CallSink {
    link: Arc<Link>,
    call: Call,
    model: String,
    /// The worker takes any number of answers.
    stream: bool,
    /// It wants nothing that lies in the memory of a GPU.
    on_host: bool,
    answered: bool,
    /// On what this request depends, until it is over.
    watches: Vec<Watch>,
}

impl ResponseSink for CallSink {
    fn deliver(&mut self, mut answer: Answer, times: &Times) {
        let Call { generation, id, .. } = self.call;
        if answer.last {
            self.watches.clear();
            self.link.end_wait(generation, &self.model);
        }
        if let (Some(Err(error)), None) = (&mut answer.response, times.queued) {
            *error = self.refusal(error);
        }
        if self.stream {
            let response = answer.response.unwrap_or_else(|| Ok(Response::default()));
            let part = Some(Part { last: answer.last });
            self.link.answer_call(generation, id, response, part);
            return;
        }
        if self.answered {
            return;
        }
        self.answered = true;
        let response = match answer.response {
            Some(response) if answer.last => response,
            _ => Err(self.refusal(&Error::unsupported(format!(
                "Model {} is using the decoupled. The current BLS request call doesn't support \
                 models using the decoupled transaction policy. Please use 'decoupled=True' \
                 argument to the 'exec' or 'async_exec' calls for decoupled models.'",
                self.model
            )))),
        };
        self.link.answer_call(generation, id, response, None);
    }

    fn takes_devices(&self) -> bool {
        !self.on_host
    }
}

impl CallSink {
    /// How Triton words that a request did not get as far as its model.
    fn refusal(&self, error: &Error) -> Error {
        let model = &self.model;
        let unready =
            format!("Failed for execute the inference request. Model '{model}' is not ready.");
        let reason = match error.code() {
            Code::NotFound => &unready,
            _ => error.message(),
        };
        Error::internal(format!("Model {model} - Error when running inference: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_with_the_last_that_it_is_made_for() {
        let parents: Vec<Cancellation> = (0..3).map(|_| Cancellation::default()).collect();
        let heritage = Heritage { cancellations: parents.clone(), ..Heritage::default() };
        let (child, _watches) = cancellation(&heritage, false);
        parents[0].cancel();
        parents[2].cancel();
        assert!(!child.is_cancelled());
        parents[1].cancel();
        assert!(child.is_cancelled());
    }

    #[test]
    fn a_request_that_is_cancelled_by_itself_leaves_its_parent_alone() {
        let parent = Cancellation::default();
        let heritage = Heritage { cancellations: vec![parent.clone()], ..Heritage::default() };
        cancellation(&heritage, true).0.cancel();
        assert!(!parent.is_cancelled());
        let (orphan, _watches) = cancellation(&Heritage::default(), false);
        assert!(!orphan.is_cancelled());
    }
}
