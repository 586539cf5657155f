//! The latencies that one model version measures beyond its statistics.

use std::time::Instant;

use nereid_metrics::{Buckets, Labels, Page};
use nereid_model_config::ModelConfig;
use nereid_model_config::proto::model_metrics::metric_control::MetricOptions;

use crate::latency::{Histogram, Summary};
use crate::statistics::{Path, nanoseconds};

/// Which latencies are measured (`--metrics-config`).
#[derive(Clone, Debug, Default)]
pub struct LatencySettings {
    pub histograms: bool,
    /// Quantiles of the summaries; `None`: there are none.
    pub quantiles: Option<Vec<f64>>,
}

/// Recorded with the statistics of a request, under the same lock.
#[derive(Clone, Default)]
pub(crate) struct Latencies {
    histograms: Option<Box<Histograms>>,
    summaries: Option<Box<Summaries>>,
}

#[derive(Clone)]
struct Histograms {
    first_response: Histogram,
    request: Histogram,
    queue: Histogram,
    compute_infer: Histogram,
}

#[derive(Clone)]
struct Summaries {
    quantiles: Vec<f64>,
    request: Summary,
    queue: Summary,
    compute_input: Summary,
    compute_infer: Summary,
    compute_output: Summary,
    /// Of models with a response cache.
    cache: Option<CacheSummaries>,
}

#[derive(Clone)]
struct CacheSummaries {
    hit: Summary,
    miss: Summary,
}

const FIRST_RESPONSE: &str = "nv_inference_first_response_histogram_ms";
const REQUEST: &str = "nv_inference_request_histogram_us";
const QUEUE: &str = "nv_inference_queue_histogram_us";
const COMPUTE_INFER: &str = "nv_inference_compute_infer_histogram_us";

/// Triton's bounds, in milliseconds.
const FIRST_RESPONSE_MS: [f64; 4] = [100.0, 500.0, 2000.0, 5000.0];
/// From a small model to a slow one, in microseconds.
const LATENCY_US: [f64; 17] = [
    50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 2.5e6, 5e6,
    1e7,
];
const NS_PER_US: f64 = 1e3;
const NS_PER_MS: f64 = 1e6;

impl Latencies {
    pub(crate) fn new(settings: &LatencySettings, config: &ModelConfig) -> Self {
        let histograms = settings.histograms.then(|| Box::new(Histograms::new(config)));
        let quantiles = settings.quantiles.as_deref();
        let summaries = quantiles.and_then(|quantiles| Summaries::new(quantiles, config));
        let summaries = summaries.map(Box::new);
        Self { histograms, summaries }
    }

    pub(crate) fn record(&mut self, path: &Path) {
        let ns = |from: Instant, to: Instant| nanoseconds(to.saturating_duration_since(from));
        if let Some(histograms) = &mut self.histograms {
            histograms.request.observe(ns(path.arrived, path.ended));
            histograms.queue.observe(ns(path.queued, path.started));
            if path.ran() {
                histograms.compute_infer.observe(ns(path.input_ready, path.computed));
            }
        }
        if let Some(summaries) = &mut self.summaries {
            let now = path.ended;
            summaries.request.observe(ns(path.arrived, path.ended), now);
            summaries.queue.observe(ns(path.queued, path.started), now);
            if path.ran() {
                summaries.compute_input.observe(ns(path.started, path.input_ready), now);
                summaries.compute_infer.observe(ns(path.input_ready, path.computed), now);
                summaries.compute_output.observe(ns(path.computed, path.ended), now);
            }
            if let (Some(cache), Some(lookup)) = (&mut summaries.cache, path.cache) {
                let summary = if lookup.hit { &mut cache.hit } else { &mut cache.miss };
                summary.observe(nanoseconds(lookup.duration), now);
            }
        }
    }

    pub(crate) fn record_first_response(&mut self, arrived: Instant, now: Instant) {
        if let Some(histograms) = &mut self.histograms {
            let ns = nanoseconds(now.saturating_duration_since(arrived));
            histograms.first_response.observe(ns);
        }
    }

    pub(crate) fn write(&mut self, page: &mut Page, labels: &Labels) {
        if let Some(histograms) = &self.histograms {
            histograms.write(page, labels);
        }
        if let Some(summaries) = &mut self.summaries {
            summaries.write(page, labels);
        }
    }
}

