//! What `--metrics-*` ask for, and what the server itself adds to the page.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};
use nereid_backend::metrics::{Cpu, Labels, Page, Registry};
use nereid_cache::ResponseCache;
use nereid_core::{LatencySettings, Server};

use crate::flags::boolean;

#[derive(Args, Debug)]
pub(crate) struct MetricsFlags {
    /// Serve metrics for Prometheus.
    #[arg(long, default_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) allow_metrics: bool,
    /// Have metrics of the processors and the memory of this machine.
    #[arg(long, default_value = "true", value_parser = boolean, action = ArgAction::Set)]
    allow_cpu_metrics: bool,
    /// Have metrics of GPUs. This version has none to show.
    #[arg(long, default_value = "true", value_parser = boolean, action = ArgAction::Set)]
    allow_gpu_metrics: bool,
    /// Address for metrics; that of HTTP if none is given.
    #[arg(long)]
    pub(crate) metrics_address: Option<IpAddr>,
    /// Port for metrics; 0 takes a free one.
    #[arg(long, default_value_t = 8002)]
    pub(crate) metrics_port: u16,
    /// Metrics of the machine are at most this old, in milliseconds.
    #[arg(long, default_value_t = 2000.0, value_parser = milliseconds)]
    metrics_interval_ms: f64,
    /// Which latencies are metrics: `counter_latencies`, `histogram_latencies` and
    /// `summary_latencies`, each `true` or `false`; `summary_quantiles=0.5:0.05,0.9:0.01,...`,
    /// whose second numbers (the errors that are allowed) are not used.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    metrics_config: Vec<Setting>,
}

#[derive(Clone, Debug, PartialEq)]
enum Setting {
    Counters(bool),
    Histograms(bool),
    Summaries(bool),
    Quantiles(Vec<f64>),
}

impl MetricsFlags {
    /// Histograms are there unless they are turned off: unlike in Triton, where they are all but
    /// missing.
    pub(crate) fn latencies(&self) -> LatencySettings {
        let mut quantiles = vec![0.5, 0.9, 0.95, 0.99, 0.999];
        let (mut histograms, mut summaries) = (true, false);
        for setting in &self.metrics_config {
            match setting {
                Setting::Counters(_) => {}
                Setting::Histograms(on) => histograms = *on,
                Setting::Summaries(on) => summaries = *on,
                Setting::Quantiles(ranks) => quantiles.clone_from(ranks),
            }
        }
        let allowed = self.allow_metrics;
        LatencySettings {
            histograms: allowed && histograms,
            quantiles: (allowed && summaries).then_some(quantiles),
        }
    }

    /// Puts the metrics of the models and of the machine onto the page.
    pub(crate) fn register(&self, registry: &Registry, server: &Arc<Server>) {
        let off = |setting: &Setting| *setting == Setting::Counters(false);
        let (server, durations) = (server.clone(), !self.metrics_config.iter().any(off));
        registry.collect(move |page| server.write_metrics(page, durations));
        registry.collect(write_pinned_memory);
        if self.allow_cpu_metrics {
            let cpu = Cpu::new(Duration::from_secs_f64(self.metrics_interval_ms / 1000.0));
            registry.collect(move |page| cpu.write(page));
        }
    }
}

/// There is no such pool: nothing is copied to a GPU.
/// Triton's metrics of a local response cache.
pub(crate) fn write_cache(page: &mut Page, cache: &ResponseCache) {
    let Some(statistics) = cache.statistics() else { return };
    let mut gauge = |name, help, value: f64| page.gauge(name, help).add(&Labels::default(), value);
    gauge("nv_cache_util", "Cache utilization [0.0 - 1.0]", statistics.utilization);
    let counts = [
        (
            "nv_cache_num_entries",
            "Number of responses stored in response cache",
            statistics.entries,
        ),
        ("nv_cache_num_lookups", "Number of cache lookups in response cache", statistics.lookups),
        ("nv_cache_num_hits", "Number of cache hits in response cache", statistics.hits),
        ("nv_cache_num_misses", "Number of cache misses in response cache", statistics.misses),
        (
            "nv_cache_num_evictions",
            "Number of cache evictions in response cache",
            statistics.evictions,
        ),
    ];
    counts.into_iter().for_each(|(name, help, count)| gauge(name, help, count as f64));
    let lookups = statistics.lookup_duration.as_micros() as f64;
    let help = "Total cache lookup duration (hit and miss), in microseconds";
    gauge("nv_cache_lookup_duration", help, lookups);
    let insertions = statistics.insertion_duration.as_micros() as f64;
    let help = "Total cache insertion duration, in microseconds";
    gauge("nv_cache_insertion_duration", help, insertions);
}

fn write_pinned_memory(page: &mut Page) {
    let all = Labels::default();
    page.gauge(
        "nv_pinned_memory_pool_total_bytes",
        "Pinned memory pool total memory size, in bytes",
    )
    .add(&all, 0);
    page.gauge("nv_pinned_memory_pool_used_bytes", "Pinned memory pool used memory size, in bytes")
        .add(&all, 0);
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.0..1e15).contains(number));
    number.ok_or_else(|| "expected a number of milliseconds".to_owned())
}

fn setting(text: &str) -> Result<Setting, String> {
    let (key, value) = text.split_once('=').ok_or("expected <key>=<value>")?;
    match key {
        "counter_latencies" => boolean(value).map(Setting::Counters),
        "histogram_latencies" => boolean(value).map(Setting::Histograms),
        "summary_latencies" => boolean(value).map(Setting::Summaries),
        "summary_quantiles" => quantiles(value).map(Setting::Quantiles),
        _ => Err("expected counter_latencies, histogram_latencies, summary_latencies or \
                  summary_quantiles"
            .to_owned()),
    }
}

fn quantiles(text: &str) -> Result<Vec<f64>, String> {
    let rank = |pair: &str| {
        let rank = pair.split(':').next()?.trim().parse().ok()?;
        (0.0..=1.0).contains(&rank).then_some(rank)
    };
    let ranks: Option<Vec<f64>> = text.split(',').map(rank).collect();
    ranks.ok_or_else(|| "expected quantiles between 0 and 1 and their errors, 0.5:0.05".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        assert_eq!(setting("counter_latencies=false"), Ok(Setting::Counters(false)));
        let quantiles = setting("summary_quantiles=0.5:0.05,0.999:0.001");
        assert_eq!(quantiles, Ok(Setting::Quantiles(vec![0.5, 0.999])));
        for wrong in ["counter_latencies", "counter_latencies=maybe", "nonsense=1"] {
            assert!(setting(wrong).is_err(), "{wrong}");
        }
        assert!(setting("summary_quantiles=7:1").is_err());
        assert!(milliseconds("-1").is_err() && milliseconds("x").is_err());
    }
}
