//! Fills in the outputs of a configuration. A TorchScript file says how many values `forward` returns,
//! but neither their types nor their shapes: those come to light by running it on zeros, twice, with
//! different sizes wherever the configuration leaves one open.

use std::sync::Arc;

use bytes::Bytes;
use nereid_backend::{GatheredInput, ModelSource};
use nereid_inference::{Error, Result, element_count};
use nereid_model_config::{ModelConfig, ModelOutput, datatype_number};

use crate::datatypes::datatype;
use crate::ffi::{Module, Shim, TorchOutput};
use crate::model::{Plan, load_module};
use crate::parameters::Parameters;

/// Two sizes for what is open; networks that reduce pictures do not take the smallest ones.
const SIZES: [[i64; 2]; 4] = [[2, 3], [8, 16], [32, 64], [224, 256]];

/// Whether there is something to fill in, and enough is known for that.
pub(crate) fn is_wanted(config: &ModelConfig) -> bool {
    let plain = config.sequence_batching().is_none() && config.batch_input.is_empty();
    config.output.is_empty() && !config.input.is_empty() && plain
}

pub(crate) fn complete(
    shim: &Arc<Shim>,
    source: &ModelSource,
    config: &mut ModelConfig,
) -> Result<()> {
    let parameters = Parameters::read(config)?;
    let path = source.model_file(super::backend::DEFAULT_FILE);
    let module = load_module(shim, &path, &source.name, &parameters.options)?;
    let plan = Plan::of(&module, source, parameters.options)?;
    let mut failure = None;
    for sizes in SIZES {
        match sizes.map(|size| run(&plan, &module, config, size)) {
            [Ok(first), Ok(second)] => {
                config.output = outputs(&first, &second, config)?;
                return Ok(());
            }
            [Err(error), _] | [_, Err(error)] => failure = Some(error),
        }
        if !has_open_sizes(config) {
            break;
        }
    }
    let reason = failure.map_or_else(String::new, |error| error.message().to_owned());
    Err(Error::invalid_arg(format!(
        "autofill failed for model '{}': its outputs are not configured, and it does not run on \
         zeros to find them out: {reason}",
        source.name
    )))
}

fn has_open_sizes(config: &ModelConfig) -> bool {
    config.batches() || config.input.iter().any(|input| shape(input).contains(&-1))
}

fn shape(input: &nereid_model_config::ModelInput) -> &[i64] {
    input.reshape.as_ref().map_or(&input.dims, |reshape| &reshape.shape)
}

/// Runs the module on zeros: a batch of `size`, and `size` for every dimension that is open.
fn run(plan: &Plan, module: &Module, config: &ModelConfig, size: i64) -> Result<Vec<TorchOutput>> {
    let zeros = config.input.iter().map(|input| {
        let batch = config.batches().then_some(size);
        let dims = shape(input).iter().map(|dim| if *dim == -1 { size } else { *dim });
        let shape: Vec<i64> = batch.into_iter().chain(dims).collect();
        let datatype = input.datatype();
        let len = datatype
            .and_then(|datatype| datatype.byte_size())
            .and_then(|bytes| element_count(&shape)?.checked_mul(bytes));
        let (Some(datatype), Some(len)) = (datatype, len) else {
            let message = format!("there are no zeros for input '{}'", input.name);
            return Err(Error::invalid_arg(message));
        };
        let data = Bytes::from(vec![0; len]);
        Ok(GatheredInput { name: input.name.clone(), datatype, shape, data })
    });
    plan.returned(module, &zeros.collect::<Result<Vec<_>>>()?)
}

/// What two runs have in common. A dimension that differs is open.
fn outputs(
    first: &[TorchOutput],
    second: &[TorchOutput],
    config: &ModelConfig,
) -> Result<Vec<ModelOutput>> {
    let failed = |what: String| {
        Error::invalid_arg(format!("autofill failed for model '{}': {what}", config.name))
    };
    if first.len() != second.len() {
        return Err(failed("the number of its outputs depends on its inputs".to_owned()));
    }
    let one = |(index, (first, second)): (usize, (&TorchOutput, &TorchOutput))| {
        let name = format!("OUTPUT__{index}");
        if first.shape.len() != second.shape.len() || first.scalar_type != second.scalar_type {
            return Err(failed(format!("the kind of output {index} depends on the inputs")));
        }
        let open = |(a, b): (&i64, &i64)| if a == b { *a } else { -1 };
        let mut dims: Vec<i64> = first.shape.iter().zip(&second.shape).map(open).collect();
        if config.batches() {
            if dims.first() != Some(&-1) {
                return Err(failed(format!(
                    "max_batch_size is set, but output {index} has no batch dimension"
                )));
            }
            dims.remove(0);
        }
        if dims.is_empty() {
            return Err(failed(format!("output {index} is a scalar which is not supported")));
        }
        let data_type = datatype_number(datatype(first.scalar_type)?);
        Ok(ModelOutput { name, data_type, dims, ..Default::default() })
    };
    first.iter().zip(second).enumerate().map(one).collect()
}
