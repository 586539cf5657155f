//! Counts what a model version did, in the terms of Triton's statistics extension.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nereid_backend::BatchReport;
use nereid_inference::{
    Answer, CacheLookup, Code, Error, Response, ResponseSink, Result, Times, Trace,
};

use crate::latencies::Latencies;
use crate::model::{ModelVersion, Scheduler};

/// How often and for how long in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duration {
    pub count: u64,
    pub ns: u64,
}

/// A snapshot of one version's statistics.
#[derive(Clone, Debug, Default)]
pub struct ModelStatistics {
    pub name: String,
    pub version: i64,
    /// Milliseconds since the epoch; 0 before the first inference.
    pub last_inference_ms: u64,
    /// Inferences, a batch of n counting n.
    pub inference_count: u64,
    /// Executions, however large their batches.
    pub execution_count: u64,
    pub inference: InferStatistics,
    /// Failed requests by the reasons in [`FailureReason::ALL`].
    pub failures: [u64; 4],
    /// By batch size, ascending.
    pub batches: Vec<BatchStatistics>,
    /// Of decoupled models, by the position of a response among those to its request.
    pub responses: Vec<ResponseStatistics>,
}

/// Where the time of the first, second, … responses of a decoupled model went.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseStatistics {
    pub compute_infer: Duration,
    pub compute_output: Duration,
    pub success: Duration,
    pub fail: Duration,
    /// The model ended its responses without another one.
    pub empty_response: Duration,
    pub cancel: Duration,
}

/// Why a request failed, in the terms of Triton's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// By its scheduler, before it ran.
    Rejected,
    Canceled,
    /// By what ran it.
    Backend,
    Other,
}

impl FailureReason {
    pub const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// The value of the metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }

    fn of(error: &Error, times: &Times, scheduler: &Scheduler) -> Self {
        match scheduler {
            _ if error.code() == Code::Cancelled => Self::Canceled,
            // A step has failed, for whatever reason: that is counted where it did.
            Scheduler::Ensemble(_) => Self::Other,
            Scheduler::Pool(_) if times.started.is_none() => Self::Rejected,
            Scheduler::Pool(_) => Self::Backend,
        }
    }
}

/// Where the time of requests went.
#[derive(Clone, Copy, Debug, Default)]
pub struct InferStatistics {
    pub success: Duration,
    pub fail: Duration,
    pub queue: Duration,
    pub compute_input: Duration,
    pub compute_infer: Duration,
    pub compute_output: Duration,
    pub cache_hit: Duration,
    pub cache_miss: Duration,
}

/// Where the time of executions went, for one batch size.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchStatistics {
    pub batch_size: u64,
    pub compute_input: Duration,
    pub compute_infer: Duration,
    pub compute_output: Duration,
}

impl Duration {
    fn add(&mut self, from: Instant, to: Instant) {
        self.add_duration(to.saturating_duration_since(from));
    }

    fn add_duration(&mut self, duration: std::time::Duration) {
        self.count += 1;
        self.ns += nanoseconds(duration);
    }
}

pub(crate) fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// When a request that was answered passed the stations; one that it skipped took no time.
pub(crate) struct Path {
    pub(crate) arrived: Instant,
    pub(crate) queued: Instant,
    pub(crate) started: Instant,
    pub(crate) input_ready: Instant,
    pub(crate) computed: Instant,
    pub(crate) ended: Instant,
    pub(crate) cache: Option<CacheLookup>,
}

impl Path {
    fn new(times: &Times, ended: Instant) -> Self {
        let queued = times.queued.unwrap_or(times.arrived);
        let started = times.started.unwrap_or(queued);
        let input_ready = times.input_ready.unwrap_or(started);
        let computed = times.computed.unwrap_or(ended);
        let (arrived, cache) = (times.arrived, times.cache);
        Self { arrived, queued, started, input_ready, computed, ended, cache }
    }

    /// It was not answered from the cache.
    pub(crate) fn ran(&self) -> bool {
        !self.cache.is_some_and(|cache| cache.hit)
    }
}

/// Collects the statistics of one version.
pub(crate) struct Recorder(Mutex<Counters>);

struct Counters {
    last_used: Option<Instant>,
    last_inference_ms: u64,
    inference_count: u64,
    execution_count: u64,
    inference: InferStatistics,
    failures: [u64; 4],
    batches: BTreeMap<u64, BatchStatistics>,
    responses: Vec<ResponseStatistics>,
    latencies: Latencies,
}

impl Recorder {
    pub(crate) fn new(latencies: Latencies) -> Self {
        Self(Mutex::new(Counters {
            last_used: None,
            last_inference_ms: 0,
            inference_count: 0,
            execution_count: 0,
            inference: InferStatistics::default(),
            failures: [0; 4],
            batches: BTreeMap::new(),
            responses: Vec::new(),
            latencies,
        }))
    }

    pub(crate) fn latencies(&self) -> Latencies {
        self.lock().latencies.clone()
    }

