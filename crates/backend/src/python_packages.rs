//! Finds packages of Python installations without importing them: the libraries of frameworks lie
//! there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folders of `package` in the active environment and in the interpreters around, lazily:
/// asking an interpreter takes a moment.
pub fn python_packages(package: &'static str) -> impl Iterator<Item = PathBuf> {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let in_active = active.map(|folder| environment_packages(&folder, package)).unwrap_or_default();
    let interpreters = ["python3", "/usr/bin/python3"].into_iter();
    in_active
        .into_iter()
        .chain(interpreters.filter_map(move |python| package_of_interpreter(python, package)))
}

/// `package` in the site-packages of a virtual environment.
pub fn environment_packages(environment: &Path, package: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(environment.join("lib")) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok().map(|e| e.path().join("site-packages").join(package)))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Where `import package` would find it: only the interpreter knows its paths. It only looks.
fn package_of_interpreter(python: &str, package: &str) -> Option<PathBuf> {
    const LOOK: &str = "import importlib.util as u, sys; \
        print(u.find_spec(sys.argv[1]).submodule_search_locations[0])";
    let mut command = Command::new(python);
    command.args(["-c", LOOK, package]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(path.trim_end()))
}
