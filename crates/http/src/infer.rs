//! `POST /v2/models/{model}/infer`.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};
use nereid_backend::Service;
use nereid_core::ModelVersion;
use nereid_inference::{
    Answer, Cancellation, Error, Request, Responder, Response, ResponseSink, Result, Times,
};
use nereid_protocol::{
    InferRequest, OutputFormat, parse_infer_request, raw_infer_request, write_infer_response,
};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::app::App;
use crate::body::{NoBody, receive};
use crate::header_length::JsonPart;
use crate::reply::{Reply, TEXT, infer_reply, json_error, status_reply, text_error};

/// First stop of a request, decoding, and with the answer the last one, encoding.
pub(crate) async fn infer(
    app: &App,
    name: &str,
    version: Option<i64>,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Reply {
    let model = match app.server.model(name, version).and_then(single_response) {
        Ok(model) => model,
        Err(error) => return text_error(&error),
    };
    if let Some(reply) = refuse_encoding(headers) {
        return reply;
    }
    let (body, json_len) = match receive_request(app, headers, body).await {
        Ok(received) => received,
        Err(reply) => return reply,
    };
    match decode(app, &model, &body, json_len) {
        Ok(parsed) => {
            // The tensors keep alive what they need of it.
            drop(body);
            run(app, name, version, parsed).await
        }
        Err(error) => json_error(&error),
    }
}

/// The body, and how much of it is JSON.
async fn receive_request(
    app: &App,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<(Bytes, usize), Reply> {
    let text = |error: Error| text_error(&error);
    let json = JsonPart::announced(headers).map_err(text)?;
    let expected = match (body.size_hint().exact(), json) {
        (Some(len), json) => json.within(len, headers).map_err(text)?,
        (None, JsonPart::Bytes(len)) => len,
        (None, JsonPart::Whole) => 0,
    };
    match receive(body, expected, app.limits.max_body, &app.arena).await {
        Ok(body) => {
            let json_len = json.within(body.len() as u64, headers).map_err(text)?;
            Ok((body, json_len))
        }
        Err(NoBody::TooLarge(error)) => Err(json_error(&error)),
        // Nobody is left to read this.
        Err(NoBody::Lost) => Err(status_reply(StatusCode::BAD_REQUEST, TEXT, "incomplete request")),
    }
}

fn single_response(model: std::sync::Arc<ModelVersion>) -> Result<std::sync::Arc<ModelVersion>> {
    if model.config.decoupled() {
        return Err(Error::unsupported(
            "HTTP end point doesn't support models with decoupled transaction policy",
        ));
    }
    Ok(model)
}

/// Compression comes with a later version; Triton answers like this to what it does not know.
fn refuse_encoding(headers: &HeaderMap) -> Option<Reply> {
    let encoding = headers.get(CONTENT_ENCODING)?.as_bytes();
    if encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity") {
        return None;
    }
    let mut reply = text_error(&Error::unsupported("Unsupported compression type"));
    reply.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Some(reply)
}

fn decode(app: &App, model: &ModelVersion, body: &Bytes, json_len: usize) -> Result<InferRequest> {
    let max = app.limits.max_input_size;
    if json_len > 0 {
        return parse_infer_request(&model.config, body, json_len, max);
    }
    if body.len() > max {
        return Err(Error::invalid_arg(format!(
            "Raw input has a byte_size ({} bytes) that exceeds the maximum allowed value of {max} \
             bytes. Use --http-max-input-size to increase the limit.",
            body.len()
        )));
    }
    raw_infer_request(&model.config, body.clone())
}

async fn run(app: &App, name: &str, version: Option<i64>, parsed: InferRequest) -> Reply {
    let (sender, mut receiver) = oneshot::channel();
    let sink = FirstAnswer { sender: Some(sender), count: 0, held: None };
    let request = Request {
        id: parsed.id.clone(),
        correlation: parsed.correlation,
        flags: parsed.flags,
        priority: parsed.priority,
        timeout_us: parsed.timeout_us,
        parameters: parsed.parameters,
        inputs: parsed.inputs,
        requested_outputs: parsed.requested_outputs,
        ..Request::new(name, version, Responder::new(Box::new(sink)))
    };
    let hang_up = CancelOnDrop(Some(request.cancellation.clone()));
    app.server.infer(request);
    // What is refused on the spot is not the model's error: Triton still answers that as JSON.
    let (answer, refusal): (_, fn(&Error) -> Reply) = match receiver.try_recv() {
        Ok(answer) => (Ok(answer), json_error),
        Err(TryRecvError::Closed) => (Ok(Err(lost())), text_error),
        Err(TryRecvError::Empty) => (receiver.await, text_error),
    };
    hang_up.disarm();
    match answer.unwrap_or_else(|_| Err(lost())) {
        Ok(response) => encode(&parsed.id, &response, &parsed.format),
        Err(error) => refusal(&error),
    }
}

fn lost() -> Error {
    Error::internal("the request was lost")
}

fn encode(id: &str, response: &Response, format: &OutputFormat) -> Reply {
    match write_infer_response(id, response, format) {
        Ok(written) => infer_reply(written),
        Err(error) => json_error(&error),
    }
}

/// Brings the one response of a model to the task that waits for it.
struct FirstAnswer {
    sender: Option<oneshot::Sender<Result<Response>>>,
    count: usize,
    held: Option<Result<Response>>,
}

impl ResponseSink for FirstAnswer {
    fn deliver(&mut self, answer: Answer, _: &Times) {
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
        if let Some(sender) = self.sender.take() {
            // The receiver is gone if the client has hung up.
            let _ = sender.send(response);
        }
    }
}

/// Tells everybody who works for a request that its client has hung up: then the connection's
/// task, and with it this value, is dropped before the answer came.
struct CancelOnDrop(Option<Cancellation>);

impl CancelOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(cancellation) = &self.0 {
            cancellation.cancel();
        }
    }
}
