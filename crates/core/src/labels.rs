//! The names of classes, for outputs that have a file with labels.

use std::collections::HashMap;
use std::path::Path;

use nereid_inference::{Error, Result};
use nereid_model_config::ModelConfig;

/// Labels by output; line n of the file names class n.
#[derive(Debug, Default)]
pub(crate) struct Labels(HashMap<String, Vec<String>>);

impl Labels {
    pub(crate) fn read(config: &ModelConfig, model_dir: &Path) -> Result<Self> {
        let mut labels = HashMap::new();
        for output in config.output.iter().filter(|output| !output.label_filename.is_empty()) {
            let path = model_dir.join(&output.label_filename);
            let text = std::fs::read_to_string(&path).map_err(|error| {
                Error::invalid_arg(format!(
                    "failed to read the labels of output '{}': {}: {error}",
                    output.name,
                    path.display()
                ))
            })?;
            let lines = text.lines().map(|line| line.trim_end().to_owned()).collect();
            labels.insert(output.name.clone(), lines);
        }
        Ok(Self(labels))
    }

    pub(crate) fn get(&self, output: &str, class: usize) -> Option<&str> {
        self.0.get(output)?.get(class).map(String::as_str).filter(|label| !label.is_empty())
    }
}
