//! A place in a text file, and the line that stands there.

use std::ops::Range;

/// A place to show to a person: numbers count from one, columns in characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    pub line: usize,
    pub column: usize,
    /// Characters from there that are meant; at least one.
    pub width: usize,
    /// The whole line.
    pub text: String,
}

impl Spot {
    /// The place of some bytes of `text`; of more than one line the first is shown.
    pub fn new(text: &str, span: Range<usize>) -> Self {
        let before = &text[..span.start];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let whole = text[start..].lines().next().unwrap_or_default();
        let meant = text[span].lines().next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            width: meant.trim_end().chars().count().max(1),
            text: whole.to_owned(),
        }
    }
}
