//! Trace files in Triton's format: an array with an element for each thing that happened.

use std::fs;

/// Collects the elements of traces and writes them into one file, or into several of so many traces.
pub(crate) struct File {
    path: String,
    elements: Vec<String>,
    traces: u32,
    written: u32,
}

impl File {
    pub(crate) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), elements: Vec::new(), traces: 0, written: 0 }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn add(&mut self, elements: Vec<String>, log_frequency: u32) {
        self.elements.extend(elements);
        self.traces += 1;
        if log_frequency > 0 && self.traces >= log_frequency {
            let path = format!("{}.{}", self.path, self.written);
            self.write(&path);
        }
    }

    /// What is left, when the server stops.
    pub(crate) fn finish(&mut self) {
        if self.elements.is_empty() {
            return;
        }
        let path = match self.written {
            0 => self.path.clone(),
            number => format!("{}.{number}", self.path),
        };
        self.write(&path);
    }

    fn write(&mut self, path: &str) {
        let text = format!("[{}]", std::mem::take(&mut self.elements).join(","));
        self.traces = 0;
        self.written += 1;
        if let Err(error) = fs::write(path, text) {
            tracing::error!("failed to write the trace file '{path}': {error}");
        }
    }
}
