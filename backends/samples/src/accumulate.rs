//! The backends `sequence` and `dyna_sequence`: a running sum per sequence.
//!
//! `sequence` keeps it by the row of the batch, as the direct strategy promises a sequence a row of
//! its own; `dyna_sequence` by the correlation ID, which it adds to the last output. Parameter
//! `execute_delay_ms`: sleeps in every execution.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nereid_backend::{Backend, Batch, Host, Instance, Model, ModelSource, Placement, Seat};
use nereid_inference::{Error, Request, Response, Result};
use nereid_model_config::ModelConfig;

use crate::controls::Controls;
use crate::total::Total;

pub struct SequenceBackend;

pub struct DynaSequenceBackend;

impl Backend for SequenceBackend {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn load(&self, source: &ModelSource, _: &Host) -> Result<Box<dyn Model>> {
        Accumulator::load(&source.config, Keeping::ByRow)
    }
}

impl Backend for DynaSequenceBackend {
    fn name(&self) -> &'static str {
        "dyna_sequence"
    }

    fn load(&self, source: &ModelSource, _: &Host) -> Result<Box<dyn Model>> {
        Accumulator::load(&source.config, Keeping::ByCorrelation)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeping {
    ByRow,
    ByCorrelation,
}

struct Accumulator {
    config: Arc<ModelConfig>,
    keeping: Keeping,
    delay: Duration,
}

impl Accumulator {
    fn load(config: &Arc<ModelConfig>, keeping: Keeping) -> Result<Box<dyn Model>> {
        if config.input.is_empty() || config.output.is_empty() {
            return Err(Error::invalid_arg("the model must have an input and an output"));
        }
        let delay = config.number_parameter("execute_delay_ms")?.unwrap_or(0);
        let delay = Duration::from_millis(delay);
        Ok(Box::new(Self { config: config.clone(), keeping, delay }))
    }
}

impl Model for Accumulator {
    fn instantiate(&self, _: &Placement) -> Result<Seat> {
        let instance = Box::new(Sums {
            input: self.config.input[0].name.clone(),
            output: self.config.output[0].name.clone(),
            controls: Controls::new(&self.config),
            keeping: self.keeping,
            delay: self.delay,
            sums: HashMap::new(),
        });
        // Without a delay it is done sooner than another thread would wake up.
        Ok(if self.delay.is_zero() {
            Seat::Handoff { instance, depth: 1 }
        } else {
            Seat::Thread(instance)
        })
    }
}

struct Sums {
    input: String,
    output: String,
    controls: Controls,
    keeping: Keeping,
    delay: Duration,
    /// By row or correlation ID.
    sums: HashMap<String, Total>,
}

impl Instance for Sums {
    fn execute(&mut self, mut batch: Batch) {
        batch.mark_input_ready();
        std::thread::sleep(self.delay);
        let requests = std::mem::take(&mut batch.requests);
        batch.mark_computed();
        for (row, request) in requests.into_iter().enumerate() {
            let answer = self.answer(row, &request);
            request.responder.answer(answer);
        }
    }
}

impl Sums {
    fn answer(&mut self, row: usize, request: &Request) -> Result<Response> {
        let input = request
            .input(&self.input)
            .ok_or_else(|| Error::internal(format!("input '{}' is missing", self.input)))?;
        let sum = if self.controls.is_ready(request)? {
            self.add(row, request, Total::of(input)?)?
        } else {
            Total::Whole(0)
        };
        let wanted = request.wants(&self.output);
        let output = wanted.then(|| sum.fill(&self.output, input));
        Ok(Response::new(output.into_iter().collect()))
    }

    fn add(&mut self, row: usize, request: &Request, input: Total) -> Result<Total> {
        let key = match self.keeping {
            Keeping::ByRow => row.to_string(),
            Keeping::ByCorrelation => self.controls.correlation(request)?,
        };
        let before = if self.controls.starts(request)? { None } else { self.sums.remove(&key) };
        let sum = before.map_or(input, |before| before.plus(input));
        if self.keeping == Keeping::ByCorrelation && self.controls.ends(request)? {
            self.sums.remove(&key);
            return Ok(sum.plus(Total::Whole(key.parse::<u64>().unwrap_or(0) as i64)));
        }
        self.sums.insert(key, sum);
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use nereid_backend::conformance::{Subject, check};
    use nereid_inference::{DataType, Tensor};

    use super::*;

    #[test]
    fn keeps_the_contract() {
        let text = r#"
            name: "m" backend: "sequence" max_batch_size: 8
            input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
            output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
            sequence_batching { }"#;
        let config = nereid_model_config::parse(text, "config.pbtxt".as_ref()).unwrap();
        let source = ModelSource {
            name: "m".into(),
            version: 1,
            model_dir: Default::default(),
            version_dir: Default::default(),
            config: Arc::new(config),
            settings: Vec::new(),
        };
        let good = |rows: usize| {
            let (shape, data) = (vec![rows as i64, 1], vec![1; 4 * rows].into());
            vec![Tensor { name: "IN".into(), datatype: DataType::Int32, shape, data }]
        };
        check(&Subject { backend: &SequenceBackend, source, good, bad: None, large: None });
    }
}
