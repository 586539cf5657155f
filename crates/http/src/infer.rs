//! `POST /v2/models/{model}/infer`.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};
use nereid_core::{ModelVersion, Outcome};
use nereid_frontend::{Delivery, find_regions};
use nereid_inference::{Error, Response, Result};
use nereid_protocol::{
    InferRequest, OutputFormat, parse_infer_request, raw_infer_request, write_infer_response,
};

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
            run(app, model, version, parsed).await
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

fn single_response(model: Arc<ModelVersion>) -> Result<Arc<ModelVersion>> {
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

async fn run(
    app: &App,
    model: Arc<ModelVersion>,
    version: Option<i64>,
    mut parsed: InferRequest,
) -> Reply {
    let id = parsed.id.clone();
    let name = model.name.clone();
    let format = std::mem::take(&mut parsed.format);
    let delivery = match find_regions(&app.regions, &mut parsed)
        .and_then(|()| Delivery::new(&app.regions, &model, format))
    {
        Ok(delivery) => delivery,
        Err(error) => return json_error(&error),
    };
    let call = app.server.call(|responder| parsed.into_request(name, version, responder));
    let Outcome { response, refused } = call.outcome().await;
    match response.and_then(|response| delivery.deliver(response)) {
        Ok(response) => encode(&id, &response, delivery.format()),
        // Nothing the model did: Triton still answers that as JSON.
        Err(error) if refused => json_error(&error),
        Err(error) => text_error(&error),
    }
}

fn encode(id: &str, response: &Response, format: &OutputFormat) -> Reply {
    match write_infer_response(id, response, format) {
        Ok(written) => infer_reply(written),
        Err(error) => json_error(&error),
    }
}
