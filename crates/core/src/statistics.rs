//! Counts what a model version did, in the terms of Triton's statistics extension.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nereid_backend::BatchReport;
use nereid_inference::{Answer, ResponseSink, Times};

use crate::model::ModelVersion;

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
    /// By batch size, ascending.
    pub batches: Vec<BatchStatistics>,
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
        self.ns += u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    }
}

/// Collects the statistics of one version.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Counters>);

#[derive(Default)]
struct Counters {
    last_inference_ms: u64,
    inference_count: u64,
    execution_count: u64,
    inference: InferStatistics,
    batches: BTreeMap<u64, BatchStatistics>,
}

impl Recorder {
    pub(crate) fn snapshot(&self, name: &str, version: i64) -> ModelStatistics {
        let counters = self.lock();
        ModelStatistics {
            name: name.to_owned(),
            version,
            last_inference_ms: counters.last_inference_ms,
            inference_count: counters.inference_count,
            execution_count: counters.execution_count,
            inference: counters.inference,
            batches: counters.batches.values().copied().collect(),
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

    fn record_success(&self, times: &Times, batch_size: usize) {
        let now = Instant::now();
        let queued = times.queued.unwrap_or(times.arrived);
        let started = times.started.unwrap_or(queued);
        let input_ready = times.input_ready.unwrap_or(started);
        let computed = times.computed.unwrap_or(now);
        let mut counters = self.lock();
        if let Some(cache) = times.cache {
            let inference = &mut counters.inference;
            if cache.hit {
                // No inference: nothing was computed.
                inference.success.add(times.arrived, now);
                inference.queue.add(queued, queued);
                inference.cache_hit.add_duration(cache.duration);
                return;
            }
            inference.cache_miss.add_duration(cache.duration);
        }
        counters.last_inference_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        counters.inference_count += batch_size as u64;
        let inference = &mut counters.inference;
        inference.success.add(times.arrived, now);
        inference.queue.add(queued, started);
        inference.compute_input.add(started, input_ready);
        inference.compute_infer.add(input_ready, computed);
        inference.compute_output.add(computed, now);
    }

    fn record_failure(&self, times: &Times) {
        self.lock().inference.fail.add(times.arrived, Instant::now());
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
    failed: bool,
}

impl Observer {
    pub(crate) fn new(
        inner: Box<dyn ResponseSink>,
        model: &Arc<ModelVersion>,
        batch_size: usize,
    ) -> Self {
        Self { inner, model: model.clone(), batch_size, failed: false }
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
            Some(Err(_)) => self.failed = true,
            None => {}
        }
        if answer.last && self.failed {
            self.model.recorder.record_failure(times);
        } else if answer.last {
            self.model.recorder.record_success(times, self.batch_size);
        }
        self.inner.deliver(answer, times);
    }
}
