//! `POST /v2/models/{model}/generate` and `…/generate_stream`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use nereid_frontend::Backlog;
use nereid_inference::{
    Answer, Cancellation, Error, Responder, Response, ResponseSink, Result, Times,
};
use nereid_protocol::{error_body, parse_generate_request, write_generate_response};
use tokio::sync::mpsc;

use crate::app::App;
use crate::aside::aside;
use crate::body::receive;
use crate::reply::{Reply, event_reply, failed_event_reply, json_error, json_reply};

const NOT_ONE: &str = "generate expects model to produce exactly 1 response, use generate stream \
    for model that generates various number of responses";

pub(crate) async fn generate(
    app: &App,
    name: &str,
    version: Option<i64>,
    streams: bool,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Reply {
    let mut answers = match start(app, name, version, headers, body).await {
        Ok(answers) => answers,
        Err(reply) => return reply,
    };
    if streams {
        return stream(answers).await;
    }
    let (mut only, mut count) = (None, 0);
    while let Some(answer) = answers.next().await {
        count += 1;
        only = Some(answer);
    }
    match only {
        Some(answer) if count == 1 => match answer.encoded(&answers.id) {
            Ok(json) => json_reply(json),
            Err(error) => json_error(&error),
        },
        // As Triton, which has begun its answer by then.
        _ => json_reply(error_body(&Error::internal(NOT_ONE))),
    }
}

/// Only the first answer can still decide about the status.
async fn stream(mut answers: Answers) -> Reply {
    let Some(first) = answers.next().await else {
        return event_reply(StatusCode::OK, None, answers);
    };
    match first.encoded(&answers.id) {
        Ok(json) => event_reply(StatusCode::OK, Some(event(&json)), answers),
        Err(error) if first.refused => json_error(&error),
        Err(error) => failed_event_reply(&error, event(&error_body(&error)), answers),
    }
}

/// Reads the request and hands it to its model.
async fn start(
    app: &App,
    name: &str,
    version: Option<i64>,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Answers, Reply> {
    let refusal = |error: Error| json_error(&error);
    let model = app.lifecycle.model(name, version).await.map_err(refusal)?;
    let encoding = headers.get(CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes());
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity") {
        let message = "Unsupported content-encoding, only 'identity' is supported.";
        return Err(refusal(Error::invalid_arg(message)));
    }
    let body = receive(body, 0, app).await?;
    let max = app.limits.max_input_size;
    let config = model.config.clone();
    let parsed = aside(body.len(), move || parse_generate_request(&config, &body, max));
    let parsed = parsed.await.map_err(refusal)?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let backlog = Arc::new(Backlog::default());
    let id = parsed.id.clone();
    let cancellation = Cancellation::default();
    let sink = Sink { sender, backlog: backlog.clone(), cancellation: cancellation.clone() };
    let mut request = parsed.into_request(name, version, Responder::new(Box::new(sink)));
    request.cancellation = cancellation.clone();
    model.submit(request);
    Ok(Answers { id, receiver, backlog, cancellation })
}

/// One response, or the error in its place.
struct One {
    response: Result<Response>,
    /// The request never joined a queue.
    refused: bool,
}

impl One {
    /// About how many bytes it takes while it waits.
    fn size(&self) -> usize {
        let outputs = self.response.iter().flat_map(|response| &response.outputs);
        256 + outputs.map(|output| output.data.len()).sum::<usize>()
    }

    fn encoded(&self, id: &str) -> Result<Vec<u8>> {
        match &self.response {
            Ok(response) => write_generate_response(id, response),
            Err(error) => Err(error.clone()),
        }
    }
}

struct Sink {
    sender: mpsc::UnboundedSender<One>,
    backlog: Arc<Backlog>,
    cancellation: Cancellation,
}

impl ResponseSink for Sink {
    fn deliver(&mut self, answer: Answer, times: &Times) {
        let Some(response) = answer.response else { return };
        if self.cancellation.is_cancelled() {
            return;
        }
        let mut one = One { response, refused: times.queued.is_none() };
        if !self.backlog.add(one.size()) {
            // These may go on forever, so somebody has to read them.
            self.cancellation.cancel();
            one.response = Err(Error::unavailable("the client does not read its answers"));
        }
        // The receiver is gone if the client has hung up.
        let _ = self.sender.send(one);
    }
}

/// What comes back from a model. Dropped, since the client has hung up, it cancels the request.
pub(crate) struct Answers {
    id: String,
    receiver: mpsc::UnboundedReceiver<One>,
    backlog: Arc<Backlog>,
    cancellation: Cancellation,
}

impl Answers {
    async fn next(&mut self) -> Option<One> {
        let one = self.receiver.recv().await?;
        self.backlog.remove(one.size());
        Some(one)
    }

    /// The next event of the stream.
    pub(crate) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Pin::new(&mut self.receiver).poll_recv(context).map(|answer| {
            let answer = answer?;
            self.backlog.remove(answer.size());
            Some(event(&match answer.encoded(&self.id) {
                Ok(json) => json,
                Err(error) => error_body(&error),
            }))
        })
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.cancellation.cancel();
    }
}

fn event(json: &[u8]) -> Bytes {
    [b"data: ", json, b"\n\n"].concat().into()
}
