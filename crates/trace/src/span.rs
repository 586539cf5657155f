//! From a trace to spans.

use std::time::Instant;

use crate::clock::Clock;
use crate::context::SpanContext;
use crate::messages::{KeyValue, Span, SpanKind, Status, StatusCode};
use crate::record::{Record, Taken};

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

/// The spans of a trace that has ended.
pub(crate) fn spans(family: &Family, record: &Record, clock: &Clock) -> Vec<Span> {
    let mut spans = Vec::new();
    if let Some(model) = &record.model {
        let parent = if family.is_root { family.request.span } else { family.parent };
        let (begin, end) = (model.begin, record.end.unwrap_or(model.begin));
        let place = Place { context: family.model, parent, kind: SpanKind::Internal };
        spans.push(Span {
            attributes: attributes(model, record),
            status: record
                .error
                .clone()
                .map(|message| Status { message, code: StatusCode::Error.into() }),
            ..place.span(&model.name, begin, end, clock)
        });
        if let Some(times) = &record.times {
            let mut part = |name, from: Option<Instant>, to: Option<Instant>| {
                if let (Some(from), Some(to)) = (from, to) {
                    let (context, parent) = (family.model.another(), family.model.span);
                    let place = Place { context, parent, kind: SpanKind::Internal };
                    spans.push(place.span(name, from, to, clock));
                }
            };
            part("queue", times.queued, times.started);
            part("compute", times.started, times.computed.or(record.end));
        }
    }
    if let (true, Some(socket)) = (family.is_root, &record.socket) {
        let place =
            Place { context: family.request, parent: family.parent, kind: SpanKind::Server };
        let end = socket.send_end.or(record.end).unwrap_or(socket.receive_end);
        spans.push(place.span("InferRequest", socket.receive_start, end, clock));
    }
    spans
}

fn attributes(model: &Taken, record: &Record) -> Vec<KeyValue> {
    let id = |id: u64| i64::try_from(id).unwrap_or(i64::MAX);
    let mut attributes = vec![
        KeyValue::text("triton.model_name", &model.name),
        KeyValue::number("triton.model_version", model.version),
        KeyValue::number("triton.trace_id", id(record.id)),
    ];
    if let Some(parent) = record.parent {
        attributes.push(KeyValue::number("triton.trace_parent_id", id(parent)));
    }
    if !model.request_id.is_empty() {
        attributes.push(KeyValue::text("triton.request_id", &model.request_id));
    }
    attributes
}

/// Where a span stands among the others.
struct Place {
    context: SpanContext,
    parent: u64,
    kind: SpanKind,
}

impl Place {
    fn span(&self, name: &str, from: Instant, to: Instant, clock: &Clock) -> Span {
        let parent = Some(self.parent).filter(|&parent| parent != 0);
        Span {
            trace_id: self.context.trace.to_be_bytes().to_vec(),
            span_id: self.context.span.to_be_bytes().to_vec(),
            parent_span_id: parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
            name: name.to_owned(),
            kind: self.kind.into(),
            start_time_unix_nano: clock.epoch_ns(from),
            end_time_unix_nano: clock.epoch_ns(to),
            ..Span::default()
        }
    }
}
