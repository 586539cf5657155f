//! From what a module returned to the outputs of the configuration.

use std::sync::atomic::{AtomicBool, Ordering};

use nereid_inference::{Buffer, DataType, Error, Result, Tensor, display_shape};
use nereid_model_config::ModelConfig;

use crate::datatypes::datatype;
use crate::ffi::TorchOutput;

/// The outputs that a configuration names, and where they are in the result.
pub(crate) struct OutputSpecs(Vec<OutputSpec>);

struct OutputSpec {
    name: String,
    datatype: DataType,
    /// Including the batch dimension, as -1, where the model batches; `None`: not to be compared.
    dims: Option<Vec<i64>>,
    /// Position in the result.
    index: usize,
    /// A difference between the shapes is worth one line in the log.
    reported: AtomicBool,
}

impl OutputSpecs {
    pub(crate) fn new(config: &ModelConfig) -> Result<Self> {
        let outputs = config.output.iter().map(|output| {
            let dims = output.reshape.is_none().then_some(&output.dims);
            (&output.name, output.datatype(), dims)
        });
        // What becomes a state need not be an output that clients see.
        let states = config
            .hidden_states()
            .map(|state| (&state.output_name, state.datatype(), Some(&state.dims)));
        let indices = crate::mapping::outputs(config);
        let specs = outputs.chain(states).zip(indices);
        let specs = specs.map(|((name, datatype, dims), (_, index))| {
            Ok(OutputSpec {
                name: name.clone(),
                datatype: datatype.ok_or_else(|| {
                    Error::invalid_arg(format!("output '{name}' has no data type"))
                })?,
                dims: dims.map(|dims| config.full_dims(dims)),
                index,
                reported: AtomicBool::new(false),
            })
        });
        Ok(Self(specs.collect::<Result<_>>()?))
    }

    /// Names what a module returned. `batch`: the batch size, where the model batches.
    pub(crate) fn name(
        &self,
        returned: &[TorchOutput],
        batch: Option<usize>,
    ) -> Result<Vec<Tensor>> {
        self.0.iter().map(|spec| spec.tensor(returned, batch)).collect()
    }
}

pub(crate) fn missing_output(name: &str, returned: usize) -> Error {
    Error::invalid_arg(format!(
        "The output {name} in the model configuration refers to an output index which doesn't \
         exist. This model has {returned} outputs"
    ))
}

impl OutputSpec {
    fn tensor(&self, returned: &[TorchOutput], batch: Option<usize>) -> Result<Tensor> {
        let missing = || missing_output(&self.name, returned.len());
        let found = returned.get(self.index).ok_or_else(missing)?;
        self.check_datatype(datatype(found.scalar_type)?)?;
        self.check_shape(&found.shape, batch)?;
        Ok(Tensor {
            name: self.name.clone(),
            datatype: self.datatype,
            shape: found.shape.clone(),
            data: Buffer::One(found.data.clone()),
        })
    }

    fn check_datatype(&self, found: DataType) -> Result<()> {
        if found == self.datatype {
            return Ok(());
        }
        Err(Error::invalid_arg(format!(
            "configuration expects datatype TYPE_{} for output '{}', model provides TYPE_{found}",
            self.datatype, self.name
        )))
    }

    /// Triton's backend insists on the batch dimension only: models whose `dims` are wrong run.
    fn check_shape(&self, shape: &[i64], batch: Option<usize>) -> Result<()> {
        let name = &self.name;
        let Some(&first) = shape.first() else {
            return Err(Error::invalid_arg(format!(
                "output '{name}' is a scalar which is not supported."
            )));
        };
        if let Some(batch) = batch
            && usize::try_from(first) != Ok(batch)
        {
            return Err(Error::internal(format!(
                "failed to split the output tensor '{name}' in responses: expected batch size of \
                 at least {batch} in model output, got {first}"
            )));
        }
        if let Some(dims) = &self.dims
            && !fits(shape, dims)
            && !self.reported.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                "output '{name}' has shape {}, the configuration says {}",
                display_shape(shape),
                display_shape(dims)
            );
        }
        Ok(())
    }
}

/// Whether `shape` is one that `dims` allows.
fn fits(shape: &[i64], dims: &[i64]) -> bool {
    let same = |(&size, &dim): (&i64, &i64)| dim == -1 || dim == size;
    shape.len() == dims.len() && shape.iter().zip(dims).all(same)
}
