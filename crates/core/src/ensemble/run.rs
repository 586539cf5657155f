//! One request on its way through an ensemble.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nereid_backend::BatchReport;
use nereid_inference::{
    Answer, Cancellation, CorrelationId, Error, Nesting, Parameter, Parameters, Request, Responder,
    Response, ResponseSink, Result, SEQUENCE_END, SEQUENCE_START, Tensor, Times,
};

use super::Ensemble;
use super::graph::Progress;

/// What all steps of a request share.
pub(super) struct Run {
    ensemble: Arc<Ensemble>,
    /// What steps take over from the request.
    template: Template,
    wanted: Vec<usize>,
    state: Mutex<State>,
}

struct Template {
    id: String,
    correlation: CorrelationId,
    flags: u32,
    priority: u64,
    timeout_us: u64,
    parameters: Parameters,
    cancellation: Cancellation,
    nesting: Nesting,
    batch_size: usize,
}

struct State {
    /// By their numbers in the graph.
    tensors: Vec<Option<Tensor>>,
    progress: Progress,
    /// `None` once the request has been answered.
    responder: Option<Responder>,
}

impl Run {
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
        let run = Arc::new(Self {
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
                batch_size: request.batch_size,
            },
            wanted,
            state: Mutex::new(State { tensors, progress, responder: Some(responder) }),
        });
        run.advance();
    }

    /// Starts what can start; answers when nothing is left. The lock is never held while another
    /// model is asked: it may answer at once, and come back here.
    fn advance(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.responder.is_none() {
            return;
        }
        if self.template.cancellation.is_cancelled() {
            self.finish(state, Err(Error::cancelled()));
            return;
        }
        let State { tensors, progress, .. } = &mut *state;
        let ready = progress.next(&self.ensemble.graph, |tensor| tensors[tensor].is_some());
        if ready.is_empty() {
            if progress.is_over() {
                let outcome = self.outputs(&state.tensors);
                self.finish(state, outcome);
            }
            return;
        }
        let requests: Vec<Request> =
            ready.into_iter().map(|step| self.step_request(step, &state.tensors)).collect();
        drop(state);
        for request in requests {
            self.ensemble.service.infer(request);
        }
    }

    /// The request to the model of a step. Its tensors are those of the ensemble, not copies.
    fn step_request(self: &Arc<Self>, index: usize, tensors: &[Option<Tensor>]) -> Request {
        let step = &self.ensemble.graph.steps[index];
        let Template { id, correlation, flags, priority, timeout_us, parameters, .. } =
            &self.template;
        let sink = Box::new(StepSink { run: self.clone(), step: index });
        // An optional input of the ensemble that was not sent is not sent on either.
        let input = |(name, number): &(String, usize)| {
            let tensor = tensors[*number].clone()?;
            Some(Tensor { name: name.clone(), ..tensor })
        };
        Request {
            id: id.clone(),
            correlation: correlation.clone(),
            flags: *flags,
            priority: *priority,
            timeout_us: *timeout_us,
            parameters: parameters.clone(),
            inputs: step.inputs.iter().filter_map(input).collect(),
            requested_outputs: step.outputs.iter().map(|(name, _)| name.clone()).collect(),
            cancellation: self.template.cancellation.clone(),
            // An ensemble holds nothing while it waits for its steps.
            nesting: Nesting { called: self.template.nesting.called, ..Nesting::default() },
            ..Request::new(&step.model, step.version, Responder::new(sink))
        }
    }

    fn step_answered(self: &Arc<Self>, step: usize, answer: Answer) {
        let mut state = self.lock();
        match answer.response {
            Some(Ok(response)) => self.keep(step, response, &mut state.tensors),
            Some(Err(error)) => {
                // Cancellation has no words of its own.
                let error = if error.message().is_empty() { error } else { self.context(error) };
                self.finish(state, Err(error));
                return;
            }
            None => {}
        }
        if answer.last {
            state.progress.step_done();
            drop(state);
            self.advance();
        }
    }

    fn keep(&self, step: usize, response: Response, tensors: &mut [Option<Tensor>]) {
        let outputs = &self.ensemble.graph.steps[step].outputs;
        for tensor in response.outputs {
            if let Some((_, number)) = outputs.iter().find(|(name, _)| *name == tensor.name) {
                let name = self.ensemble.graph.tensors[*number].clone();
                tensors[*number] = Some(Tensor { name, ..tensor });
            }
        }
    }

    fn outputs(&self, tensors: &[Option<Tensor>]) -> Result<Response> {
        let outputs: Option<Vec<Tensor>> =
            self.wanted.iter().map(|&number| tensors[number].clone()).collect();
        let outputs = outputs.ok_or_else(|| {
            self.context(Error::invalid_arg(
                "unexpected deadlock, at least one output is not set while no more ensemble steps \
                 can be made",
            ))
        })?;
        Ok(Response { parameters: self.echo(), ..Response::new(outputs) })
    }

    /// Triton repeats the request's place in a sequence in every response of an ensemble.
    fn echo(&self) -> Parameters {
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

    fn finish(&self, mut state: MutexGuard<'_, State>, outcome: Result<Response>) {
        let Some(mut responder) = state.responder.take() else { return };
        state.tensors.iter_mut().for_each(|tensor| *tensor = None);
        drop(state);
        let now = Instant::now();
        responder.times.computed = Some(now);
        let started = responder.times.started.unwrap_or(now);
        if outcome.is_ok() {
            self.ensemble.recorder.record_batch(&BatchReport {
                size: self.template.batch_size,
                started,
                input_ready: started,
                computed: now,
                ended: now,
            });
        }
        responder.answer(outcome);
    }

    fn context(&self, error: Error) -> Error {
        Error::new(
            error.code(),
            format!("in ensemble '{}', {}", self.ensemble.name, error.message()),
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the answer of a step back.
struct StepSink {
    run: Arc<Run>,
    step: usize,
}

impl ResponseSink for StepSink {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        self.run.step_answered(self.step, answer);
    }
}
