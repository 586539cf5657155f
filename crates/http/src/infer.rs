//! `POST /v2/models/{model}/infer`.

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use nereid_backend::Service;
use nereid_core::ModelVersion;
use nereid_inference::{
    Answer, Cancellation, Error, Responder, Response, ResponseSink, Result, Times,
};
use nereid_protocol::{
    InferRequest, OutputFormat, parse_infer_request, raw_infer_request, write_infer_response,
};
use tokio::sync::oneshot;

use crate::app::App;
use crate::body::{NoBody, receive};
use crate::reply::{Reply, infer_reply, json_error, status_reply, text_error};

const HEADER_LEN: &str = "inference-header-content-length";

/// First stop of a request, decoding, and with the answer the last one, encoding.
pub(crate) async fn infer(
    app: &App,
    name: String,
    version: Option<i64>,
    request: Request<Incoming>,
) -> Reply {
    let model = match app.server.model(&name, version).and_then(single_response) {
        Ok(model) => model,
        Err(error) => return text_error(&error),
    };
    if let Some(reply) = refuse_encoding(request.headers()) {
        return reply;
    }
    let announced = request.body().size_hint().exact();
    let header_len = match header_length(request.headers(), announced) {
        Ok(header_len) => header_len,
        Err(error) => return text_error(&error),
    };
    let json_len = header_len.unwrap_or(0);
    let body = receive(request.into_body(), json_len, app.limits.max_body, &app.arena).await;
    let parsed = match body {
        Ok(body) => decode(app, &model, &body, header_len),
        Err(NoBody::TooLarge(error)) => Err(error),
        // Nobody is left to read this.
        Err(NoBody::Lost) => return status_reply(StatusCode::BAD_REQUEST, "incomplete request"),
    };
    match parsed {
        Ok(parsed) => run(app, name, version, parsed).await,
        Err(error) => json_error(&error),
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

/// How much of the body is JSON; `None` where the body is a raw tensor.
fn header_length(headers: &HeaderMap, announced: Option<u64>) -> Result<Option<usize>> {
    let Some(value) = headers.get(HEADER_LEN) else {
        // All of it, and an empty body is a raw tensor of no bytes.
        return Ok(match announced {
            Some(0) => None,
            Some(len) => Some(usize::try_from(len).unwrap_or(usize::MAX)),
            None => Some(usize::MAX),
        });
    };
    let text = value.to_str().unwrap_or_default().trim();
    let Ok(len) = text.parse::<i64>() else {
        return Err(Error::invalid_arg(format!(
            "Unable to parse Inference-Header-Content-Length, got: {text}"
        )));
    };
    let limit = announced.map_or(i64::MAX, |len| i64::try_from(len).unwrap_or(i64::MAX));
    if len < 0 || len > limit {
        return Err(Error::invalid_arg(format!(
            "inference header size should be in range (0, {limit}), got: {len}"
        )));
    }
    Ok((len > 0).then_some(len as usize))
}

fn decode(
    app: &App,
    model: &ModelVersion,
    body: &Bytes,
    header_len: Option<usize>,
) -> Result<InferRequest> {
    let max = app.limits.max_input_size;
    match header_len {
        // A body whose length was not announced is all JSON.
        Some(usize::MAX) => parse_infer_request(&model.name, body, body.len(), max),
        Some(len) => parse_infer_request(&model.name, body, len, max),
        None if body.len() > max => Err(Error::invalid_arg(format!(
            "Raw input has a byte_size ({} bytes) that exceeds the maximum allowed value of {max} \
             bytes. Use --http-max-input-size to increase the limit.",
            body.len()
        ))),
        None => raw_infer_request(&model.config, body.clone()),
    }
}

async fn run(app: &App, name: String, version: Option<i64>, parsed: InferRequest) -> Reply {
    let (sender, receiver) = oneshot::channel();
    let sink = FirstAnswer { sender: Some(sender), count: 0, held: None };
    let mut request =
        nereid_inference::Request::new(name, version, Responder::new(Box::new(sink)));
    let InferRequest { id, format, .. } = fill(&mut request, parsed);
    let hang_up = CancelOnDrop(Some(request.cancellation.clone()));
    app.server.infer(request);
    let answer = receiver.await;
    hang_up.disarm();
    match answer {
        Ok(Ok(response)) => encode(&id, &response, &format),
        Ok(Err(error)) => text_error(&error),
        Err(_) => text_error(&Error::internal("the request was lost")),
    }
}

/// Moves what was parsed into the request; what is left tells how to answer.
fn fill(request: &mut nereid_inference::Request, mut parsed: InferRequest) -> InferRequest {
    request.id.clone_from(&parsed.id);
    request.correlation = std::mem::take(&mut parsed.correlation);
    request.flags = parsed.flags;
    request.priority = parsed.priority;
    request.timeout_us = parsed.timeout_us;
    request.parameters = std::mem::take(&mut parsed.parameters);
    request.inputs = std::mem::take(&mut parsed.inputs);
    request.requested_outputs = std::mem::take(&mut parsed.requested_outputs);
    parsed
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