    /// When it answered last: by a clock that nobody sets.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        self.lock().last_used
    }

    pub(crate) fn snapshot(&self, name: &str, version: i64) -> ModelStatistics {
        let counters = self.lock();
        ModelStatistics {
            name: name.to_owned(),
            version,
            last_inference_ms: counters.last_inference_ms,
            inference_count: counters.inference_count,
            execution_count: counters.execution_count,
            inference: counters.inference,
            failures: counters.failures,
            batches: counters.batches.values().copied().collect(),
            responses: counters.responses.clone(),
        }
    }

    pub(crate) fn record_batch(&self, report: &BatchReport) {
        let mut counters = self.lock();
        counters.execution_count += 1;
        let size = report.size as u64;
        let batch = counters.batches.entry(size).or_default();
        batch.batch_size = size;
        batch.compute_input.add(report.started, report.input_ready);
        batch.compute_infer.add(report.input_ready, report.computed);
        batch.compute_output.add(report.computed, report.ended);
    }

    fn record_success(&self, times: &Times, batch_size: usize, only_response: bool) {
        let path = Path::new(times, Instant::now());
        let mut counters = self.lock();
        counters.last_used = Some(path.ended);
        let Counters { inference, latencies, .. } = &mut *counters;
        inference.success.add(path.arrived, path.ended);
        latencies.record(&path);
        if only_response {
            latencies.record_first_response(path.arrived, path.ended);
        }
        if let Some(cache) = times.cache {
            if cache.hit {
                // No inference: nothing waited, nothing was computed.
                inference.queue.add(path.queued, path.queued);
                inference.cache_hit.add_duration(cache.duration);
                return;
            }
            inference.cache_miss.add_duration(cache.duration);
        }
        inference.queue.add(path.queued, path.started);
        inference.compute_input.add(path.started, path.input_ready);
        inference.compute_infer.add(path.input_ready, path.computed);
        inference.compute_output.add(path.computed, path.ended);
        counters.inference_count += batch_size as u64;
        counters.last_inference_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    }

    fn record_first_response(&self, times: &Times) {
        self.lock().latencies.record_first_response(times.arrived, Instant::now());
    }

    fn record_failure(&self, times: &Times, reason: FailureReason) {
        let mut counters = self.lock();
        counters.inference.fail.add(times.arrived, Instant::now());
        counters.failures[reason as usize] += 1;
    }

    fn record_response(&self, index: usize, since: Instant, response: Option<&Result<Response>>) {
        let now = Instant::now();
        let mut counters = self.lock();
        if counters.responses.len() <= index {
            counters.responses.resize_with(index + 1, ResponseStatistics::default);
        }
        let row = &mut counters.responses[index];
        let outcome = match response {
            Some(Ok(_)) => &mut row.success,
            Some(Err(error)) if error.code() == Code::Cancelled => &mut row.cancel,
            Some(Err(_)) => &mut row.fail,
            None => &mut row.empty_response,
        };
        outcome.add(since, now);
        if let Some(Ok(_)) = response {
            // Models do not say when they began with the outputs.
            row.compute_infer.add(since, now);
            row.compute_output.add(now, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Eighth stop of a request: watches its answers pass, the one place where they are counted, and
/// says who gave them.
pub(crate) struct Observer {
    inner: Box<dyn ResponseSink>,
    model: Arc<ModelVersion>,
    batch_size: usize,
    /// How many answers there were already.
    answers: usize,
    /// When the last of them came, if the model is decoupled.
    last_response: Option<Instant>,
    failed: Option<FailureReason>,
    /// Who else follows the request.
    trace: Option<Arc<dyn Trace>>,
}

impl Observer {
    pub(crate) fn new(
        inner: Box<dyn ResponseSink>,
        model: &Arc<ModelVersion>,
        batch_size: usize,
        trace: Option<Arc<dyn Trace>>,
    ) -> Self {
        Self {
            inner,
            model: model.clone(),
            batch_size,
            answers: 0,
            last_response: None,
            failed: None,
            trace,
        }
    }

    fn record_response(&mut self, answer: &Answer, times: &Times) {
        let began = times.input_ready.or(times.started).unwrap_or(times.arrived);
        let since = self.last_response.replace(Instant::now()).unwrap_or(began);
        self.model.recorder.record_response(self.answers, since, answer.response.as_ref());
    }
}

impl ResponseSink for Observer {
    fn deliver(&mut self, mut answer: Answer, times: &Times) {
        match &mut answer.response {
            Some(Ok(response)) => {
                response.model.clone_from(&self.model.name);
                response.version = self.model.version;
                self.model.reshapes.apply_to_outputs(&mut response.outputs);
            }
            // What a model says after it has computed is its answer, as Triton counts it, even if
            // it is an error.
            Some(Err(_)) if self.model.runs_itself() && times.computed.is_some() => {}
            Some(Err(error)) => {
                self.failed = Some(FailureReason::of(error, times, &self.model.scheduler));
            }
            None => {}
        }
        if self.model.config.decoupled() {
            self.record_response(&answer, times);
        }
        let first = self.answers == 0;
        self.answers += 1;
        let recorder = &self.model.recorder;
        match self.failed {
            Some(reason) if answer.last => recorder.record_failure(times, reason),
            None if answer.last => recorder.record_success(times, self.batch_size, first),
            None if first => recorder.record_first_response(times),
            _ => {}
        }
        if let Some(trace) = &self.trace {
            // An ensemble has no stations of its own after the queue: its steps have theirs.
            let stations = match self.model.runs_itself() {
                true => *times,
                false => Times { started: None, input_ready: None, computed: None, ..*times },
            };
            tell(trace.as_ref(), &answer, &stations);
        }
        self.inner.deliver(answer, times);
    }

    fn takes_devices(&self) -> bool {
        self.trace.is_none() && self.inner.takes_devices()
    }
}

fn tell(trace: &dyn Trace, answer: &Answer, times: &Times) {
    if let Some(Ok(response)) = &answer.response {
        trace.outputs(&response.outputs);
    }
    if answer.last {
        let error = answer.response.as_ref().and_then(|response| response.as_ref().err());
        trace.end(times, error);
    }
}
