//! Asks a short-lived interpreter about a model.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::environment::Environment;

/// Runs a module of the worker package, which reads one JSON value and writes another.
pub(crate) fn ask(
    environment: &Environment,
    module: &str,
    question: &Value,
    python_path: OsString,
) -> std::io::Result<Value> {
    let mut child = Command::new(&environment.python)
        .envs(environment.variables.iter().map(|(name, value)| (name, value)))
        .args(["-m", module])
        .env("PYTHONPATH", python_path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(question.to_string().as_bytes())?;
    }
    let output = child.wait_with_output()?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| std::io::Error::other(format!("it {} without an answer", output.status)))
}
