//! The metrics of models, read from their statistics when a page is asked for.

use std::sync::Arc;

use nereid_metrics::{Labels, Page};
use nereid_model_config::ModelConfig;

use crate::model::ModelVersion;
use crate::server::Server;
use crate::statistics::{Duration, FailureReason, ModelStatistics};

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
pub(crate) fn metric_labels(config: &ModelConfig, version: i64) -> Labels {
    let tags = config.metric_tags.iter().map(|(name, value)| (format!("_{name}"), value.clone()));
    tags.collect::<Labels>().with("model", &config.name).with("version", version.to_string())
}

fn write_model(page: &mut Page, model: &Arc<ModelVersion>, durations: bool) {
    let labels = &model.metric_labels;
    let statistics = model.recorder.snapshot(&model.name, model.version);
    write_counts(page, labels, &statistics);
    if durations {
        write_durations(page, labels, &statistics);
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
