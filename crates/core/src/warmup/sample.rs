//! One sample of a warm-up: the requests of a batch, with tensors that the configuration describes.

use std::path::Path;

use bytes::Bytes;
use nereid_inference::{
    DataType, Error, Request, Responder, ResponseSink, Result, SEQUENCE_END, SEQUENCE_START,
    Tensor, element_count, log_prefix,
};
use nereid_model_config::model_warmup::{Input, input::InputDataType};
use nereid_model_config::{ModelConfig, ModelWarmup};

use crate::admit::Signature;
use crate::reshape::Reshapes;
use crate::sequencing::Sequencing;

/// Beside the versions of a model: the folder of files with tensors for its warm-up.
const FOLDER: &str = "warmup";

pub(crate) struct Sample {
    pub(super) name: String,
    pub(super) count: u32,
    batch_size: u32,
    model: String,
    /// Of every request.
    inputs: Vec<Tensor>,
    /// Control inputs that the sample gives itself, instead of those that the server would add.
    controls: Vec<Tensor>,
    flags: u32,
}

/// What it takes to make samples for a model.
pub(crate) struct Recipe<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) signature: &'a Signature,
    pub(crate) reshapes: &'a Reshapes,
    pub(crate) model_dir: &'a Path,
}

impl Recipe<'_> {
    pub(super) fn sample(&self, warmup: &ModelWarmup) -> Result<Sample> {
        let mut names: Vec<&String> = warmup.inputs.keys().collect();
        names.sort_unstable();
        let (mut inputs, mut controls) = (Vec::new(), Vec::new());
        for name in names {
            let tensor = self.tensor(name, &warmup.inputs[name])?;
            if self.is_control(name) { &mut controls } else { &mut inputs }.push(tensor);
        }
        self.finish(&warmup.name, warmup.batch_size, warmup.count.max(1), inputs, controls)
    }

    /// A sample of `batch_size` rows of zeros.
    pub(super) fn zeros(&self, batch_size: usize) -> Result<Sample> {
        let required = self.config.input.iter().filter(|input| !input.optional);
        let inputs = required.map(|input| {
            if input.dims.contains(&-1) {
                return Err(Error::invalid_arg(format!(
                    "parameter 'warmup' needs inputs whose sizes are known, and '{}' has some that \
                     only a request knows; describe a sample in model_warmup instead",
                    input.name
                )));
            }
            let data = InputDataType::ZeroData(true);
            let dims = input.dims.clone();
            self.tensor(
                &input.name,
                &Input { data_type: input.data_type, dims, input_data_type: Some(data) },
            )
        });
        let inputs = inputs.collect::<Result<_>>()?;
        let name = format!("batch of {batch_size}");
        self.finish(&name, u32::try_from(batch_size).unwrap_or(u32::MAX), 1, inputs, Vec::new())
    }

    /// Holds the sample against the model as if a client had sent it.
    fn finish(
        &self,
        name: &str,
        batch_size: u32,
        count: u32,
        inputs: Vec<Tensor>,
        controls: Vec<Tensor>,
    ) -> Result<Sample> {
        let model = &self.config.name;
        let largest = u32::try_from(self.config.max_batch_size).unwrap_or(0);
        if batch_size > largest.max(1) {
            let text = format!("batch size {batch_size} for '{model}', max allowed is {largest}");
            return Err(super::failed(name, &[Error::invalid_arg(text)]));
        }
        let mut request = Request::new(model.clone(), None, Responder::new(Box::new(Nobody)));
        request.inputs = inputs;
        self.signature.admit(model, &mut request)?;
        self.reshapes.apply_to_inputs(&mut request.inputs);
        let iterative =
            self.config.sequence_batching().is_some_and(|sequence| sequence.iterative_sequence);
        Ok(Sample {
            name: name.to_owned(),
            count,
            batch_size,
            model: model.clone(),
            inputs: std::mem::take(&mut request.inputs),
            controls,
            flags: if iterative { SEQUENCE_START } else { SEQUENCE_START | SEQUENCE_END },
        })
    }

    fn is_control(&self, name: &str) -> bool {
        let sequence = self.config.sequence_batching();
        sequence.is_some_and(|sequence| sequence.control_input.iter().any(|c| c.name == name))
    }

    fn tensor(&self, name: &str, input: &Input) -> Result<Tensor> {
        let datatype = input.datatype().ok_or_else(|| {
            Error::invalid_arg(format!("warmup setting expects input '{name}' to have a data type"))
        })?;
        let elements = element_count(&input.dims).ok_or_else(|| {
            Error::invalid_arg(format!(
                "warmup setting expects all variable-size dimensions are specified for input \
                 '{name}'"
            ))
        })?;
        let data = match &input.input_data_type {
            Some(InputDataType::ZeroData(_)) => zeros(datatype, elements),
            Some(InputDataType::RandomData(_)) => random(datatype, elements),
            Some(InputDataType::InputDataFile(file)) => self.read(file, datatype, elements)?,
            None => {
                return Err(Error::invalid_arg(format!(
                    "{}warmup setting expects input '{name}' to have input_data_type set",
                    log_prefix("")
                )));
            }
        };
        let batch = self.config.batches().then_some(1);
        let shape = batch.into_iter().chain(input.dims.iter().copied()).collect();
        Ok(Tensor { name: name.to_owned(), datatype, shape, data: data.into() })
    }

    /// The first bytes of a file; strings take all of it.
    fn read(&self, file: &str, datatype: DataType, elements: usize) -> Result<Bytes> {
        let path = self.model_dir.join(FOLDER).join(file);
        let data = std::fs::read(&path).map(Bytes::from).map_err(|error| {
            Error::internal(format!(
                "failed to open text file for read {}: {error}",
                path.display()
            ))
        })?;
        let Some(expected) = datatype.byte_size().map(|size| size * elements) else {
            return Ok(data);
        };
        if data.len() < expected {
            return Err(Error::invalid_arg(format!(
                "{}warmup setting expects {expected} bytes, but the data provided from {file} only \
                 has {} bytes",
                log_prefix(""),
                data.len()
            )));
        }
        Ok(data.slice(..expected))
    }
}

