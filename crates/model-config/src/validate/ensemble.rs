//! What can be said of an ensemble without its models: whether its tensors are connected.

use std::collections::HashSet;

use nereid_inference::Result;

use super::check;
use crate::proto::{ModelConfig, ModelEnsembling, model_ensembling::Step};

pub(super) fn validate(config: &ModelConfig) -> Result<()> {
    let name = &config.name;
    let Some(ensemble) = config.ensemble_scheduling() else {
        return check(false, || {
            format!(
                "ensemble scheduling must be set for ensemble {name} whose platform is ensemble"
            )
        });
    };
    check(config.instance_group.is_empty(), || {
        format!("instance group should not be specified for ensemble '{name}'")
    })?;
    check(config.optimization.is_none(), || {
        format!("optimization should not be specified for ensemble '{name}'")
    })?;
    check(config.model_warmup.is_empty(), || {
        format!("model_warmup can not be specified for ensemble '{name}'")
    })?;
    check(!ensemble.step.is_empty(), || format!("must specify 'step' for ensemble '{name}'"))?;
    let written = validate_steps(name, &ensemble.step)?;
    validate_connections(config, ensemble, &written)
}

/// Every step names its model and its tensors; returns the tensors that steps write.
fn validate_steps<'a>(name: &str, steps: &'a [Step]) -> Result<HashSet<&'a str>> {
    let mut written = HashSet::new();
    for (index, step) in steps.iter().enumerate() {
        let must_specify =
            |what: &str| format!("must specify '{what}' in step {index} of ensemble '{name}'");
        check(!step.model_name.is_empty(), || must_specify("model_name"))?;
        check(!step.input_map.is_empty(), || must_specify("input_map"))?;
        check(!step.output_map.is_empty(), || must_specify("output_map"))?;
        for tensor in step.output_map.values() {
            check(written.insert(tensor.as_str()), || {
                format!(
                    "ensemble tensor '{tensor}' can appear in an output map only once for \
                     ensemble '{name}' step {index}"
                )
            })?;
        }
    }
    Ok(written)
}

/// Every input is read, every output is reached from the inputs, every tensor leads to an output.
fn validate_connections(
    config: &ModelConfig,
    ensemble: &ModelEnsembling,
    written: &HashSet<&str>,
) -> Result<()> {
    let (name, steps) = (&config.name, ensemble.step.as_slice());
    let read: HashSet<&str> = steps.iter().flat_map(reads).collect();
    // The unpaired quote is Triton's.
    for input in &config.input {
        check(read.contains(input.name.as_str()), || {
            format!("ensemble input '{}' for ensemble {name}' is not used", input.name)
        })?;
    }
    for output in &config.output {
        check(written.contains(output.name.as_str()), || {
            format!("ensemble output '{}' for ensemble {name}' is not used", output.name)
        })?;
    }
    let ready = reachable(config, steps);
    for output in config.output.iter().filter(|output| !ready.contains(output.name.as_str())) {
        let missing = missing_tensor(&output.name, steps, &ready);
        check(false, || {
            format!(
                "output '{}' for ensemble '{name}' is not written: at least one of its depending \
                 tensors, '{missing}', is not connected",
                output.name
            )
        })?;
    }
    let needed = needed(config, steps);
    let unused = steps.iter().rev().flat_map(writes).find(|tensor| !needed.contains(tensor));
    check(unused.is_none(), || {
        format!("ensemble tensor '{}' is unused in ensemble '{name}'", unused.unwrap_or_default())
    })
}

fn reads(step: &Step) -> impl Iterator<Item = &str> {
    step.input_map.values().map(String::as_str)
}

fn writes(step: &Step) -> impl Iterator<Item = &str> {
    step.output_map.values().map(String::as_str)
}

/// The tensors that exist once every step that can run has run.
fn reachable<'a>(config: &'a ModelConfig, steps: &'a [Step]) -> HashSet<&'a str> {
    let mut ready: HashSet<&str> = config.input.iter().map(|input| input.name.as_str()).collect();
    let mut known = 0;
    while known < ready.len() {
        known = ready.len();
        for step in steps {
            if reads(step).all(|tensor| ready.contains(tensor)) {
                ready.extend(writes(step));
            }
        }
    }
    ready
}

/// Follows what keeps `tensor` from being written, to the end or once around a circle.
fn missing_tensor<'a>(tensor: &'a str, steps: &'a [Step], ready: &HashSet<&str>) -> &'a str {
    let mut path = vec![tensor];
    let mut last = tensor;
    while let Some(step) = steps.iter().find(|step| writes(step).any(|written| written == last)) {
        let missing = |read: &&str| !ready.contains(read) && !path.contains(read);
        let Some(next) = reads(step).find(missing) else { break };
        path.push(next);
        last = next;
    }
    last
}

/// The tensors that some output depends on, outputs included.
fn needed<'a>(config: &'a ModelConfig, steps: &'a [Step]) -> HashSet<&'a str> {
    let mut needed: HashSet<&str> =
        config.output.iter().map(|output| output.name.as_str()).collect();
    let mut known = 0;
    while known < needed.len() {
        known = needed.len();
        for step in steps {
            if writes(step).any(|tensor| needed.contains(tensor)) {
                needed.extend(reads(step));
            }
        }
    }
    needed
}
