//! One pass through the steps of an ensemble: with the request's tensors, or with those of one
//! response of a decoupled step, through the steps that follow from it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nereid_inference::{
    Answer, Error, Nesting, Request, Responder, Response, ResponseSink, Tensor, Times, Window,
    log_prefix,
};

use super::gates::{Hold, Turn};
use super::graph::Progress;
use super::patience::Watched;
use super::run::{Run, Template};

pub(super) struct Cycle {
    run: Arc<Run>,
    state: Mutex<State>,
}

struct State {
    /// By their numbers in the graph.
    tensors: Vec<Option<Tensor>>,
    progress: Progress,
    over: bool,
}

impl Cycle {
    pub(super) fn new(
        run: Arc<Run>,
        tensors: Vec<Option<Tensor>>,
        progress: Progress,
    ) -> Arc<Self> {
        Arc::new(Self { run, state: Mutex::new(State { tensors, progress, over: false }) })
    }

    /// Starts what can start. The lock is never held while another model is asked: it may answer
    /// at once, and come back here. `hold` is what has led here, where the ensemble is limited.
    pub(super) fn advance(self: &Arc<Self>, hold: Option<Hold>) {
        if self.run.is_over() {
            return;
        }
        let graph = &self.run.ensemble.graph;
        let mut state = self.lock();
        let State { tensors, progress, .. } = &mut *state;
        let ready = progress.next(graph, |tensor| tensors[tensor].is_some());
        if ready.is_empty() {
            if progress.is_over() && !std::mem::replace(&mut state.over, true) {
                let tensors = std::mem::take(&mut state.tensors);
                drop(state);
                self.end(tensors);
            }
            return;
        }
        drop(state);
        let hold = hold.map(Arc::new);
        for step in ready {
            let turn = Turn { cycle: self.clone(), step, _hold: hold.clone() };
            match &self.run.ensemble.gates {
                Some(gates) => gates.enter(turn),
                None => turn.start(),
            }
        }
    }

    /// Asks the model of a step.
    pub(super) fn start(self: &Arc<Self>, step: usize) {
        let request = self.step_request(step, &self.lock().tensors);
        self.run.ensemble.service.infer(request);
    }

    /// Whether a model has made the request.
    pub(super) fn is_called(&self) -> bool {
        self.run.template.nesting.called
    }

    pub(super) fn is_of(&self, run: &Run) -> bool {
        std::ptr::eq(&raw const *self.run, run)
    }

    pub(super) fn is_over(&self) -> bool {
        self.run.is_over()
    }

    /// The request to the model of a step. Its tensors are those of the ensemble, not copies.
    fn step_request(self: &Arc<Self>, index: usize, tensors: &[Option<Tensor>]) -> Request {
        let step = &self.run.ensemble.graph.steps[index];
        let Template { id, correlation, flags, priority, timeout_us, parameters, .. } =
            &self.run.template;
        let window = self.run.window(index);
        let known = window.as_ref().map(|watched| watched.window.clone());
        let sink = StepSink { cycle: self.clone(), step: index, window };
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
            cancellation: self.run.template.cancellation.clone(),
            // What is left of the time for the whole.
            deadline: self.run.template.deadline,
            trace: self.run.template.trace.as_ref().map(|trace| trace.child()),
            // An ensemble holds nothing while it waits for its steps.
            nesting: Nesting { called: self.run.template.nesting.called, ..Nesting::default() },
            window: known,
            ..Request::new(&step.model, step.version, Responder::new(Box::new(sink)))
        }
    }

    fn step_answered(self: &Arc<Self>, step: usize, answer: Answer, window: Option<&Window>) {
        // Whatever becomes of the answer, what it holds is given back by then.
        let hold = answer.last.then(|| self.run.hold(step)).flatten();
        let place = window.filter(|_| answer.response.is_some()).map(Window::take);
        match answer.response {
            Some(Ok(response)) if self.run.ensemble.graph.steps[step].decoupled => {
                self.branch(step, response, place.map(|place| Hold::Response { _place: place }));
            }
            Some(Ok(response)) => self.keep(step, response, &mut self.lock().tensors),
            Some(Err(error)) => {
                // Cancellation has no words of its own.
                let silent = error.message().is_empty();
                return self.run.fail(if silent { error } else { self.run.context(error) });
            }
            None => {}
        }
        if answer.last {
            self.lock().progress.step_done();
            self.advance(hold);
        }
    }

    /// What follows from a response of a decoupled step is a cycle of its own.
    fn branch(&self, step: usize, response: Response, hold: Option<Hold>) {
        if self.run.is_over() {
            return;
        }
        let state = self.lock();
        let mut tensors = state.tensors.clone();
        let progress = state.progress.after(&self.run.ensemble.graph, step);
        drop(state);
        self.keep(step, response, &mut tensors);
        self.run.branch();
        Self::new(self.run.clone(), tensors, progress).advance(hold);
    }

    fn keep(&self, step: usize, response: Response, tensors: &mut [Option<Tensor>]) {
        let graph = &self.run.ensemble.graph;
        for tensor in response.outputs {
            let mut outputs = graph.steps[step].outputs.iter();
            if let Some((_, number)) = outputs.find(|(name, _)| *name == tensor.name)
                && let Some(place) = tensors.get_mut(*number)
            {
                let name = graph.tensors[*number].clone();
                *place = Some(Tensor { name, ..tensor });
            }
        }
    }

    /// All steps are done. A cycle that has branched leaves the responses to its branches.
    fn end(&self, mut tensors: Vec<Option<Tensor>>) {
        let run = &self.run;
        let outputs: Option<Vec<Tensor>> =
            run.wanted.iter().map(|&number| tensors[number].take()).collect();
        if outputs.is_none() && !run.ensemble.graph.is_decoupled() {
            return run.fail(run.context(Error::invalid_arg(format!(
                "{}unexpected deadlock, at least one output is not set while no more ensemble \
                 steps can be made",
                log_prefix(&run.template.id)
            ))));
        }
        let response =
            outputs.map(|outputs| Response { parameters: run.echo(), ..Response::new(outputs) });
        drop(tensors);
        run.cycle_over(response);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the answer of a step back.
struct StepSink {
    cycle: Arc<Cycle>,
    step: usize,
    window: Option<Watched>,
}

impl ResponseSink for StepSink {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        let window = self.window.as_ref().map(|watched| &watched.window);
        self.cycle.step_answered(self.step, answer, window);
    }

    /// The next steps decide.
    fn takes_devices(&self) -> bool {
        true
    }
}
