//! From a trace to spans.

use std::time::Instant;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::context::SpanContext;
use crate::record::Record;

const INTERNAL: u8 = 1;
const SERVER: u8 = 2;

/// Where a trace stands among the spans of its trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    /// The request at the socket; a child's has it from its parent.
    pub(crate) request: SpanContext,
    /// The request at its model.
    pub(crate) model: SpanContext,
    /// The parent of the first of the two that belongs to this trace; 0: there is none.
    pub(crate) parent: u64,
    pub(crate) is_root: bool,
}

/// The spans of a trace that has ended, in OTLP's JSON.
pub(crate) fn spans(family: &Family, record: &Record, clock: &Clock) -> Vec<Value> {
    let mut spans = Vec::new();
    if let Some(model) = &record.model {
        let parent = if family.is_root { family.request.span } else { family.parent };
        let mut attributes = vec![
            attribute("triton.model_name", &model.name),
            json!({ "key": "triton.model_version", "value": { "intValue": model.version.to_string() } }),
            json!({ "key": "triton.trace_id", "value": { "intValue": record.id.to_string() } }),
        ];
        if let Some(parent) = record.parent {
            attributes.push(json!({
                "key": "triton.trace_parent_id", "value": { "intValue": parent.to_string() }
            }));
        }
        if !model.request_id.is_empty() {
            attributes.push(attribute("triton.request_id", &model.request_id));
        }
        let (begin, end) = (model.begin, record.end.unwrap_or(model.begin));
        let of_model = Span { context: family.model, parent, name: &model.name, kind: INTERNAL };
        let mut span = of_model.json(begin, end, attributes, clock);
        if let Some(error) = &record.error {
            span["status"] = json!({ "code": 2, "message": error });
        }
        spans.push(span);
        if let Some(times) = &record.times {
            let mut part = |name, from: Option<Instant>, to: Option<Instant>| {
                if let (Some(from), Some(to)) = (from, to) {
                    let context = family.model.another();
                    let span = Span { context, parent: family.model.span, name, kind: INTERNAL };
                    spans.push(span.json(from, to, Vec::new(), clock));
                }
            };
            part("queue", times.queued, times.started);
            part("compute", times.started, times.computed.or(record.end));
        }
    }
    if let (true, Some(socket)) = (family.is_root, &record.socket) {
        let context = family.request;
        let span = Span { context, parent: family.parent, name: "InferRequest", kind: SERVER };
        let end = socket.send_end.or(record.end).unwrap_or(socket.receive_end);
        spans.push(span.json(socket.receive_start, end, Vec::new(), clock));
    }
    spans
}

struct Span<'a> {
    context: SpanContext,
    parent: u64,
    name: &'a str,
    kind: u8,
}

impl Span<'_> {
    fn json(&self, from: Instant, to: Instant, attributes: Vec<Value>, clock: &Clock) -> Value {
        let mut span = json!({
            "traceId": format!("{:032x}", self.context.trace),
            "spanId": format!("{:016x}", self.context.span),
            "name": self.name,
            "kind": self.kind,
            "startTimeUnixNano": clock.epoch_ns(from).to_string(),
            "endTimeUnixNano": clock.epoch_ns(to).to_string(),
            "attributes": attributes,
        });
        if self.parent != 0 {
            span["parentSpanId"] = json!(format!("{:016x}", self.parent));
        }
        span
    }
}

pub(crate) fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}
