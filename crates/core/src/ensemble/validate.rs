//! Holds an ensemble against the models that it is made of, in Triton's words.

use std::collections::HashMap;
use std::sync::Arc;

use nereid_inference::{Error, Result, display_shape};
use nereid_model_config::{ModelConfig, datatype, model_ensembling::Step};

use crate::catalog::{Catalog, VersionState};
use crate::namespaces::of_step;

/// Refuses an ensemble whose models are not there, or whose tensors do not fit together. `member`
/// finds the configuration of the model of a step. Tells which steps are decoupled.
pub(crate) fn validate(
    config: &ModelConfig,
    member: impl Fn(&Step) -> Result<Arc<ModelConfig>>,
) -> Result<Vec<bool>> {
    let Some(ensemble) = config.ensemble_scheduling() else { return Ok(Vec::new()) };
    let mut decoupled = Vec::new();
    let mut known: Vec<Known> = Vec::new();
    for input in &config.input {
        let dims = full(config, &input.dims);
        note(config, &mut known, Known::new(&input.name, &config.name, input.data_type, dims))?;
    }
    for step in &ensemble.step {
        let model: Arc<ModelConfig> = member(step)?;
        check_step(config, step, &model, &mut known)?;
        decoupled.push(model.decoupled());
    }
    for output in &config.output {
        let dims = full(config, &output.dims);
        note(config, &mut known, Known::new(&output.name, &config.name, output.data_type, dims))?;
    }
    check_origins(config, &ensemble.step, &decoupled)?;
    Ok(decoupled)
}

/// What a step reads, and what a response holds, must come from the same responses of decoupled
/// steps: which of several would go with which? (Triton names the ensemble where it means the
/// step's model.)
fn check_origins(config: &ModelConfig, steps: &[Step], decoupled: &[bool]) -> Result<()> {
    let name = &config.name;
    let mut origins: HashMap<&str, Option<usize>> =
        config.input.iter().map(|input| (input.name.as_str(), None)).collect();
    let common = |origins: &HashMap<&str, Option<usize>>, tensors: &[&str]| {
        let mut found = tensors.iter().filter_map(|tensor| origins.get(tensor));
        let first = found.next().copied().flatten();
        if found.any(|other| *other != first) {
            return Err(Error::invalid_arg(format!(
                "in ensemble {name}, step of model '{name}' receives inputs originated from \
                 different decoupled models"
            )));
        }
        Ok(first)
    };
    // Steps may stand in any order. Each round places at least one, unless they wait in a circle,
    // which is refused elsewhere.
    let mut left: Vec<usize> = (0..steps.len()).collect();
    while let Some(place) = left.iter().position(|&index| {
        steps[index].input_map.values().all(|tensor| origins.contains_key(tensor.as_str()))
    }) {
        let index = left.remove(place);
        let reads: Vec<&str> = steps[index].input_map.values().map(String::as_str).collect();
        let from = common(&origins, &reads)?;
        let origin = if decoupled[index] { Some(index) } else { from };
        origins.extend(steps[index].output_map.values().map(|tensor| (tensor.as_str(), origin)));
    }
    let outputs: Vec<&str> = config.output.iter().map(|output| output.name.as_str()).collect();
    common(&origins, &outputs).map(drop)
}

/// The configuration of the version that a step would run on now.
pub(crate) fn loaded_member(
    ensemble: &str,
    step: &Step,
    catalog: &Catalog,
) -> Result<Arc<ModelConfig>> {
    let name = &of_step(step);
    let Some(state) = catalog.models.get(name) else {
        return Err(Error::invalid_arg(format!(
            "ensemble {ensemble} contains models that are not available or ambiguous: {name}"
        )));
    };
    let depends = format!("ensemble '{ensemble}' depends on '{name}'");
    if step.model_version > 0 {
        return match state.versions.get(&step.model_version) {
            Some(VersionState::Ready(ready)) => Ok(ready.config.clone()),
            _ => Err(Error::invalid_arg(format!(
                "{depends} whose required version {} is not loaded.",
                step.model_version
            ))),
        };
    }
    state.ready().next_back().map(|ready| ready.config.clone()).ok_or_else(|| {
        let mut message = format!("{depends} which has no loaded version.");
        if let Some(reason) = state.failure() {
            message.push_str(&format!(" Model '{name}' loading failed with error: {reason}"));
        }
        Error::invalid_arg(message)
    })
}

