//! What is to be said of a model before it is loaded.

use std::path::PathBuf;

use nereid_inference::Error;
use nereid_model_config::Spot;

/// One thing that is wrong, or that may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub file: Option<PathBuf>,
    pub spot: Option<Spot>,
    pub message: String,
    /// What to do about it; empty if the message says it.
    pub cure: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It would not serve.
    Error,
    /// It would serve, perhaps not as it was meant.
    Warning,
}

impl Finding {
    pub fn error(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity: Severity::Error, file: None, spot: None, message, cure: String::new() }
    }

    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    #[must_use]
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    #[must_use]
    pub fn at(mut self, spot: Spot) -> Self {
        self.spot = Some(spot);
        self
    }

    #[must_use]
    pub fn cured_by(mut self, cure: impl Into<String>) -> Self {
        self.cure = cure.into();
        self
    }
}

impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        Self::error(error.message())
    }
}
