//! Judges a TorchScript file without libtorch, and begins a configuration from it.

use std::path::Path;

use nereid_backend::{Finding, ModelSource};
use nereid_inference::Result;
use nereid_model_config::{ModelConfig, ModelInput, ModelOutput};

use crate::archive::{Argument, Forward};
use crate::mapping;
use crate::outputs::missing_output;
use crate::parameters::{IGNORED, Parameters};

pub(crate) fn check(source: &ModelSource, file: &Path) -> Vec<Finding> {
    let mut findings = parameters(&source.config);
    if !file.is_file() {
        let cure = "put the model there, or name its file in default_model_filename";
        let message = format!("{} is not a file", file.display());
        findings.push(Finding::error(message).in_file(&source.version_dir).cured_by(cure));
        return findings;
    }
    match Forward::read(file) {
        Ok(forward) => findings.extend(compare(&source.config, &forward)),
        Err(error) => {
            let cure = "save the module with torch.jit.save";
            findings.push(Finding::from(error).in_file(file).cured_by(cure));
        }
    }
    findings
}

fn parameters(config: &ModelConfig) -> Vec<Finding> {
    let given = IGNORED.into_iter().filter(|key| config.parameter(key).is_some());
    let ignored = given.map(|key| {
        Finding::warning(format!("parameter '{key}' means nothing on a CPU"))
            .cured_by("nothing needs to be done; it may be removed")
    });
    ignored.chain(Parameters::read(config).err().map(Finding::from)).collect()
}

/// The number of tensors; names may be anything, for then their order counts.
fn compare(config: &ModelConfig, forward: &Forward) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cure = || describe(forward);
    let takes_dict =
        matches!(forward.arguments.as_slice(), [only] if only.kind.starts_with("Dict"));
    // What schedulers add are arguments, too.
    let plain = config.sequence_batching().is_none() && config.batch_input.is_empty();
    if plain && !takes_dict && !config.input.is_empty() {
        let given = config.input.len();
        let most = forward.arguments.len();
        let least = forward.arguments.iter().filter(|argument| !argument.optional).count();
        if given < least || given > most {
            let message = format!(
                "the configuration has {given} inputs, but 'forward' takes {}",
                if least == most { most.to_string() } else { format!("{least} to {most}") }
            );
            findings.push(Finding::error(message).cured_by(cure()));
        }
    }
    let beyond = |results| {
        let mut outputs = mapping::outputs(config).into_iter();
        outputs.find(|(_, index)| *index >= results).map(|(name, _)| missing_output(name, results))
    };
    if let Some(error) = forward.results.and_then(beyond) {
        findings.push(Finding::from(error).cured_by(cure()));
    }
    findings
}

/// What the file says, to be held against what was written.
fn describe(forward: &Forward) -> String {
    let one = |argument: &Argument| format!("{}: {}", argument.name, argument.kind);
    let arguments: Vec<String> = forward.arguments.iter().map(one).collect();
    let results = forward.results.map_or("an open number of".to_owned(), |n| n.to_string());
    format!("the file has forward({}), which returns {results} values", arguments.join(", "))
}

/// Names of inputs, and as many outputs as there are; the file knows no types and no shapes.
pub(crate) fn draft(file: &Path) -> Result<ModelConfig> {
    let forward = Forward::read(file)?;
    let tensors = forward.arguments.into_iter().filter(|argument| !argument.optional);
    let input = |argument: Argument| ModelInput { name: argument.name, ..Default::default() };
    let output = |number| ModelOutput { name: format!("OUTPUT__{number}"), ..Default::default() };
    Ok(ModelConfig {
        input: tensors.map(input).collect(),
        output: (0..forward.results.unwrap_or(1)).map(output).collect(),
        ..Default::default()
    })
}
