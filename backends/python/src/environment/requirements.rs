//! An environment built from the `requirements.txt` in a model's folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nereid_backend::ModelSource;
use nereid_inference::{Error, Result};

use super::{cached, run};

/// The environment with what the model requires, built with `python`; `None` if the model has no
/// requirements, or the backend's setting `requirements` is `ignore`. It is kept under a name made
/// of the requirements and the interpreter: the same ones are built once, and found again without
/// a network.
pub(super) fn environment(source: &ModelSource, python: &Path) -> Result<Option<PathBuf>> {
    let file = source.model_dir.join("requirements.txt");
    if !file.is_file() || source.setting("requirements") == Some("ignore") {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    add_file(&mut hasher, &file)?;
    hasher.update(&identity(python)?);
    let name = format!("python-venv-{}", &hasher.finalize().to_hex()[..16]);
    let build = |folder: &Path| {
        tracing::info!("'{}': building an environment from {}", source.name, file.display());
        let built = make(&source.name, python, folder)
            .and_then(|()| install(&source.name, &file, &source.model_dir, folder));
        built.map_err(|error| {
            Error::new(
                error.code(),
                format!(
                    "model '{}': failed to build an environment from {} (not wanted? \
                     --backend-config=python,requirements=ignore): {}",
                    source.name,
                    file.display(),
                    error.message()
                ),
            )
        })
    };
    cached(&name, build).map(Some)
}

/// Adds what a requirements file says, and those that it includes.
fn add_file(hasher: &mut blake3::Hasher, file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).map_err(|error| {
        Error::invalid_arg(format!("failed to read {}: {error}", file.display()))
    })?;
    hasher.update(text.as_bytes());
    for included in text.lines().filter_map(included) {
        add_file(hasher, &file.with_file_name(included))?;
    }
    Ok(())
}

/// The file that a line `-r FILE` or `-c FILE` names.
fn included(line: &str) -> Option<&str> {
    let line = line.trim();
    let options =
        ["--requirement=", "--requirement ", "-r", "--constraint=", "--constraint ", "-c"];
    let rest = options.into_iter().find_map(|option| line.strip_prefix(option))?;
    let file = rest.split(" #").next().unwrap_or(rest).trim();
    (!file.is_empty() && !file.contains("://")).then_some(file)
}

/// What tells interpreters apart.
fn identity(python: &Path) -> Result<Vec<u8>> {
    let ask = "import sys; print(sys.version, sys.base_prefix)";
    let output = Command::new(python).args(["-c", ask]).output();
    output.map(|output| output.stdout).map_err(|error| {
        Error::internal(format!(
            "failed to run the Python interpreter '{}': {error}",
            python.display()
        ))
    })
}

fn has_uv() -> bool {
    Command::new("uv").arg("--version").output().is_ok_and(|output| output.status.success())
}

fn make(model: &str, python: &Path, folder: &Path) -> Result<()> {
    if has_uv() {
        // `--allow-existing`: the folder was made for it.
        let mut command = Command::new("uv");
        command.args(["venv", "--allow-existing", "--python"]).arg(python).arg(folder);
        return run::logged(model, &mut command);
    }
    run::logged(model, Command::new(python).args(["-m", "venv"]).arg(folder))
}

fn install(model: &str, file: &Path, model_dir: &Path, folder: &Path) -> Result<()> {
    let python = folder.join("bin/python");
    let mut command = if has_uv() {
        let mut command = Command::new("uv");
        command.args(["pip", "install", "--python"]).arg(python);
        command
    } else {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"]);
        command
    };
    // numpy is what the worker itself needs. Paths in the file are meant from the model's folder.
    run::logged(model, command.arg("numpy").arg("-r").arg(file).current_dir(model_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn included_files_count() {
        for (line, file) in [
            ("-r more.txt", Some("more.txt")),
            ("  --constraint=limits.txt  # why", Some("limits.txt")),
            ("-c https://example.org/x.txt", None),
            ("requests", None),
        ] {
            assert_eq!(included(line), file, "{line}");
        }
        let folder = tempfile::tempdir().unwrap();
        let (main, more) = (folder.path().join("requirements.txt"), folder.path().join("more.txt"));
        let hash = || {
            let mut hasher = blake3::Hasher::new();
            add_file(&mut hasher, &main).map(|()| hasher.finalize())
        };
        fs::write(&main, "-r more.txt\n").unwrap();
        assert!(hash().unwrap_err().message().contains("more.txt"));
        fs::write(&more, "a==1\n").unwrap();
        let first = hash().unwrap();
        fs::write(&more, "a==2\n").unwrap();
        assert_ne!(hash().unwrap(), first);
    }
}
