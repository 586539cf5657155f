//! The single way back to whoever sent a request.

use crate::{Error, Response, Result, Tensor, Times};

/// Where answers go: one per transport, wrapped by whoever wants to see answers pass.
pub trait ResponseSink: Send {
    /// Called for every answer, the last of which has `last` set; nothing comes after it.
    fn deliver(&mut self, answer: Answer, times: &Times);

    /// Whether outputs may lie in the memory of a GPU. Others get them in the host's.
    fn takes_devices(&self) -> bool {
        false
    }
}

/// One step of the way back.
#[derive(Debug)]
pub struct Answer {
    /// `None` where a model ends its responses without sending another one.
    pub response: Option<Result<Response>>,
    pub last: bool,
}

/// Answers one request, however many responses that takes.
///
/// A request cannot be lost: a responder that is dropped unfinished sends an error.
pub struct Responder {
    /// `None` once the last answer was sent.
    sink: Option<Box<dyn ResponseSink>>,
    pub times: Times,
}

impl Responder {
    pub fn new(sink: Box<dyn ResponseSink>) -> Self {
        Self { sink: Some(sink), times: Times::now() }
    }

    /// Puts a sink around the present one, to see or change what passes.
    pub fn wrap<S: ResponseSink + 'static>(
        &mut self,
        wrapper: impl FnOnce(Box<dyn ResponseSink>) -> S,
    ) {
        if let Some(sink) = self.sink.take() {
            self.sink = Some(Box::new(wrapper(sink)));
        }
    }

    /// Sends one of several responses (decoupled models).
    pub fn send(&mut self, response: Result<Response>) {
        self.deliver(Some(response), false);
    }

    /// Sends the only response, or the last one.
    pub fn answer(mut self, response: Result<Response>) {
        self.deliver(Some(response), true);
    }

    /// Ends the responses without another one (decoupled models).
    pub fn finish(mut self) {
        self.deliver(None, true);
    }

    fn deliver(&mut self, response: Option<Result<Response>>, last: bool) {
        let Some(mut sink) = self.sink.take() else { return };
        let response = match response {
            Some(response) if !sink.takes_devices() => Some(response.and_then(brought_to_host)),
            response => response,
        };
        sink.deliver(Answer { response, last }, &self.times);
        if !last {
            self.sink = Some(sink);
        }
    }
}

fn brought_to_host(mut response: Response) -> Result<Response> {
    response.outputs.iter_mut().try_for_each(Tensor::bring_to_host)?;
    Ok(response)
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.deliver(Some(Err(Error::internal("request was dropped without an answer"))), true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Channel(mpsc::Sender<Answer>);

    impl ResponseSink for Channel {
        fn deliver(&mut self, answer: Answer, _: &Times) {
            self.0.send(answer).unwrap();
        }
    }

    fn responder() -> (Responder, mpsc::Receiver<Answer>) {
        let (sender, receiver) = mpsc::channel();
        (Responder::new(Box::new(Channel(sender))), receiver)
    }

    #[test]
    fn a_dropped_responder_answers_with_an_error_once() {
        let (dropped, answers) = responder();
        drop(dropped);
        let answers: Vec<Answer> = answers.into_iter().collect();
        assert_eq!(answers.len(), 1);
        assert!(answers[0].last && matches!(answers[0].response, Some(Err(_))));
    }

    #[test]
    fn several_responses_then_the_end() {
        let (mut decoupled, answers) = responder();
        decoupled.send(Ok(Response::default()));
        decoupled.send(Ok(Response::default()));
        decoupled.finish();
        let last: Vec<bool> = answers.into_iter().map(|answer| answer.last).collect();
        assert_eq!(last, [false, false, true]);
    }
}
