//! Requests that a model makes of other models (business logic scripting).

use std::sync::Arc;

use nereid_inference::{Answer, Error, Request, Responder, ResponseSink, Result, Tensor, Times};

use crate::extras;
use crate::link::Link;

/// Sends a worker's request on its way. It enters the server like any other request; the answer
/// goes back to the worker from whatever thread has it.
pub(crate) fn start(
    link: &Arc<Link>,
    generation: u64,
    call: u64,
    extras: &[u8],
    inputs: Result<Vec<Tensor>>,
) {
    let extras = extras::parse(extras);
    let model = extras["model_name"].as_str().unwrap_or_default();
    let version = extras["model_version"].as_i64().filter(|&version| version > 0);
    let back = CallSink { link: link.clone(), generation, call, answered: false };
    let mut request = Request::new(model, version, Responder::new(Box::new(back)));
    extras::fill_request(&extras, &mut request);
    if let Some(parent) = extras["request"].as_u64().and_then(|id| link.cancellation_of(id)) {
        request.cancellation = parent;
    }
    match inputs {
        Ok(inputs) => {
            request.inputs = inputs;
            link.host.service.infer(request);
        }
        Err(error) => request.responder.answer(Err(error)),
    }
}

/// Brings the answer back to the worker that asked.
struct CallSink {
    link: Arc<Link>,
    generation: u64,
    call: u64,
    answered: bool,
}

impl ResponseSink for CallSink {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        if self.answered {
            return;
        }
        let response = match answer.response {
            Some(_) if !answer.last => Err(Error::unsupported(
                "calling a decoupled model from a Python model is not supported yet",
            )),
            Some(response) => response,
            None => Err(Error::internal("the model ended without a response")),
        };
        self.answered = true;
        self.link.answer_call(self.generation, self.call, response);
    }
}
