//! Judges a model.py without running it, by the interpreter that would run it; what it says of its
//! tensors is enough to begin a configuration.

use std::path::Path;

use nereid_backend::{Finding, ModelSource};
use nereid_inference::{Error, Result};
use nereid_model_config::{ModelConfig, ModelInput, ModelOutput, Spot};
use serde_json::{Value, json};

use crate::ask::ask;
use crate::environment::Environment;
use crate::launch::python_path;

pub(crate) fn check(source: &ModelSource, model_file: &Path, worker_dir: &Path) -> Vec<Finding> {
    if !model_file.is_file() {
        let cure = "put the model there, or name its file in default_model_filename";
        let message = format!("{} is not a file", model_file.display());
        return vec![Finding::error(message).in_file(&source.version_dir).cured_by(cure)];
    }
    let answer = match look(source, model_file, worker_dir) {
        Ok(answer) => answer,
        Err(error) => {
            let cure = "name an interpreter with --backend-config=python,python=PATH";
            return vec![Finding::from(error).cured_by(cure)];
        }
    };
    let said = answer["findings"].as_array().into_iter().flatten();
    let mut findings: Vec<_> = said.map(|said| finding(said).in_file(model_file)).collect();
    let known = |name: &&str| source.config.find_input(name).is_some();
    let controls = source.config.sequence_batching().is_some();
    for name in names(&answer["inputs"]).filter(|name| !controls && !known(name)) {
        let message = format!("asks for input '{name}', which the configuration does not have");
        let cure = "use the same name in both";
        findings.push(Finding::warning(message).in_file(model_file).cured_by(cure));
    }
    findings
}

/// The tensors that the file names, without their types and shapes.
pub(crate) fn draft(
    source: &ModelSource,
    model_file: &Path,
    worker_dir: &Path,
) -> Result<ModelConfig> {
    let answer = look(source, model_file, worker_dir)?;
    if let Some(said) = answer["findings"].as_array().and_then(|said| said.first()) {
        let message = finding(said).message;
        return Err(Error::invalid_arg(format!("{}: {message}", model_file.display())));
    }
    let input = |name: &str| ModelInput { name: name.to_owned(), ..Default::default() };
    let output = |name: &str| ModelOutput { name: name.to_owned(), ..Default::default() };
    Ok(ModelConfig {
        input: names(&answer["inputs"]).map(input).collect(),
        output: names(&answer["outputs"]).map(output).collect(),
        ..Default::default()
    })
}

fn look(source: &ModelSource, model_file: &Path, worker_dir: &Path) -> Result<Value> {
    let environment = Environment::of(source)?;
    let question = json!({
        "model_dir": source.model_dir,
        "version_dir": source.version_dir,
        "model_file": model_file,
    });
    let asked = ask(&environment, "nereid_worker.check", &question, python_path(worker_dir));
    asked.map_err(|error| {
        Error::internal(format!(
            "failed to run the Python interpreter '{}': {error}",
            environment.python.display()
        ))
    })
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn finding(said: &Value) -> Finding {
    let text = |key: &str| said[key].as_str().unwrap_or_default();
    let number = |key: &str| said[key].as_u64().and_then(|n| usize::try_from(n).ok());
    let finding = match text("severity") {
        "warning" => Finding::warning(text("message")),
        _ => Finding::error(text("message")),
    };
    let finding = finding.cured_by(text("cure"));
    let Some((line, column)) = number("line").zip(number("column")) else { return finding };
    let line_text = text("text").trim_end().to_owned();
    let width = line_text.chars().count().saturating_sub(column - 1).max(1);
    finding.at(Spot { line, column, width, text: line_text })
}
