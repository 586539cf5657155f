//! `POST /v2/models/{model}/infer`.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use nereid_core::{ModelVersion, Outcome};
use nereid_frontend::Delivery;
use nereid_inference::{Error, Request, Result, Trace};
use nereid_protocol::{InferRequest, parse_infer_request, raw_infer_request, write_infer_response};
use nereid_trace::{Protocol, RequestTrace};

use crate::app::App;
use crate::aside::{INLINE, aside};
use crate::body::{receive, receive_text};
use crate::compression::{Encoding, decompress};
use crate::header_length::JsonPart;
use crate::reply::{Reply, infer_reply, json_error, text_error};

/// First stop of a request, decoding, and with the answer the last one, encoding.
pub(crate) async fn infer(
    app: &App,
    name: &str,
    version: Option<i64>,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Reply {
    let began = app.tracer.began();
    let model = match app.lifecycle.model(name, version).await.and_then(single_response) {
        Ok(model) => model,
        Err(error) => return text_error(&error),
    };
    let encoding = match Encoding::of_request(headers) {
        Ok(encoding) => encoding,
        Err(error) => return unknown_encoding(&error),
    };
    let received = match encoding {
        None => receive_request(app, headers, body).await,
        Some(_) => receive_compressed(app, headers, body).await,
    };
    let (body, json_len) = match received {
        Ok(received) => received,
        Err(reply) => return reply,
    };
    let max = app.limits.max_input_size;
    let decoded = if json_len <= INLINE {
        decode(&model, body, json_len, max)
    } else {
        let model = model.clone();
        aside(json_len, move || decode(&model, body, json_len, max)).await
    };
    let forwarded = decoded.and_then(|mut parsed| {
        if let Some(forward) = &app.forward {
            forward.add(headers, &mut parsed.parameters)?;
        }
        Ok(parsed)
    });
    match forwarded {
        Ok(parsed) => {
            let parent = headers.get("traceparent").and_then(|parent| parent.to_str().ok());
            let trace = app.tracer.start(began, Protocol::Http, name, parent);
            let reply =
                run(app, model, version, parsed, trace.clone(), Encoding::wanted(headers)).await;
            if let Some(trace) = trace {
                trace.sent();
            }
            reply
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
    // Unless it says where its tensors begin, all of it is JSON, which is bounded.
    let body = match (body.size_hint().exact(), json) {
        (None, JsonPart::Whole) => receive_text(body, app).await?,
        _ => receive(body, expected, app).await?,
    };
    let json_len = json.within(body.len() as u64, headers).map_err(text)?;
    Ok((body, json_len))
}

/// As [`receive_request`], of a body whose length says nothing about what is in it.
async fn receive_compressed(
    app: &App,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<(Bytes, usize), Reply> {
    let text = |error: Error| text_error(&error);
    let json = JsonPart::announced(headers).map_err(text)?;
    let body = receive_text(body, app).await?;
    let body = decompress(body, app.limits.max_input_size).await.map_err(text)?;
    let json_len = json.within(body.len() as u64, headers).map_err(text)?;
    Ok((body, json_len))
}

fn single_response(model: Arc<ModelVersion>) -> Result<Arc<ModelVersion>> {
    if model.config.decoupled() {
        return Err(Error::unsupported(
            "HTTP end point doesn't support models with decoupled transaction policy",
        ));
    }
    Ok(model)
}

fn unknown_encoding(error: &Error) -> Reply {
    let mut reply = text_error(error);
    reply.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
    reply
}

/// The tensors keep alive what they need of the body.
fn decode(model: &ModelVersion, body: Bytes, json_len: usize, max: usize) -> Result<InferRequest> {
    if json_len > 0 {
        return parse_infer_request(&model.config, &body, json_len, max);
    }
    if body.len() > max {
        return Err(Error::invalid_arg(format!(
            "Raw input has a byte_size ({} bytes) that exceeds the maximum allowed value of {max} \
             bytes. Use --http-max-input-size to increase the limit.",
            body.len()
        )));
    }
    raw_infer_request(&model.config, body)
}

async fn run(
    app: &App,
    model: Arc<ModelVersion>,
    version: Option<i64>,
    mut parsed: InferRequest,
    trace: Option<Arc<RequestTrace>>,
    encoding: Option<Encoding>,
) -> Reply {
    let id = parsed.id.clone();
    let name = model.name.clone();
    let delivery = match Delivery::prepare(&app.regions, &model, &mut parsed) {
        Ok(delivery) => delivery,
        Err(error) => return json_error(&error),
    };
    let call = model.call(|responder| {
        let trace = trace.clone().map(|trace| trace as Arc<dyn Trace>);
        Request { trace, ..parsed.into_request(name, version, responder) }
    });
    let Outcome { response, refused } = call.outcome().await;
    if let Some(trace) = trace {
        trace.send_starts();
    }
    match response.and_then(|response| delivery.deliver(response)) {
        Ok(response) => {
            let len = delivery.format().json_bytes(&response);
            let write = move || write_infer_response(&id, &response, delivery.format());
            match if len <= INLINE { write() } else { aside(len, write).await } {
                Ok(written) => infer_reply(written, encoding).await,
                Err(error) => json_error(&error),
            }
        }
        // Nothing the model did: Triton still answers that as JSON.
        Err(error) if refused => json_error(&error),
        Err(error) => text_error(&error),
    }
}
