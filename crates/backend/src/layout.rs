//! How the tensors of a model's requests become those of a batch, and back.
//!
//! Most are joined along their first dimension. A configuration may say otherwise: ragged inputs
//! become one row of elements, `batch_input` asks for tensors that describe the batch, and
//! `batch_output` cuts outputs by the shapes of inputs.

use bytes::Bytes;
use nereid_inference::{DataType, Error, Request, Result, Tensor, element_count};
use nereid_model_config::batch_input::Kind;
use nereid_model_config::{BatchInput, ModelConfig};

use crate::gather::gather;
use crate::scatter::{answer, scatter};
use crate::{Batch, GatheredInput};

/// What a configuration says of the tensors of batches. The default: nothing.
#[derive(Debug, Default)]
pub struct BatchLayout {
    ragged: Vec<String>,
    described: Vec<Description>,
    scattered: Vec<Scattered>,
}

/// An input that says something about the requests of a batch.
#[derive(Debug)]
struct Description {
    kind: Kind,
    targets: Vec<String>,
    datatype: DataType,
    source: String,
}

/// An output that lies in one piece, each request's part as large as its shape.
#[derive(Debug)]
struct Scattered {
    output: String,
    /// With -1 where a size is that of the source.
    dims: Vec<i64>,
    source: String,
}

impl BatchLayout {
    pub fn new(config: &ModelConfig) -> Self {
        let ragged = config.input.iter().filter(|input| input.allow_ragged_batch);
        let described = config.batch_input.iter().filter_map(|input| {
            let (datatype, source) = (input.datatype()?, input.source_input.first()?.clone());
            let BatchInput { target_name, .. } = input;
            Some(Description { kind: input.kind(), targets: target_name.clone(), datatype, source })
        });
        let scattered = config.batch_output.iter().flat_map(|output| {
            output.target_name.iter().filter_map(|target| {
                let dims = config.full_dims(&config.find_output(target)?.dims);
                let source = output.source_input.first()?.clone();
                Some(Scattered { output: target.clone(), dims, source })
            })
        });
        Self {
            ragged: ragged.map(|input| input.name.clone()).collect(),
            described: described.collect(),
            scattered: scattered.collect(),
        }
    }

    /// The inputs of a whole batch, in the order of its first request.
    ///
    /// Those of a single request are passed on as they are, without a copy, unless their address is
    /// not a multiple of their element's size; those of several are copied once.
    pub fn gather(&self, requests: &[Request]) -> Result<Vec<GatheredInput>> {
        let mut gathered = gather(requests, &self.ragged)?;
        for description in &self.described {
            let (shape, data) = description.make(requests)?;
            gathered.extend(description.targets.iter().map(|target| GatheredInput {
                name: target.clone(),
                datatype: description.datatype,
                shape: shape.clone(),
                data: data.clone(),
            }));
        }
        Ok(gathered)
    }

    /// Answers every request of `batch` from the outputs of the whole batch.
    ///
    /// Where the batch holds several requests, each output is cut into pieces that share its memory:
    /// along its first dimension by the requests' batch sizes, unless `batch_output` says otherwise.
    /// Outputs that a request did not ask for are left out.
    pub fn scatter(&self, mut batch: Batch, outputs: Vec<Tensor>) {
        batch.mark_computed();
        if batch.requests.len() == 1 && self.scattered.is_empty() {
            if let Some(request) = batch.requests.pop() {
                answer(request, outputs);
            }
            return;
        }
        scatter(batch, outputs, |output, requests| {
            let scattered = self.scattered.iter().find(|scattered| scattered.output == output)?;
            Some(requests.iter().map(|request| scattered.shape(request)).collect())
        });
    }
}

impl Scattered {
    /// The shape of this output for one request.
    fn shape(&self, request: &Request) -> Result<Vec<i64>> {
        let source = source(request, &self.source)?;
        let size = |(index, &dim): (usize, &i64)| match dim {
            -1 => source.shape.get(index).copied().ok_or_else(|| {
                Error::internal(format!(
                    "output '{}' has more dimensions than '{}', which gives it its shape",
                    self.output, self.source
                ))
            }),
            dim => Ok(dim),
        };
        self.dims.iter().enumerate().map(size).collect()
    }
}

impl Description {
    /// The tensor's shape and data for a batch of these requests.
    fn make(&self, requests: &[Request]) -> Result<(Vec<i64>, Bytes)> {
        let counts = self.element_counts(requests)?;
        let so_far = counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let numbers: Vec<i64> = match self.kind {
            Kind::BatchElementCount => counts,
            Kind::BatchAccumulatedElementCount => so_far.collect(),
            Kind::BatchAccumulatedElementCountWithZero => [0].into_iter().chain(so_far).collect(),
            Kind::BatchMaxElementCountAsShape => {
                vec![0; counts.iter().copied().max().unwrap_or(0) as usize]
            }
            Kind::BatchItemShape | Kind::BatchItemShapeFlatten => self.item_shapes(requests)?,
        };
        let mut shape = vec![numbers.len() as i64];
        if self.kind == Kind::BatchItemShape {
            let rank = self.item_rank(requests)?;
            shape = vec![shape[0] / rank.max(1), rank];
        }
        let data: Vec<u8> = numbers.into_iter().flat_map(|number| self.bytes(number)).collect();
        Ok((shape, data.into()))
    }

    fn element_counts(&self, requests: &[Request]) -> Result<Vec<i64>> {
        let count = |request| {
            let shape = &source(request, &self.source)?.shape;
            Ok(element_count(shape).and_then(|count| i64::try_from(count).ok()).unwrap_or(0))
        };
        requests.iter().map(count).collect()
    }

    /// The shape of every item, without the batch dimension.
    fn item_shapes(&self, requests: &[Request]) -> Result<Vec<i64>> {
        let mut shapes = Vec::new();
        for request in requests {
            if let [items, shape @ ..] = source(request, &self.source)?.shape.as_slice() {
                (0..*items).for_each(|_| shapes.extend_from_slice(shape));
            }
        }
        Ok(shapes)
    }

    fn item_rank(&self, requests: &[Request]) -> Result<i64> {
        let Some(first) = requests.first() else { return Ok(0) };
        Ok(source(first, &self.source)?.shape.len() as i64 - 1)
    }

    /// Only these two types pass the validation of configurations.
    fn bytes(&self, number: i64) -> [u8; 4] {
        match self.datatype {
            DataType::Fp32 => (number as f32).to_le_bytes(),
            _ => (number as i32).to_le_bytes(),
        }
    }
}

fn source<'a>(request: &'a Request, name: &str) -> Result<&'a Tensor> {
    request
        .input(name)
        .ok_or_else(|| Error::internal(format!("input '{name}' is missing in a batch")))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
