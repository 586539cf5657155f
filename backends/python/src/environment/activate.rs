//! What activating an environment changes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Variables that a shell sets for itself.
const OF_THE_SHELL: [&str; 4] = ["_", "SHLVL", "PWD", "OLDPWD"];

/// The variables that differ in the environment: as its own `bin/activate` sets them, if it has
/// such and there is a shell, else those that every environment has.
pub(super) fn variables(folder: &Path) -> Vec<(OsString, OsString)> {
    let mut variables = activated(folder).unwrap_or_else(|| plain(folder));
    // Libraries that packages are linked with lie there, as Triton has it.
    variables.push(("LD_LIBRARY_PATH".into(), in_front("LD_LIBRARY_PATH", &folder.join("lib"))));
    variables
}

fn activated(folder: &Path) -> Option<Vec<(OsString, OsString)>> {
    let script = folder.join("bin/activate");
    if !script.exists() {
        return None;
    }
    let output = Command::new("bash")
        .args(["-c", r#"source "$0" >&2 && env -0"#])
        .arg(script)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let assignments = output.stdout.split(|&byte| byte == 0);
    Some(assignments.filter_map(assignment).filter(|(name, value)| differs(name, value)).collect())
}

fn assignment(text: &[u8]) -> Option<(OsString, OsString)> {
    let equals = text.iter().position(|&byte| byte == b'=')?;
    let (name, value) =
        (OsStr::from_bytes(&text[..equals]), OsStr::from_bytes(&text[equals + 1..]));
    Some((name.to_owned(), value.to_owned()))
}

fn differs(name: &OsStr, value: &OsStr) -> bool {
    let own = name.to_str().is_some_and(|name| OF_THE_SHELL.contains(&name));
    !own && std::env::var_os(name).is_none_or(|known| known != value)
}

fn plain(folder: &Path) -> Vec<(OsString, OsString)> {
    vec![
        ("VIRTUAL_ENV".into(), folder.into()),
        ("PATH".into(), in_front("PATH", &folder.join("bin"))),
    ]
}

/// The list in a variable with `folder` in front.
fn in_front(variable: &str, folder: &Path) -> OsString {
    let mut list = folder.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os(variable).filter(|rest| !rest.is_empty()) {
        list.push(":");
        list.push(rest);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_script_decides() {
        let folder = tempfile::tempdir().unwrap();
        let find = |name: &str| {
            let all = variables(folder.path());
            all.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
        };
        assert_eq!(find("VIRTUAL_ENV").unwrap(), folder.path());
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        let script = "echo noise; export OF_THE_ENVIRONMENT='a b'\n";
        std::fs::write(folder.path().join("bin/activate"), script).unwrap();
        assert_eq!(find("OF_THE_ENVIRONMENT").unwrap(), "a b");
        assert_eq!(find("VIRTUAL_ENV"), None);
        assert!(find("LD_LIBRARY_PATH").unwrap().to_str().unwrap().contains("/lib"));
    }
}
