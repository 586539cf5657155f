//! Runs a tool whose progress people want to see.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};

use nereid_inference::{Error, Result};

/// Lines that an error repeats.
const LAST_LINES: usize = 12;

/// Runs `command` with its output in the log, line by line; the last lines are the error if it
/// fails.
pub(super) fn logged(model: &str, command: &mut Command) -> Result<()> {
    let mut last = VecDeque::new();
    let ended = run(command, |line| {
        tracing::info!("'{model}': {line}");
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    });
    let program = command.get_program().to_string_lossy().into_owned();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let last: Vec<String> = last.into();
            Err(Error::internal(format!("'{program}' ended with {status}:\n{}", last.join("\n"))))
        }
        Err(error) => Err(Error::internal(format!("failed to run '{program}': {error}"))),
    }
}

fn run(command: &mut Command, mut line: impl FnMut(&str)) -> io::Result<std::process::ExitStatus> {
    let (output, input) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    let mut child = command.spawn()?;
    // The command holds the pipe's other end too, and would keep it from ending.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for text in BufReader::new(output).split(b'\n') {
        line(String::from_utf8_lossy(&text?).trim_end());
    }
    child.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_error() {
        let failing = "for i in $(seq 30); do echo line $i; done; echo why >&2; exit 3";
        let error = logged("m", Command::new("sh").args(["-c", failing])).unwrap_err();
        assert!(error.message().ends_with("line 29\nline 30\nwhy"), "{error}");
        assert!(!error.message().contains("line 9\n"));
        assert!(logged("m", &mut Command::new("true")).is_ok());
        assert!(logged("m", &mut Command::new("/no/such")).is_err());
    }
}
