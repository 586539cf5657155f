//! One request on its way through an ensemble: what all its steps share, and its way out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nereid_backend::BatchReport;
use nereid_inference::{
    Cancellation, CorrelationId, Error, Nesting, Parameter, Parameters, Request, Responder,
    Response, Result, SEQUENCE_END, SEQUENCE_START, Tensor, Trace, Window,
};

use super::Ensemble;
use super::cycle::Cycle;
use super::gates::Hold;
use super::patience::Watched;

/// A request. It goes through the steps in cycles: one of its own, and one for each response of a
/// decoupled step. It is over when all of them are, or when anything fails.
pub(super) struct Run {
    pub(super) ensemble: Arc<Ensemble>,
    pub(super) template: Template,
    pub(super) wanted: Vec<usize>,
    exit: Mutex<Exit>,
    /// It has its last answer, or is about to.
    over: AtomicBool,
}

/// What steps take over from the request.
pub(super) struct Template {
    pub(super) id: String,
    pub(super) correlation: CorrelationId,
    pub(super) flags: u32,
    pub(super) priority: u64,
    pub(super) timeout_us: u64,
    pub(super) parameters: Parameters,
    pub(super) cancellation: Cancellation,
    pub(super) nesting: Nesting,
    pub(super) deadline: Option<Instant>,
    pub(super) trace: Option<Arc<dyn Trace>>,
    batch_size: usize,
}

struct Exit {
    /// `None` while somebody sends, and once the last answer was sent.
    responder: Option<Responder>,
    /// Left by those who came while somebody was sending.
    queue: VecDeque<Outgoing>,
    /// Cycles that are not over.
    open: usize,
}

struct Outgoing {
    response: Option<Result<Response>>,
    last: bool,
}

pub(super) fn start(ensemble: &Arc<Ensemble>, request: Request) {
    let graph = &ensemble.graph;
    let wanted = graph.wanted(|name| request.wants(name));
    let mut tensors: Vec<Option<Tensor>> = graph.tensors.iter().map(|_| None).collect();
    for input in request.inputs {
        if let Some(number) = graph.tensor(&input.name) {
            tensors[number] = Some(input);
        }
    }
    let mut responder = request.responder;
    let now = Instant::now();
    responder.times.started = Some(now);
    responder.times.input_ready = Some(now);
    let progress = graph.start(&wanted);
    let run = Arc::new(Run {
        ensemble: ensemble.clone(),
        template: Template {
            id: request.id,
            correlation: request.correlation,
            flags: request.flags,
            priority: request.priority,
            timeout_us: request.timeout_us,
            parameters: request.parameters,
            cancellation: request.cancellation,
            nesting: request.nesting,
            deadline: request.deadline,
            trace: request.trace,
            batch_size: request.batch_size,
        },
        wanted,
        exit: Mutex::new(Exit { responder: Some(responder), queue: VecDeque::new(), open: 1 }),
        over: AtomicBool::new(false),
    });
    Cycle::new(run, tensors, progress).advance(None);
}

impl Run {
    /// Whether nothing more is to be done: it is answered, or nobody wants the answer any more.
    pub(super) fn is_over(&self) -> bool {
        if self.template.cancellation.is_cancelled() {
            self.fail(Error::cancelled());
        } else if self.template.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            let missed = "Request has missed its latency target before its last step";
            self.fail(self.context(Error::unavailable(missed)));
        }
        self.over.load(Ordering::Acquire)
    }

    /// A further cycle begins.
    pub(super) fn branch(&self) {
        self.exit().open += 1;
    }

    /// The place of a step that has been answered, where the ensemble limits what is in flight.
    pub(super) fn hold(self: &Arc<Self>, step: usize) -> Option<Hold> {
        let limited = self.ensemble.gates.is_some();
        limited.then(|| Hold::Step { run: self.clone(), step })
    }

    /// What keeps the model of a decoupled step from sending responses that cannot go on: one may
    /// wait, as in Triton, where `send` returns when what follows has started.
    pub(super) fn window(&self, step: usize) -> Option<Watched> {
        let Ensemble { graph, gates, reactor, name, .. } = &*self.ensemble;
        let waits = gates.is_some() && graph.can_wait(step);
        waits.then(|| Watched::new(Window::new(1), reactor, name))
    }

    /// A cycle has come to its end, perhaps with a response.
    pub(super) fn cycle_over(&self, response: Option<Response>) {
        let mut exit = self.exit();
        exit.open -= 1;
        let last = exit.open == 0;
        if last && self.over.swap(true, Ordering::AcqRel) {
            return;
        }
        if response.is_some() || last {
            self.send(exit, Outgoing { response: response.map(Ok), last });
        }
    }

    pub(super) fn fail(&self, error: Error) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.send(self.exit(), Outgoing { response: Some(Err(error)), last: true });
            if let Some(gates) = &self.ensemble.gates {
                gates.forget(self);
            }
        }
    }

    /// Sends, or leaves it to who is sending already: no lock is held while an answer goes out.
    fn send<'a>(&'a self, mut exit: MutexGuard<'a, Exit>, outgoing: Outgoing) {
        let mut next = Some(outgoing);
        while let Some(outgoing) = next.take() {
            let Some(mut responder) = exit.responder.take() else {
                exit.queue.push_back(outgoing);
                return;
            };
            drop(exit);
            match outgoing {
                Outgoing { response, last: true } => return self.end(responder, response),
                Outgoing { response, last: false } => {
                    response.into_iter().for_each(|response| responder.send(response));
                }
            }
            exit = self.exit();
            exit.responder = Some(responder);
            next = exit.queue.pop_front();
        }
    }

    fn end(&self, mut responder: Responder, response: Option<Result<Response>>) {
        let now = Instant::now();
        responder.times.computed = Some(now);
        let started = responder.times.started.unwrap_or(now);
        // As Triton, which counts an ensemble's executions only where they end well.
        if !matches!(response, Some(Err(_))) {
            self.ensemble.recorder.record_batch(&BatchReport {
                size: self.template.batch_size,
                started,
                input_ready: started,
                computed: now,
                ended: now,
            });
        }
        match response {
            Some(response) => responder.answer(response),
            None => responder.finish(),
        }
    }

    /// Triton repeats the request's place in a sequence in every response of an ensemble.
    pub(super) fn echo(&self) -> Parameters {
        let id = match &self.template.correlation {
            CorrelationId::None => Parameter::Int(0),
            CorrelationId::Number(number) => Parameter::Int(number.cast_signed()),
            CorrelationId::Text(text) => Parameter::String(text.clone()),
        };
        let flag = |flag| Parameter::Bool(self.template.flags & flag != 0);
        vec![
            ("sequence_id".to_owned(), id),
            ("sequence_start".to_owned(), flag(SEQUENCE_START)),
            ("sequence_end".to_owned(), flag(SEQUENCE_END)),
        ]
    }

    pub(super) fn context(&self, error: Error) -> Error {
        Error::new(
            error.code(),
            format!("in ensemble '{}', {}", self.ensemble.name, error.message()),
        )
    }

    fn exit(&self) -> MutexGuard<'_, Exit> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
