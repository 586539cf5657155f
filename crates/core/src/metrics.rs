//! The metrics of models, read from their statistics when a page is asked for.

use std::sync::Arc;

use nereid_metrics::{Buckets, Labels, Page};
use nereid_model_config::ModelConfig;

use crate::model::{ModelVersion, Scheduler};
use crate::server::Server;
use crate::statistics::{Duration, FailureReason, InferStatistics, ModelStatistics};

impl Server {
    /// Writes the metrics of the versions that answer requests. `durations`: with the counters of
    /// how long things took.
    pub fn write_metrics(&self, page: &mut Page, durations: bool) {
        let catalog = self.catalog();
        for model in catalog.models.values().flat_map(|model| model.ready()) {
            write_model(page, model, durations);
        }
    }
}

/// What tells the metrics of a model from those of others.
pub(crate) fn metric_labels(config: &ModelConfig, namespace: &str, version: i64) -> Labels {
    let tags = config.metric_tags.iter().map(|(name, value)| (format!("_{name}"), value.clone()));
    let labels = tags.collect::<Labels>().with("model", &config.name);
    let labels = match namespace {
        "" => labels,
        namespace => labels.with("namespace", namespace),
    };
    labels.with("version", version.to_string())
}

fn write_model(page: &mut Page, model: &Arc<ModelVersion>, durations: bool) {
    let labels = &model.metric_labels;
    let statistics = model.recorder.snapshot(&model.name, model.version);
    write_counts(page, labels, &statistics);
    if durations {
        write_durations(page, labels, &statistics);
    }
    if model.caching.is_some() {
        write_cache(page, labels, &statistics, durations);
    }
    if model.config.max_batch_size > 1 {
        write_batches(page, model, &statistics);
    }
    page.gauge(
        "nv_inference_pending_request_count",
        "Instantaneous number of pending requests awaiting execution per-model.",
    )
    .add(labels, model.pending());
    page.gauge("nv_model_load_duration_secs", "Model load time in seconds")
        .add(labels, model.load_duration.as_secs_f64());
    model.recorder.latencies().write(page, labels);
}

fn write_counts(page: &mut Page, labels: &Labels, statistics: &ModelStatistics) {
    let mut counter = |name, help, value: u64| page.counter(name, help).add(labels, value);
    counter(
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
        statistics.inference.success.count,
    );
    counter(
        "nv_inference_count",
        "Number of inferences performed (does not include cached requests)",
        statistics.inference_count,
    );
    counter(
        "nv_inference_exec_count",
        "Number of model executions performed (does not include cached requests)",
        statistics.execution_count,
    );
    let mut failures = page.counter(
        "nv_inference_request_failure",
        "Number of failed inference requests, all batch sizes",
    );
    for (reason, count) in FailureReason::ALL.iter().zip(statistics.failures) {
        failures.add(&labels.clone().with("reason", reason.as_str()), count);
    }
}

/// How large the batches of a model were, and why the dynamic batcher let them go.
fn write_batches(page: &mut Page, model: &ModelVersion, statistics: &ModelStatistics) {
    let largest = f64::from(model.config.max_batch_size);
    let powers = (0..).map(|power| f64::from(1u32 << power)).take_while(|size| *size < largest);
    let bounds: Vec<f64> = powers.chain([largest]).collect();
    let mut counts = vec![0; bounds.len() + 1];
    let mut sum = 0;
    for batch in &statistics.batches {
        let bucket = bounds.partition_point(|bound| *bound < batch.batch_size as f64);
        counts[bucket] += batch.compute_infer.count;
        sum += batch.batch_size * batch.compute_infer.count;
    }
    let buckets = Buckets { bounds: &bounds, counts: &counts, sum: sum as f64 };
    page.histogram("nv_inference_batch_size", "Sizes of the batches that were executed")
        .add_histogram(&model.metric_labels, &buckets);
    let Scheduler::Pool(pool) = &model.scheduler else { return };
    if model.config.dynamic_batching().is_some() {
        let help = "Number of batches by why the dynamic batcher waited for no further requests";
        let mut batches = page.counter("nv_inference_batch_close_count", help);
        for (closed, count) in pool.closed() {
            batches.add(&model.metric_labels.clone().with("reason", closed.as_str()), count);
        }
    }
}

/// How often the response cache answered for a model.
fn write_cache(page: &mut Page, labels: &Labels, statistics: &ModelStatistics, durations: bool) {
    let mut counter = |name, help, value: u64| page.counter(name, help).add(labels, value);
    let InferStatistics { cache_hit: hit, cache_miss: miss, .. } = statistics.inference;
    counter("nv_cache_num_hits_per_model", "Number of cache hits per model", hit.count);
    counter("nv_cache_num_misses_per_model", "Number of cache misses per model", miss.count);
    if durations {
        counter(
            "nv_cache_hit_duration_per_model",
            "Total cache hit duration per model, in microseconds",
            hit.ns / 1000,
        );
        counter(
            "nv_cache_miss_duration_per_model",
            "Total cache miss (insert+lookup) duration per model, in microseconds",
            miss.ns / 1000,
        );
    }
}

fn write_durations(page: &mut Page, labels: &Labels, statistics: &ModelStatistics) {
    let mut counter =
        |name, help, value: Duration| page.counter(name, help).add(labels, value.ns / 1000);
    let times = &statistics.inference;
    counter(
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds (includes cached requests)",
        times.success,
    );
    counter(
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        times.queue,
    );
    counter(
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        times.compute_input,
    );
    counter(
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        times.compute_infer,
    );
    counter(
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds (does not include cached \
         requests)",
        times.compute_output,
    );
}
