//! What a client sends with a load: a configuration and files of its own.

use std::path::{Component, Path};

use nereid_inference::{Error, Result};
use tempfile::TempDir;

/// What a client wants instead of what is in the repository.
#[derive(Clone, Debug, Default)]
pub struct Override {
    /// The configuration, as JSON.
    pub config: Option<String>,
    /// Paths in the model's folder, and what the files hold: they make up the whole folder.
    pub files: Vec<(String, Vec<u8>)>,
}

/// A name is a folder's name, and no way out of the repository.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        let message = "Model name cannot be empty. Please enter a valid name to deploy.";
        return Err(Error::invalid_arg(message));
    }
    if name == "." || name.contains("..") || name.contains(['/', '\\']) {
        return Err(Error::invalid_arg(format!(
            "invalid model name '{name}', model name must not contain path traversal characters"
        )));
    }
    Ok(())
}

/// Writes a client's files to a folder that goes when the model does.
pub(crate) fn write_files(files: &[(String, Vec<u8>)]) -> Result<TempDir> {
    let failed = |error: std::io::Error| {
        Error::internal(format!("failed to keep the files of the model: {error}"))
    };
    let folder = TempDir::with_prefix("nereid-model-").map_err(failed)?;
    for (name, contents) in files {
        let relative = Path::new(name);
        let inside = relative.components().all(|c| matches!(c, Component::Normal(_)));
        if !inside || name.is_empty() {
            return Err(Error::invalid_arg(format!("invalid file name '{name}'")));
        }
        let path = folder.path().join(relative);
        std::fs::create_dir_all(path.parent().unwrap_or(folder.path())).map_err(failed)?;
        std::fs::write(path, contents).map_err(failed)?;
    }
    Ok(folder)
}
