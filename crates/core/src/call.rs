//! A request that is to have exactly one response, as something to wait for.

use std::sync::{Arc, Weak};

use nereid_inference::{
    Answer, Cancellation, Error, Request, Responder, Response, ResponseSink, Result, Times,
};
use tokio::sync::oneshot;

use crate::model::ModelVersion;

/// How a request ended.
#[derive(Debug)]
pub struct Outcome {
    pub response: Result<Response>,
    /// It never joined a queue: what is wrong is the request, not its execution.
    pub refused: bool,
}

/// Hands on the response of a request as soon as it is known to be the only one.
pub struct OnlyResponse<F> {
    then: Option<F>,
    count: usize,
    held: Option<Result<Response>>,
}

impl<F: FnOnce(Outcome) + Send> OnlyResponse<F> {
    pub fn new(then: F) -> Self {
        Self { then: Some(then), count: 0, held: None }
    }
}

impl<F: FnOnce(Outcome) + Send> ResponseSink for OnlyResponse<F> {
    fn deliver(&mut self, answer: Answer, times: &Times) {
        if let Some(response) = answer.response {
            self.count += 1;
            self.held = Some(response);
        }
        if !answer.last {
            return;
        }
        let response = match self.held.take() {
            Some(response) if self.count == 1 => response,
            _ => {
                let got = self.count;
                Err(Error::internal(format!("expected a single response, got {got}")))
            }
        };
        if let Some(then) = self.then.take() {
            then(Outcome { response, refused: times.queued.is_none() });
        }
    }
}

/// Waits for the outcome of a request. Dropped before it came, since its client has hung up, it
/// tells everybody who works for the request.
pub struct Call {
    outcome: oneshot::Receiver<Outcome>,
    hang_up: Option<HangUp>,
}

/// Drops what a client that has gone wanted.
struct HangUp {
    cancellation: Cancellation,
    model: Weak<ModelVersion>,
}

impl ModelVersion {
    /// Runs a request that is made around the given responder.
    pub fn call(self: &Arc<Self>, request: impl FnOnce(Responder) -> Request) -> Call {
        let (sender, outcome) = oneshot::channel();
        let sink = OnlyResponse::new(move |outcome| {
            // The receiver is gone if the client has hung up.
            let _ = sender.send(outcome);
        });
        let request = request(Responder::new(Box::new(sink)));
        let cancellation = request.cancellation.clone();
        let hang_up = Some(HangUp { cancellation, model: Arc::downgrade(self) });
        self.submit(request);
        Call { outcome, hang_up }
    }
}

impl Call {
    pub async fn outcome(mut self) -> Outcome {
        let outcome = (&mut self.outcome).await;
        self.hang_up = None;
        outcome.unwrap_or_else(|_| Outcome {
            response: Err(Error::internal("the request was lost")),
            refused: false,
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(HangUp { cancellation, model }) = &self.hang_up {
            cancellation.cancel();
            if let Some(model) = model.upgrade() {
                model.look_again();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn outcome_of(answers: impl FnOnce(Responder)) -> Outcome {
        let (sender, receiver) = mpsc::channel();
        let sink = OnlyResponse::new(move |outcome| sender.send(outcome).unwrap());
        answers(Responder::new(Box::new(sink)));
        receiver.recv().unwrap()
    }

    #[test]
    fn exactly_one_response_is_handed_on() {
        let one = outcome_of(|mut responder| {
            responder.send(Ok(Response::default()));
            responder.finish();
        });
        assert!(one.response.is_ok());
        let none = outcome_of(Responder::finish);
        assert_eq!(none.response.unwrap_err().message(), "expected a single response, got 0");
        let two = outcome_of(|mut responder| {
            responder.send(Ok(Response::default()));
            responder.answer(Ok(Response::default()));
        });
        assert_eq!(two.response.unwrap_err().message(), "expected a single response, got 2");
    }

    #[test]
    fn a_request_that_joined_a_queue_was_not_refused() {
        let refused = outcome_of(|responder| responder.answer(Err(Error::unknown(""))));
        assert!(refused.refused);
        let failed = outcome_of(|mut responder| {
            responder.times.queued = Some(std::time::Instant::now());
            responder.answer(Err(Error::unknown("")));
        });
        assert!(!failed.refused);
    }

    #[test]
    fn only_hanging_up_cancels() {
        let waits = |cancellation: &Cancellation| {
            let (sender, outcome) = oneshot::channel();
            let hang_up = HangUp { cancellation: cancellation.clone(), model: Weak::new() };
            (sender, Call { outcome, hang_up: Some(hang_up) })
        };
        let cancellation = Cancellation::default();
        let (_sender, call) = waits(&cancellation);
        drop(call);
        assert!(cancellation.is_cancelled());

        let cancellation = Cancellation::default();
        let (sender, call) = waits(&cancellation);
        sender.send(Outcome { response: Ok(Response::default()), refused: false }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(call.outcome()).response.is_ok());
        assert!(!cancellation.is_cancelled());
    }
}
