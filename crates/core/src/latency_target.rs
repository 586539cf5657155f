//! `parameters { key: "slo_ms" }`: how soon after its arrival a request should be answered. Not in
//! Triton, which ignores the parameter.

use std::time::Duration;

use nereid_inference::{Error, Request, Result};
use nereid_model_config::ModelConfig;

const KEY: &str = "slo_ms";

/// A model's target; for an ensemble, that of all its steps together.
#[derive(Clone, Copy)]
pub(crate) struct LatencyTarget(Duration);

impl LatencyTarget {
    /// `None` where the configuration names none.
    pub(crate) fn new(config: &ModelConfig) -> Result<Option<Self>> {
        let Some(text) = config.parameter(KEY) else { return Ok(None) };
        let name = &config.name;
        let milliseconds: f64 = text.trim().parse().unwrap_or(0.0);
        // Up to a day; NaN is not in it.
        if !(0.001..=86_400_000.0).contains(&milliseconds) {
            return Err(Error::invalid_arg(format!(
                "model '{name}': parameter '{KEY}' must be a number of milliseconds above 0, got \
                 '{text}'"
            )));
        }
        // A request that is refused would leave a hole in its sequence.
        if config.sequence_batching().is_some() {
            return Err(Error::invalid_arg(format!(
                "model '{name}': parameter '{KEY}' does not go with sequence batching"
            )));
        }
        Ok(Some(Self(Duration::from_secs_f64(milliseconds / 1000.0))))
    }

    /// Notes until when the request must be answered; an ensemble may have given it less.
    pub(crate) fn apply(self, request: &mut Request) {
        let deadline = request.responder.times.arrived.checked_add(self.0);
        request.deadline = match (request.deadline, deadline) {
            (Some(given), Some(own)) => Some(given.min(own)),
            (given, own) => given.or(own),
        };
    }
}