impl Histograms {
    fn new(config: &ModelConfig) -> Self {
        let us = |name| Histogram::new(bounds(config, name, &LATENCY_US), NS_PER_US);
        let first_response = bounds(config, FIRST_RESPONSE, &FIRST_RESPONSE_MS);
        Self {
            first_response: Histogram::new(first_response, NS_PER_MS),
            request: us(REQUEST),
            queue: us(QUEUE),
            compute_infer: us(COMPUTE_INFER),
        }
    }

    fn write(&self, page: &mut Page, labels: &Labels) {
        let mut write = |name, help, histogram: &Histogram, unit| {
            let Histogram { bounds, counts, .. } = histogram;
            let buckets = Buckets { bounds, counts, sum: histogram.sum_ns as f64 / unit };
            page.histogram(name, help).add_histogram(labels, &buckets);
        };
        let help = "Duration from request to first response in milliseconds";
        write(FIRST_RESPONSE, help, &self.first_response, NS_PER_MS);
        let help = "Duration of inference requests in microseconds";
        write(REQUEST, help, &self.request, NS_PER_US);
        let help = "Time that inference requests wait in the queue in microseconds";
        write(QUEUE, help, &self.queue, NS_PER_US);
        let help = "Time that models compute in microseconds";
        write(COMPUTE_INFER, help, &self.compute_infer, NS_PER_US);
    }
}

impl Summaries {
    fn new(quantiles: &[f64], config: &ModelConfig) -> Option<Self> {
        let summary = Summary::new(Instant::now())?;
        let cache = || CacheSummaries { hit: summary.clone(), miss: summary.clone() };
        Some(Self {
            cache: config.caches_responses().then(cache),
            quantiles: quantiles.to_vec(),
            request: summary.clone(),
            queue: summary.clone(),
            compute_input: summary.clone(),
            compute_infer: summary.clone(),
            compute_output: summary,
        })
    }

    fn write(&mut self, page: &mut Page, labels: &Labels) {
        let now = Instant::now();
        let quantiles = &self.quantiles;
        let mut write = |name, help, summary: &mut Summary| {
            let values: Vec<(f64, f64)> =
                quantiles.iter().map(|&rank| (rank, summary.quantile(rank, now))).collect();
            let (sum, count) = (summary.sum_us, summary.count);
            page.summary(name, help).add_summary(labels, &values, sum, count);
        };
        let help = "Summary of inference request duration in microseconds (includes cached \
                    requests)";
        write("nv_inference_request_summary_us", help, &mut self.request);
        let help = "Summary of inference queuing duration in microseconds (includes cached \
                    requests)";
        write("nv_inference_queue_summary_us", help, &mut self.queue);
        let help = "Cumulative compute input duration in microseconds (does not include cached \
                    requests)";
        write("nv_inference_compute_input_summary_us", help, &mut self.compute_input);
        let help = "Cumulative compute inference duration in microseconds (does not include \
                    cached requests)";
        write("nv_inference_compute_infer_summary_us", help, &mut self.compute_infer);
        let help = "Cumulative inference compute output duration in microseconds (does not \
                    include cached requests)";
        write("nv_inference_compute_output_summary_us", help, &mut self.compute_output);
        if let Some(cache) = &mut self.cache {
            let help = "Summary of cache hit counts/durations per model, in microseconds.";
            write("nv_cache_hit_summary_per_model", help, &mut cache.hit);
            let help = "Summary of cache miss counts/durations per model, in microseconds.";
            write("nv_cache_miss_summary_per_model", help, &mut cache.miss);
        }
    }
}

/// The bounds that the model's `model_metrics` give for a family, else the usual ones.
fn bounds(config: &ModelConfig, family: &str, usual: &[f64]) -> Vec<f64> {
    let controls = config.model_metrics.iter().flat_map(|metrics| &metrics.metric_control);
    let mut own = controls.filter_map(|control| {
        let identifier = control.metric_identifier.as_ref()?;
        let MetricOptions::HistogramOptions(options) = control.metric_options.as_ref()?;
        (identifier.family == family).then(|| options.buckets.clone())
    });
    own.next_back().unwrap_or_else(|| usual.to_vec())
}
