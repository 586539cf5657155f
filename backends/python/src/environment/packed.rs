//! `EXECUTION_ENV_PATH`: an environment packed by conda-pack or venv-pack, or its folder.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use flate2::read::GzDecoder;
use nereid_backend::ModelSource;
use nereid_inference::{Error, Result};

use super::{Environment, cached, run};

/// Stands for the model's folder in the path.
const MODEL_DIRECTORY: &str = "$$TRITON_MODEL_DIRECTORY";

pub(super) fn environment(source: &ModelSource, path: &str) -> Result<Environment> {
    let path = located(source, path);
    let metadata = fs::metadata(&path).map_err(|error| {
        Error::invalid_arg(format!(
            "model '{}': EXECUTION_ENV_PATH {}: {error}",
            source.name,
            path.display()
        ))
    })?;
    if metadata.is_dir() {
        return Environment::in_folder(&path);
    }
    let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let key = format!("{} {} {written:?}", path.display(), metadata.len());
    let name = format!("python-env-{}", &blake3::hash(key.as_bytes()).to_hex()[..16]);
    let folder = cached(&name, |folder| unpack(&source.name, &path, folder))?;
    Environment::in_folder(&folder)
}

fn located(source: &ModelSource, path: &str) -> PathBuf {
    match path.strip_prefix(MODEL_DIRECTORY) {
        Some(rest) => source.model_dir.join(rest.trim_start_matches('/')),
        None => PathBuf::from(path),
    }
}

fn unpack(model: &str, archive: &Path, folder: &Path) -> Result<()> {
    tracing::info!("'{model}': unpacking the environment {}", archive.display());
    let file = File::open(archive);
    let unpacked = file
        .and_then(|file| tar::Archive::new(GzDecoder::new(BufReader::new(file))).unpack(folder));
    unpacked.map_err(|error| {
        Error::invalid_arg(format!(
            "model '{model}': failed to unpack {}: {error}",
            archive.display()
        ))
    })?;
    // conda-pack puts the paths right with a script of its own.
    let script = folder.join("bin/conda-unpack");
    if script.exists() {
        run::logged(model, Command::new(folder.join("bin/python")).arg(script))?;
    }
    Ok(())
}