/// What is known of a tensor of the ensemble, and from which model.
struct Known<'a> {
    tensor: &'a str,
    model: &'a str,
    data_type: i32,
    dims: Dims,
}

struct Dims {
    /// Without a batch dimension.
    inner: Vec<i64>,
    /// With it, where the model batches.
    full: Vec<i64>,
}

impl<'a> Known<'a> {
    fn new(tensor: &'a str, model: &'a str, data_type: i32, dims: Dims) -> Self {
        Self { tensor, model, data_type, dims }
    }
}

fn full(config: &ModelConfig, dims: &[i64]) -> Dims {
    Dims { inner: dims.to_vec(), full: config.full_dims(dims) }
}

fn check_step<'a>(
    config: &'a ModelConfig,
    step: &'a Step,
    member: &ModelConfig,
    known: &mut Vec<Known<'a>>,
) -> Result<()> {
    let (ensemble, model) = (&config.name, &member.name);
    check_batch_size(config, member)?;
    let stray = |tensor: &str, what: &str, name: &str| {
        Error::invalid_arg(format!(
            "in ensemble {ensemble}, ensemble tensor {tensor} is {what} {name} in model {model}"
        ))
    };
    for (name, tensor) in &step.input_map {
        let input = member
            .find_input(name)
            .ok_or_else(|| stray(tensor, "mapping to non-existing input", name))?;
        let dims = full(member, &input.dims);
        note(config, known, Known::new(tensor, &step.model_name, input.data_type, dims))?;
    }
    let unmapped =
        member.input.iter().find(|i| !i.optional && !step.input_map.contains_key(&i.name));
    if let Some(input) = unmapped {
        return Err(Error::invalid_arg(format!(
            "in ensemble {ensemble}, input {} in model {model} is not mapped to any ensemble tensors",
            input.name
        )));
    }
    for (name, tensor) in &step.output_map {
        let output = member
            .find_output(name)
            .ok_or_else(|| stray(tensor, "mapped from non-existing output", name))?;
        let dims = full(member, &output.dims);
        note(config, known, Known::new(tensor, &step.model_name, output.data_type, dims))?;
    }
    Ok(())
}

/// What an ensemble lets through must fit into each of its models.
fn check_batch_size(config: &ModelConfig, member: &ModelConfig) -> Result<()> {
    let (largest, limit) = (config.max_batch_size, member.max_batch_size);
    // A model that does not batch takes a batch for a part of its shape.
    if largest <= limit || limit == 0 {
        return Ok(());
    }
    Err(Error::invalid_arg(format!(
        "ensemble {} allows maximum batch size {largest}, but it contains model {} which only \
         allows maximum batch size to be {limit}",
        config.name, member.name
    )))
}

/// Adds what one model says of a tensor, if it agrees with the others.
fn note<'a>(config: &ModelConfig, known: &mut Vec<Known<'a>>, new: Known<'a>) -> Result<()> {
    if let Some(old) = known.iter().find(|old| old.tensor == new.tensor) {
        let place = format!("in ensemble {}, ensemble tensor {}", config.name, new.tensor);
        if old.data_type != new.data_type {
            return Err(Error::invalid_arg(format!(
                "{place}: inconsistent data type: {} is inferred from model {} while {} is \
                 inferred from model {}",
                type_name(old.data_type),
                old.model,
                type_name(new.data_type),
                new.model
            )));
        }
        // A model that batches may feed one that does not, if either reading of its shape fits.
        if !fits(&old.dims.full, &new.dims.full) && !fits(&old.dims.inner, &new.dims.inner) {
            return Err(Error::invalid_arg(format!(
                "{place}: inconsistent shape: {} is inferred from model {} while {} is inferred \
                 from model {}",
                display_shape(&old.dims.full),
                old.model,
                display_shape(&new.dims.full),
                new.model
            )));
        }
    }
    known.push(new);
    Ok(())
}

fn type_name(number: i32) -> &'static str {
    datatype(number).map_or("TYPE_INVALID", nereid_inference::DataType::config_name)
}

fn fits(one: &[i64], other: &[i64]) -> bool {
    let same = |(&a, &b): (&i64, &i64)| a == -1 || b == -1 || a == b;
    one.len() == other.len() && one.iter().zip(other).all(same)
}
