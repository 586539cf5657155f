//! What is wrong with a text, and where.

use std::{ops::Range, path::Path};

use nereid_inference::Error;

use super::spot::Spot;

/// Longest piece of the text that a message quotes, in characters.
const QUOTE: usize = 40;

/// Why a text is no configuration.
#[derive(Debug)]
pub struct Problem {
    pub what: String,
    /// Byte offsets of the offending text; empty at the end of the file.
    pub span: Range<usize>,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, span: Range<usize>) -> Self {
        Self { what: what.into(), span }
    }

    pub(super) fn into_error(self, text: &str, path: &Path) -> Error {
        let Spot { line, column, .. } = Spot::new(text, self.span.clone());
        let near = match text[self.span].lines().next() {
            Some(offending) => offending.chars().take(QUOTE).collect(),
            None => String::from("end of file"),
        };
        let (path, what) = (path.display(), self.what);
        Error::invalid_arg(format!("{path}:{line}:{column}: {what} (near '{near}')"))
    }
}
