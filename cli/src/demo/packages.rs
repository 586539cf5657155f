//! A Python with the packages that the demo needs, kept for the next time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nereid_backend::cache_folder;

/// What was installed into an environment; written when all of it was.
const RECORD: &str = "installed.txt";

/// The interpreter of a virtual environment that has what `requirements` lists, and `extra`.
/// Pip's progress is shown.
pub(super) fn python_with(requirements: &Path, extra: Option<&str>) -> Result<PathBuf, String> {
    let wanted = wanted(requirements, extra)?;
    let folder = cache_folder().map_err(|error| error.to_string())?.join("demo-venv");
    let python = folder.join("bin/python");
    let record = folder.join(RECORD);
    let has = fs::read_to_string(&record).unwrap_or_default();
    if wanted.iter().all(|package| has.lines().any(|line| line == package)) && works(&python) {
        return Ok(python);
    }
    if !works(&python) {
        make(&folder)?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--disable-pip-version-check"]).args(&wanted);
    let installed = install.status().map_err(|error| format!("{}: {error}", python.display()))?;
    if !installed.success() {
        return Err(format!(
            "pip could not install {} into {}",
            wanted.join(", "),
            folder.display()
        ));
    }
    let listed = wanted.join("\n") + "\n";
    fs::write(&record, listed).map_err(|error| format!("{}: {error}", record.display()))?;
    Ok(python)
}

/// The folder with ONNX Runtime's library in the environment of this interpreter.
pub(super) fn onnxruntime_of(python: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(python.parent()?.parent()?.join("lib")).ok()?;
    let mut folders =
        versions.flatten().map(|found| found.path().join("site-packages/onnxruntime/capi"));
    folders.find(|folder| folder.is_dir())
}

fn wanted(requirements: &Path, extra: Option<&str>) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(requirements)
        .map_err(|error| format!("{}: {error}", requirements.display()))?;
    let listed =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(listed.chain(extra).map(str::to_owned).collect())
}

/// Whether the interpreter runs: the one it was made from may have gone.
fn works(python: &Path) -> bool {
    let mut version = Command::new(python);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn make(folder: &Path) -> Result<(), String> {
    println!("   making a virtual environment in {}", folder.display());
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder).status();
    match made {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => {
            Err("python3 cannot make virtual environments; on Debian and Ubuntu: apt-get install \
                      python3-venv"
                .to_owned())
        }
        Err(error) => Err(format!("python3 is needed: {error}")),
    }
}
