//! The first runs of a module, which optimise it and are slow, before any request comes.

use std::time::Instant;

use bytes::Bytes;
use nereid_backend::GatheredInput;
use nereid_inference::element_count;
use nereid_model_config::ModelConfig;

use crate::ffi::Module;
use crate::model::Plan;

/// libtorch looks at the first run and optimises in the second.
const RUNS: usize = 2;

/// Runs `module` on zeros where all shapes are known. A module that cannot take zeros is a module
/// that nobody will send zeros to: the log says so, nothing else.
pub(crate) fn run(plan: &Plan, module: &Module, config: &ModelConfig) {
    let Some(inputs) = zeros(config) else { return };
    for _ in 0..RUNS {
        let began = Instant::now();
        if let Err(error) = plan.run(module, &inputs) {
            tracing::info!("'{}' does not take zeros, no warm-up: {error}", config.name);
            return;
        }
        tracing::debug!("warm-up of '{}': {:.1?}", config.name, began.elapsed());
    }
}

/// A batch of one with zeros in it; `None` where a size is left to the request.
fn zeros(config: &ModelConfig) -> Option<Vec<GatheredInput>> {
    // What schedulers add to a request is not made up here.
    if config.sequence_batching().is_some() || !config.batch_input.is_empty() {
        return None;
    }
    let batch = config.batches().then_some(1);
    let zeros = config.input.iter().map(|input| {
        let dims = input.reshape.as_ref().map_or(&input.dims, |reshape| &reshape.shape);
        let shape: Vec<i64> = batch.into_iter().chain(dims.iter().copied()).collect();
        let datatype = input.datatype()?;
        let len = element_count(&shape)?.checked_mul(datatype.byte_size()?)?;
        let data = Bytes::from(vec![0; len]);
        Some(GatheredInput { name: input.name.clone(), datatype, shape, data })
    });
    zeros.collect()
}
