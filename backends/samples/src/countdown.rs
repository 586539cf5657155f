//! The backend `iterative_sequence`: a decoupled model that counts down, one step per execution.
//!
//! A counter for each correlation ID starts at the first element of `INPUT`. Every execution lowers
//! it by one, answers with it, takes half a second, and asks for the request to be scheduled again,
//! until the counter is 0.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nereid_backend::{Backend, Batch, Host, Instance, Model, ModelSource, Placement, Seat};
use nereid_inference::{DataType, Error, Request, Response, Result};
use nereid_model_config::ModelConfig;

use crate::controls::Controls;
use crate::decoupled::elements;
use crate::total::Total;

const STEP: Duration = Duration::from_millis(500);

pub struct IterativeSequenceBackend;

impl Backend for IterativeSequenceBackend {
    fn name(&self) -> &'static str {
        "iterative_sequence"
    }

    fn load(&self, source: &ModelSource, _: &Host) -> Result<Box<dyn Model>> {
        let config = source.config.clone();
        let iterative =
            config.sequence_batching().is_some_and(|batching| batching.iterative_sequence);
        if !iterative || !config.decoupled() {
            return Err(Error::invalid_arg(
                "models of the backend 'iterative_sequence' must set model_transaction_policy { \
                 decoupled: true } and sequence_batching { iterative_sequence: true }",
            ));
        }
        Ok(Box::new(Countdown { config }))
    }
}

struct Countdown {
    config: Arc<ModelConfig>,
}

impl Model for Countdown {
    fn instantiate(&self, _: &Placement) -> Result<Seat> {
        let controls = Controls::new(&self.config);
        Ok(Seat::Thread(Box::new(Counters { controls, counters: HashMap::new() })))
    }
}

struct Counters {
    controls: Controls,
    /// By correlation ID.
    counters: HashMap<String, i32>,
}

impl Instance for Counters {
    fn execute(&mut self, mut batch: Batch) {
        batch.mark_input_ready();
        let mut again = Vec::new();
        for mut request in std::mem::take(&mut batch.requests) {
            match self.count(&request) {
                Ok((response, 0)) => request.responder.answer(Ok(response)),
                Ok((response, _)) => {
                    request.responder.times.computed = Some(Instant::now());
                    request.responder.send(Ok(response));
                    again.push(request);
                }
                Err(error) => request.responder.answer(Err(error)),
            }
        }
        std::thread::sleep(STEP);
        again.into_iter().for_each(|request| batch.reschedule(request));
    }
}

impl Counters {
    /// One step; the response to it and what is left.
    fn count(&mut self, request: &Request) -> Result<(Response, i32)> {
        let input = request.input("INPUT").ok_or_else(|| Error::internal("no input 'INPUT'"))?;
        let key = self.controls.correlation(request)?;
        let before = if self.controls.starts(request)? {
            elements(request, "INPUT", DataType::Int32)?.first().copied().map(i32::from_le_bytes)
        } else {
            self.counters.remove(&key)
        };
        // Where nothing is to be counted, one step ends it.
        let left = (before.unwrap_or(0) - 1).max(0);
        if left > 0 {
            self.counters.insert(key, left);
        }
        let output = Total::Whole(left.into()).fill("OUTPUT", input);
        let outputs = if request.wants(&output.name) { vec![output] } else { Vec::new() };
        Ok((Response::new(outputs), left))
    }
}