impl Sample {
    /// The requests of one batch, whose answers go to `watcher`.
    pub(super) fn requests<W: ResponseSink + 'static>(
        &self,
        watcher: impl Fn() -> W,
        sequencing: Option<&Sequencing>,
    ) -> Vec<Request> {
        let request = |number: u32| {
            let responder = Responder::new(Box::new(watcher()));
            let mut request = Request::new(self.model.clone(), None, responder);
            request.inputs.clone_from(&self.inputs);
            if sequencing.is_some() {
                request.flags = self.flags;
                request.correlation = u64::from(number + 1).into();
            }
            request
        };
        let mut requests: Vec<Request> = (0..self.batch_size).map(request).collect();
        if let Some(sequencing) = sequencing {
            // Keys from the end, where those of clients never get to.
            let keys: Vec<u64> = (0..self.batch_size).map(|n| u64::MAX - u64::from(n)).collect();
            sequencing.complete(&mut requests, &[], &keys);
            sequencing.forget(&keys);
        }
        for control in &self.controls {
            for request in &mut requests {
                request.inputs.retain(|input| input.name != control.name);
                request.inputs.push(control.clone());
            }
        }
        requests
    }
}

fn zeros(datatype: DataType, elements: usize) -> Bytes {
    // An empty string is four bytes of length.
    vec![0; elements * datatype.byte_size().unwrap_or(4)].into()
}

/// Numbers that look random, the same in every start; of floating point those from 1 to 2. Strings
/// are empty.
fn random(datatype: DataType, elements: usize) -> Bytes {
    let Some(size) = datatype.byte_size() else { return zeros(datatype, elements) };
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut data = Vec::with_capacity(elements * size);
    for _ in 0..elements {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let number = match datatype {
            DataType::Bool => state & 1,
            DataType::Fp16 => state & 0x3ff | 0x3c00,
            DataType::Bf16 => state & 0x7f | 0x3f80,
            DataType::Fp32 => state & 0x7f_ffff | 0x3f80_0000,
            DataType::Fp64 => state & 0xf_ffff_ffff_ffff | 0x3ff0_0000_0000_0000,
            _ => state,
        };
        data.extend_from_slice(&number.to_le_bytes()[..size]);
    }
    data.into()
}

struct Nobody;

impl ResponseSink for Nobody {
    fn deliver(&mut self, _: nereid_inference::Answer, _: &nereid_inference::Times) {}
}
