//! Which interpreter runs a model, and with which packages.
//!
//! In this order: the environment that the model's parameter `EXECUTION_ENV_PATH` names, one built
//! from the `requirements.txt` in its folder, the interpreter of its parameter `python`, that of
//! the backend's setting `python`, and `python3` of the PATH.

mod activate;
mod packed;
mod requirements;
mod run;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nereid_backend::{ModelSource, cache_folder};
use nereid_inference::{Error, Result};

/// What a worker is started with.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) python: PathBuf,
    /// Variables that differ from the server's own.
    pub(crate) variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// The environment of a model. The first time it may have to be unpacked or built.
    pub(crate) fn of(source: &ModelSource) -> Result<Self> {
        if let Some(path) = source.config.parameter("EXECUTION_ENV_PATH") {
            return packed::environment(source, path);
        }
        let chosen = source.config.parameter("python").or(source.setting("python"));
        let python = PathBuf::from(chosen.unwrap_or("python3"));
        match requirements::environment(source, &python)? {
            Some(folder) => Self::in_folder(&folder),
            None => Ok(Self { python, variables: Vec::new() }),
        }
    }

    /// The environment in a folder made by venv or conda.
    fn in_folder(folder: &Path) -> Result<Self> {
        let candidates = ["bin/python", "bin/python3"].map(|python| folder.join(python));
        let Some(python) = candidates.into_iter().find(|python| python.exists()) else {
            return Err(Error::invalid_arg(format!(
                "the Python environment {} has no bin/python",
                folder.display()
            )));
        };
        Ok(Self { python, variables: activate::variables(folder) })
    }
}

/// Makes a folder of the cache with `build`, unless it was made before, maybe by another server.
/// What was left by one that did not finish is made again.
fn cached(name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let failed = |error: io::Error| {
        Error::internal(format!("failed to keep a Python environment in the cache: {error}"))
    };
    let root = cache_folder().map_err(failed)?;
    let (folder, done) = (root.join(name), root.join(format!("{name}.done")));
    let lock = File::create(root.join(format!("{name}.lock"))).map_err(failed)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| failed(error.into()))?;
    if done.exists() && folder.exists() {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    fs::create_dir(&folder).map_err(failed)?;
    if let Err(error) = build(&folder) {
        let _ = fs::remove_dir_all(&folder);
        return Err(error);
    }
    File::create(done).map_err(failed)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_once_and_again_after_a_failure() {
        let name = format!("test-{}", std::process::id());
        let failed = cached(&name, |_| Err(Error::internal("no")));
        assert_eq!(failed.unwrap_err().message(), "no");
        let made = cached(&name, |folder| {
            fs::write(folder.join("file"), "x").unwrap();
            Ok(())
        });
        let folder = made.unwrap();
        assert_eq!(cached(&name, |_| panic!("made before")).unwrap(), folder);
        assert!(folder.join("file").exists());
        fs::remove_dir_all(&folder).unwrap();
        for ending in ["done", "lock"] {
            fs::remove_file(folder.with_extension(ending)).unwrap();
        }
    }
}
