//! Lets a model's `auto_complete_config` add to its configuration, in a process of its own that
//! ends when it has answered.

use std::ffi::OsString;
use std::path::Path;

use nereid_backend::ModelSource;
use nereid_inference::{Error, Result};
use nereid_model_config::{self as model_config, ModelConfig};
use serde_json::{Value, json};

use crate::ask::ask;
use crate::environment::Environment;

/// The configuration as the model completes it; `None` where it does not want to.
pub(crate) fn complete(
    source: &ModelSource,
    config: &ModelConfig,
    model_file: &Path,
    backend_dir: Option<&Path>,
    python_path: OsString,
) -> Result<Option<ModelConfig>> {
    if !may_complete(config, model_file) {
        return Ok(None);
    }
    let config: Value = serde_json::from_str(&model_config::to_json(config))
        .map_err(|error| Error::internal(error.to_string()))?;
    let start = json!({
        "model_dir": source.model_dir,
        "version_dir": source.version_dir,
        "model_file": model_file,
        "backend_dir": backend_dir,
        "config": config,
    });
    let environment = Environment::of(source)?;
    let asked = ask(&environment, "nereid_worker.complete", &start, python_path);
    let answer = asked.map_err(|error| {
        Error::internal(format!(
            "failed to run the Python interpreter '{}': {error}",
            environment.python.display()
        ))
    })?;
    if let Some(error) = answer["error"].as_str() {
        return Err(Error::internal(error));
    }
    match &answer["config"] {
        Value::Null => Ok(None),
        completed => model_config::from_json(&completed.to_string()).map(Some),
    }
}

/// Starting Python takes a while. A model whose configuration has all that it needs, and which does
/// not mention the function, is not asked.
fn may_complete(config: &ModelConfig, model_file: &Path) -> bool {
    let complete = !config.input.is_empty() && !config.output.is_empty();
    let mentions = || {
        let text = std::fs::read(model_file).unwrap_or_default();
        let name = b"auto_complete_config";
        text.windows(name.len()).any(|window| window == name)
    };
    !complete || mentions()
}
