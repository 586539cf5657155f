//! What tells metrics of one family apart.

use std::fmt::Write as _;

/// Names and values, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Vec<(String, String)>);

impl Labels {
    /// The same with one more; a name that is there already gets the new value.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        match self.0.binary_search_by(|(known, _)| known.cmp(&name)) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
        self
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Writes `{a="1",b="2"}`, with `extra` behind the rest; nothing if there is none.
    pub(crate) fn write(&self, text: &mut String, extra: Option<(&str, &str)>) {
        let own = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut open = '{';
        for (name, value) in own.chain(extra) {
            // Writing to memory does not fail.
            let _ = write!(text, "{open}{name}=\"");
            escape(text, value, true);
            text.push('"');
            open = ',';
        }
        if open == ',' {
            text.push('}');
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(labels: I) -> Self {
        labels.into_iter().fold(Self::default(), |all, (name, value)| all.with(name, value))
    }
}

/// The format's escapes; quotes need one in the value of a label only.
pub(crate) fn escape(text: &mut String, value: &str, quotes: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}
