//! One version of a model that serves: its configuration, its instances, its statistics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nereid_inference::{Begin, DataType, Request, Result, Tensor};
use nereid_metrics::Labels;
use nereid_model_config::ModelConfig;
use nereid_repository::ModelFolder;

use crate::admit::Signature;
use crate::caching::Caching;
use crate::ensemble::Ensemble;
use crate::labels::Labels as ClassLabels;
use crate::latency_target::LatencyTarget;
use crate::limits::Limiter;
use crate::pool::Pool;
use crate::reshape::Reshapes;
use crate::statistics::{Observer, Recorder};

pub struct ModelVersion {
    pub name: String,
    pub version: i64,
    pub config: Arc<ModelConfig>,
    /// Stays where it is while the version serves: workers that start again read it.
    pub(crate) _folder: ModelFolder,
    pub(crate) signature: Signature,
    pub(crate) reshapes: Reshapes,
    pub(crate) labels: ClassLabels,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) scheduler: Scheduler,
    /// Where the server has one.
    pub(crate) limiter: Option<Arc<Limiter>>,
    /// Where its configuration names one.
    pub(crate) latency_target: Option<LatencyTarget>,
    /// Where responses are cached.
    pub(crate) caching: Option<Caching>,
    /// What tells its metrics from those of others.
    pub(crate) metric_labels: Labels,
    pub(crate) load_duration: Duration,
}

/// Where admitted requests go.
pub(crate) enum Scheduler {
    /// To instances of the model's own.
    Pool(Arc<Pool>),
    /// To other models.
    Ensemble(Arc<Ensemble>),
}

impl ModelVersion {
    /// The name of a class of an output, if its labels have one.
    pub fn label(&self, output: &str, class: usize) -> Option<&str> {
        self.labels.get(output, class)
    }

    /// Whether it has instances of its own, unlike an ensemble.
    pub(crate) fn runs_itself(&self) -> bool {
        matches!(self.scheduler, Scheduler::Pool(_))
    }

    /// Says, now or a little later, whether it would execute a request.
    pub(crate) fn is_ready(&self, answer: Box<dyn FnOnce(bool) + Send>) {
        match &self.scheduler {
            Scheduler::Pool(pool) => pool.is_ready(answer),
            Scheduler::Ensemble(_) => answer(true),
        }
    }

    /// How many requests wait to be run.
    pub(crate) fn pending(&self) -> usize {
        match &self.scheduler {
            Scheduler::Pool(pool) => pool.pending(),
            Scheduler::Ensemble(_) => 0,
        }
    }

    /// Takes a request in: checks it, lets statistics watch its answers, puts it into the queue.
    ///
    /// Third stop of a request, after its model was found and before an instance runs it. What is
    /// refused here is answered at once and does not count as an inference.
    pub fn submit(self: &Arc<Self>, mut request: Request) {
        if let Err(error) = self.admit(&mut request) {
            request.responder.answer(Err(error));
            return;
        }
        let trace = request.trace.clone();
        if let Some(trace) = &trace {
            trace.begin(self.beginning(&request));
        }
        request.responder.times.queued = Some(Instant::now());
        let batch_size = request.batch_size;
        request.responder.wrap(|inner| Observer::new(inner, self, batch_size, trace));
        if request.nesting.caller_holds
            && let Some(limiter) = &self.limiter
        {
            limiter.watch_call(&mut request);
        }
        if let Some(target) = self.latency_target {
            target.apply(&mut request);
        }
        match &self.caching {
            Some(caching) => caching.submit(self, request),
            None => self.enqueue(request),
        }
    }

    fn admit(&self, request: &mut Request) -> Result<()> {
        let taken = self.takes_devices(request);
        // Strings are looked at to see where they end.
        let stays = |input: &Tensor| taken && input.datatype != DataType::Bytes;
        request
            .inputs
            .iter_mut()
            .filter(|input| !stays(input))
            .try_for_each(Tensor::bring_to_host)?;
        self.signature.admit(&self.name, request)
    }

    /// Whether the inputs of a request may stay in the memory of a GPU. A trace may show them, and the
    /// key of a cached response is made of them.
    fn takes_devices(&self, request: &Request) -> bool {
        let taken = match &self.scheduler {
            Scheduler::Pool(pool) => pool.takes_devices(),
            // Its steps decide.
            Scheduler::Ensemble(_) => true,
        };
        taken && request.trace.is_none() && self.caching.is_none()
    }

    /// Somebody has gone who may be waiting in the queue.
    pub(crate) fn look_again(&self) {
        match &self.scheduler {
            Scheduler::Pool(pool) => pool.pump(),
            Scheduler::Ensemble(_) => {}
        }
    }

    fn beginning<'a>(&'a self, request: &'a Request) -> Begin<'a> {
        Begin { model: &self.name, version: self.version, id: &request.id, inputs: &request.inputs }
    }

    /// Into the queue with a request that only the model can answer.
    pub(crate) fn enqueue(&self, mut request: Request) {
        self.reshapes.apply_to_inputs(&mut request.inputs);
        match &self.scheduler {
            Scheduler::Pool(pool) => pool.submit(request),
            Scheduler::Ensemble(ensemble) => ensemble.submit(request),
        }
    }
}
