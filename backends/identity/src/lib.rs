//! The built-in backend `identity`: answers each output with the input of the same position.
//!
//! Reference for writers of backends and workhorse of the tests: it takes any tensors and has
//! Triton's parameters to behave like a slow model.
//!
//! | parameter | effect |
//! |---|---|
//! | `creation_delay_sec` | sleeps while loading |
//! | `execute_delay_ms` | sleeps in every execution |
//! | `instance_wise_delay_multiplier` | instance i sleeps `execute_delay_ms` × max(multiplier × i, 1) |
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use nereid_backend::metrics::{Family, Kind, Labels, Metric};
use nereid_backend::{Backend, Batch, Host, Instance, Model, ModelSource, Placement, Seat};
use nereid_inference::{
    Buffer, Error, Parameter, Parameters, Request, Response, Result, Tensor, element_count,
};
use nereid_model_config::{ModelConfig, ModelInput};

pub struct IdentityBackend;

impl Backend for IdentityBackend {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn load(&self, source: &ModelSource, host: &Host) -> Result<Box<dyn Model>> {
        let config = source.config.clone();
        if config.input.len() != config.output.len() {
            return Err(Error::invalid_arg(
                "model configuration must have equal input/output pairs",
            ));
        }
        std::thread::sleep(Duration::from_secs(parameter(&config, "creation_delay_sec")?));
        let delay = Duration::from_millis(parameter(&config, "execute_delay_ms")?);
        let multiplier = parameter(&config, "instance_wise_delay_multiplier")?;
        let seen = Seen::new(source, host)?;
        Ok(Box::new(IdentityModel { config, delay, multiplier, seen }))
    }
}

/// A whole number from the model's parameters; 0 if it is not given.
fn parameter(config: &ModelConfig, key: &str) -> Result<u64> {
    let Some(text) = config.parameter(key) else { return Ok(0) };
    text.parse().map_err(|_| {
        Error::invalid_arg(format!("parameter '{key}' must be a whole number, got '{text}'"))
    })
}

/// A metric of the backend's own: how many bytes it was sent.
#[derive(Clone)]
struct Seen {
    bytes: Arc<Metric>,
    /// On the page as long as somebody holds it.
    _family: Arc<Family>,
}

impl Seen {
    fn new(source: &ModelSource, host: &Host) -> Result<Self> {
        let help = "Cumulative input byte size of all requests received by the model";
        let family = host.metrics.family("input_byte_size_counter", help, Kind::Counter)?;
        let labels = Labels::default().with("model", &source.name);
        let labels = labels.with("version", source.version.to_string());
        Ok(Self { bytes: family.metric(labels, &[])?, _family: family })
    }

    fn count(&self, requests: &[Request]) {
        let inputs = requests.iter().flat_map(|request| &request.inputs);
        let bytes: usize = inputs.map(|input| input.data.len()).sum();
        // Only a counter that is to go down complains.
        let _ = self.bytes.increment(bytes as f64);
    }
}

struct IdentityModel {
    config: Arc<ModelConfig>,
    delay: Duration,
    multiplier: u64,
    seen: Seen,
}

impl Model for IdentityModel {
    fn instantiate(&self, placement: &Placement) -> Result<Seat> {
        let times = (self.multiplier * placement.index as u64).max(1);
        let delay = self.delay * u32::try_from(times).unwrap_or(u32::MAX);
        let instance =
            Box::new(Identity { config: self.config.clone(), delay, seen: self.seen.clone() });
        // Without a delay it is done sooner than another thread would wake up.
        Ok(if delay.is_zero() {
            Seat::Handoff { instance, depth: 1 }
        } else {
            Seat::Thread(instance)
        })
    }
}

struct Identity {
    config: Arc<ModelConfig>,
    delay: Duration,
    seen: Seen,
}

impl Instance for Identity {
    fn execute(&mut self, mut batch: Batch) {
        batch.mark_input_ready();
        self.seen.count(&batch.requests);
        std::thread::sleep(self.delay);
        batch.mark_computed();
        for request in std::mem::take(&mut batch.requests) {
            let outputs = self.outputs(&request);
            let parameters = example_parameters();
            request.responder.answer(Ok(Response { parameters, ..Response::new(outputs) }));
        }
    }
}

impl Identity {
    /// The outputs that were asked for: the same bytes as the inputs, not copied.
    fn outputs(&self, request: &Request) -> Vec<Tensor> {
        let pairs = self.config.input.iter().zip(&self.config.output);
        pairs
            .filter(|(_, output)| request.wants(&output.name))
            .filter_map(|(input, output)| {
                let tensor = request
                    .input(&input.name)
                    .cloned()
                    .or_else(|| zeros(input, self.config.max_batch_size > 0))?;
                Some(Tensor { name: output.name.clone(), ..tensor })
            })
            .collect()
    }
}

/// Stands in for an optional input that is missing.
fn zeros(input: &ModelInput, batches: bool) -> Option<Tensor> {
    let dims = input.dims.iter().map(|&dim| dim.max(1));
    let shape: Vec<i64> = batches.then_some(1).into_iter().chain(dims).collect();
    let datatype = input.datatype()?;
    // A string of length 0 is four zero bytes.
    let len = element_count(&shape)? * datatype.byte_size().unwrap_or(4);
    Some(Tensor { name: String::new(), datatype, shape, data: Buffer::from(vec![0; len]) })
}

/// Triton's identity backend sends these with every response.
fn example_parameters() -> Parameters {
    vec![
        ("param0".to_owned(), Parameter::String("an example string parameter".to_owned())),
        ("param1".to_owned(), Parameter::Int(42)),
        ("param2".to_owned(), Parameter::Bool(false)),
        ("param3".to_owned(), Parameter::Double(123.123)),
    ]
}
