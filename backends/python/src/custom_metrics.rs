//! Metrics that a model keeps in the server's registry.

use std::collections::HashMap;
use std::sync::Arc;

use nereid_backend::metrics::{Family, Kind, Labels, Metric, Registry};
use nereid_inference::{Error, Result};
use serde_json::Value;

/// The metrics of one worker, by the numbers that it gave them. They go when it does.
#[derive(Default)]
pub(crate) struct CustomMetrics {
    families: HashMap<u64, Arc<Family>>,
    metrics: HashMap<u64, Arc<Metric>>,
}

impl CustomMetrics {
    /// Makes a family or a metric, or reads one: what is asked for, unless it is a value, is empty.
    pub(crate) fn ask(&mut self, asked: &Value, registry: &Registry) -> Result<Option<f64>> {
        let id = asked["id"].as_u64().unwrap_or_default();
        match asked["do"].as_str() {
            Some("metric_family") => {
                let text = |key: &str| asked[key].as_str().unwrap_or_default();
                let kind = match asked["kind"].as_u64() {
                    Some(0) => Kind::Counter,
                    Some(1) => Kind::Gauge,
                    _ => Kind::Histogram,
                };
                let family = registry.family(text("name"), text("help"), kind)?;
                self.families.insert(id, family);
                Ok(None)
            }
            Some("metric") => {
                let family = asked["family"].as_u64().and_then(|id| self.families.get(&id));
                let family = family.ok_or_else(|| Error::internal("unknown metric family"))?;
                let numbers = asked["buckets"].as_array().into_iter().flatten();
                let buckets: Vec<f64> = numbers.filter_map(Value::as_f64).collect();
                let metric = family.metric(labels(&asked["labels"]), &buckets)?;
                self.metrics.insert(id, metric);
                Ok(None)
            }
            _ => self.metric(id)?.value().map(Some),
        }
    }

    /// Changes a metric, or forgets one. Nobody waits for the outcome.
    pub(crate) fn change(&mut self, asked: &Value) -> Result<()> {
        let id = asked["id"].as_u64().unwrap_or_default();
        let value = asked["value"].as_f64().unwrap_or_default();
        match asked["do"].as_str() {
            Some("increment") => self.metric(id)?.increment(value),
            Some("set") => self.metric(id)?.set(value),
            Some("observe") => self.metric(id)?.observe(value),
            _ => {
                self.metrics.remove(&id);
                self.families.remove(&id);
                Ok(())
            }
        }
    }

    fn metric(&self, id: u64) -> Result<&Arc<Metric>> {
        self.metrics.get(&id).ok_or_else(|| Error::internal("unknown metric"))
    }
}

fn labels(given: &Value) -> Labels {
    let pairs = given.as_object().into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
}
