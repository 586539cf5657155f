//! One trace.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nereid_inference::{Begin, Error, Tensor, Times, Trace};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::json::tensor;
use crate::settings::Level;
use crate::span::Family;
use crate::tracer::Shared;

/// Over which protocol a request came; it names the moments at the socket.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    Http,
    Grpc,
}

/// Follows one request, and is written when nobody holds it any more.
pub struct RequestTrace {
    tracer: Arc<Shared>,
    level: Level,
    /// How many traces go into a file.
    log_frequency: u32,
    family: Family,
    record: Mutex<Record>,
}

/// What a trace has seen.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) socket: Option<Socket>,
    pub(crate) model: Option<Taken>,
    pub(crate) times: Option<Times>,
    pub(crate) end: Option<Instant>,
    pub(crate) error: Option<String>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
}

#[derive(Debug)]
pub(crate) struct Socket {
    protocol: Protocol,
    pub(crate) receive_start: Instant,
    pub(crate) receive_end: Instant,
    send_start: Option<Instant>,
    pub(crate) send_end: Option<Instant>,
}

/// A model took the request in.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) request_id: String,
    pub(crate) begin: Instant,
}

impl RequestTrace {
    pub(crate) fn new(
        tracer: Arc<Shared>,
        (level, log_frequency): (Level, u32),
        family: Family,
        parent: Option<u64>,
    ) -> Self {
        let record = Record { id: tracer.next_id(), parent, ..Record::default() };
        Self { tracer, level, log_frequency, family, record: Mutex::new(record) }
    }

    /// The whole request has been received.
    pub(crate) fn received(&self, protocol: Protocol, since: Instant) {
        self.lock().socket = Some(Socket {
            protocol,
            receive_start: since,
            receive_end: Instant::now(),
            send_start: None,
            send_end: None,
        });
    }

    /// The answer is being made into bytes.
    pub fn send_starts(&self) {
        if let Some(socket) = &mut self.lock().socket {
            socket.send_start = Some(Instant::now());
        }
    }

    /// The answer is on its way to the client.
    pub fn sent(&self) {
        if let Some(socket) = &mut self.lock().socket {
            socket.send_end = Some(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trace for RequestTrace {
    fn child(&self) -> Arc<dyn Trace> {
        let model = self.family.model;
        let family =
            Family { request: model, model: model.another(), parent: model.span, is_root: false };
        let (tracer, id) = (self.tracer.clone(), self.lock().id);
        Arc::new(Self::new(tracer, (self.level, self.log_frequency), family, Some(id)))
    }

    fn begin(&self, Begin { model, version, id, inputs }: Begin<'_>) {
        let mut record = self.lock();
        let (name, request_id) = (model.to_owned(), id.to_owned());
        record.model = Some(Taken { name, version, request_id, begin: Instant::now() });
        if self.level.tensors {
            record.inputs = inputs.iter().map(tensor).collect();
        }
    }

    fn outputs(&self, outputs: &[Tensor]) {
        if self.level.tensors {
            self.lock().outputs.extend(outputs.iter().map(tensor));
        }
    }

    fn end(&self, times: &Times, error: Option<&Error>) {
        let mut record = self.lock();
        record.times = Some(*times);
        record.end = Some(Instant::now());
        record.error = error.map(|error| error.message().to_owned());
    }

    fn context(&self) -> Option<String> {
        let header = self.family.model.header();
        self.tracer.follows_spans().then(|| json!({ "traceparent": header }).to_string())
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        let record = std::mem::take(self.record.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.tracer.write(&record, &self.family, self.level, self.log_frequency);
    }
}

impl Record {
    /// The elements of a trace file.
    pub(crate) fn elements(&self, level: Level, clock: &Clock) -> Vec<String> {
        let id = self.id;
        let mut elements = Vec::new();
        if let Some(model) = &self.model {
            let mut about = format!(
                "{{\"id\":{id},\"model_name\":{},\"model_version\":{}",
                json!(model.name),
                model.version
            );
            if !model.request_id.is_empty() {
                about += &format!(",\"request_id\":{}", json!(model.request_id));
            }
            if let Some(parent) = self.parent {
                about += &format!(",\"parent_id\":{parent}");
            }
            elements.push(about + "}");
        }
        if level.timestamps {
            for (name, at) in self.timestamps() {
                let ns = clock.monotonic_ns(at);
                elements.push(format!(
                    "{{\"id\":{id},\"timestamps\":[{{\"name\":\"{name}\",\"ns\":{ns}}}]}}"
                ));
            }
        }
        let tensors =
            [("TENSOR_QUEUE_INPUT", &self.inputs), ("TENSOR_BACKEND_OUTPUT", &self.outputs)];
        for (activity, tensors) in tensors {
            for tensor in tensors {
                elements.push(format!(
                    "{{\"id\":{id},\"activity\":\"{activity}\",\"tensor\":{tensor}}}"
                ));
            }
        }
        elements
    }

    /// Triton's names of the stations, in their order.
    fn timestamps(&self) -> Vec<(&'static str, Instant)> {
        let mut all: Vec<(&'static str, Option<Instant>)> = Vec::new();
        let names = match self.socket.as_ref().map(|socket| socket.protocol) {
            Some(Protocol::Grpc) => {
                ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "GRPC_SEND_START", "GRPC_SEND_END"]
            }
            _ => ["HTTP_RECV_START", "HTTP_RECV_END", "HTTP_SEND_START", "HTTP_SEND_END"],
        };
        if let Some(socket) = &self.socket {
            all.push((names[0], Some(socket.receive_start)));
            all.push((names[1], Some(socket.receive_end)));
        }
        all.push(("REQUEST_START", self.model.as_ref().map(|model| model.begin)));
        if let Some(times) = &self.times {
            all.push(("QUEUE_START", times.queued));
            all.push(("COMPUTE_START", times.started));
            all.push(("COMPUTE_INPUT_END", times.input_ready));
            all.push(("COMPUTE_OUTPUT_START", times.computed));
            all.push(("COMPUTE_END", times.started.and(self.end)));
        }
        if self.parent.is_none() {
            all.push(("INFER_RESPONSE_COMPLETE", self.end));
        }
        all.push(("REQUEST_END", self.end));
        if let Some(socket) = &self.socket {
            all.push((names[2], socket.send_start));
            all.push((names[3], socket.send_end));
        }
        all.into_iter().filter_map(|(name, at)| Some((name, at?))).collect()
    }
}
