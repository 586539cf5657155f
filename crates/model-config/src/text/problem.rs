//! What is wrong with a text, and where.

use std::{ops::Range, path::Path};

use nereid_inference::Error;

/// Longest piece of the text that a message quotes, in characters.
const QUOTE: usize = 40;

#[derive(Debug)]
pub(super) struct Problem {
    pub(super) what: String,
    /// Byte offsets of the offending text; empty at the end of the file.
    pub(super) span: Range<usize>,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, span: Range<usize>) -> Self {
        Self { what: what.into(), span }
    }

    pub(super) fn into_error(self, text: &str, path: &Path) -> Error {
        let before = &text[..self.span.start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        let near = match text[self.span].lines().next() {
            Some(offending) => offending.chars().take(QUOTE).collect(),
            None => String::from("end of file"),
        };
        let (path, what) = (path.display(), self.what);
        Error::invalid_arg(format!("{path}:{line}:{column}: {what} (near '{near}')"))
    }
}
