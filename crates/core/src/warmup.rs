//! Warm-up: what every instance of a model runs before its version serves.
//!
//! The samples of `model_warmup`, as Triton runs them: `batch_size` requests for one row each, as
//! one batch, `count` times. Beyond Triton, `parameters { key: "warmup" value { string_value:
//! "true" } }` stands for a sample of zeros of every batch size, or `"1,8"` for some of them.

mod sample;
mod watch;

use nereid_backend::Placement;
use nereid_inference::{Error, Result};
use nereid_model_config::ModelConfig;

use crate::seat::Runner;
use crate::sequencing::Sequencing;
use sample::Sample;

pub(crate) use sample::Recipe;

/// All samples of a model.
pub(crate) struct Warmup {
    samples: Vec<Sample>,
}

impl Warmup {
    /// Reads the samples that the configuration asks for.
    pub(crate) fn new(config: &ModelConfig, recipe: &Recipe<'_>) -> Result<Self> {
        let mut samples = Vec::new();
        for warmup in &config.model_warmup {
            samples.push(recipe.sample(warmup)?);
        }
        for batch_size in automatic(config)? {
            samples.push(recipe.zeros(batch_size)?);
        }
        Ok(Self { samples })
    }

    /// Runs all samples on one instance.
    pub(crate) fn run(
        &self,
        runner: &Runner,
        placement: &Placement,
        sequencing: Option<&Sequencing>,
    ) -> Result<()> {
        for sample in &self.samples {
            tracing::debug!("{} is running warmup sample '{}'", placement.name, sample.name);
            for _ in 0..sample.count {
                let errors = watch::run(runner, |watcher| sample.requests(watcher, sequencing));
                if !errors.is_empty() {
                    return Err(failed(&sample.name, &errors));
                }
            }
        }
        Ok(())
    }
}

fn failed(sample: &str, errors: &[Error]) -> Error {
    let errors: String = errors.iter().map(|error| format!("{}; ", error.message())).collect();
    Error::invalid_arg(format!("failed to run warmup sample '{sample}': {errors}"))
}

/// The batch sizes that the parameter `warmup` asks for.
fn automatic(config: &ModelConfig) -> Result<Vec<usize>> {
    let largest = usize::try_from(config.max_batch_size).unwrap_or(0).max(1);
    match config.parameter("warmup") {
        None | Some("" | "false") => Ok(Vec::new()),
        Some("true") => Ok((1..=largest).collect()),
        Some(sizes) => {
            let size = |text: &str| text.trim().parse().ok().filter(|s| (1..=largest).contains(s));
            let sizes: Option<Vec<usize>> = sizes.split(',').map(size).collect();
            sizes.ok_or_else(|| {
                Error::invalid_arg(format!(
                    "parameter 'warmup' must be 'true', 'false' or batch sizes from 1 to \
                     {largest}, such as '1,{largest}'"
                ))
            })
        }
    }
}
