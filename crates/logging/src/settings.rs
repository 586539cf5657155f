//! What is logged and how, in the terms of Triton's logging extension.

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `I1124 13:11:34.251173 16065 serve.rs:120] "message"`
    #[default]
    Default,
    /// `2026-11-24T13:11:34Z I 16065 serve.rs:120] "message"`
    Iso8601,
    /// One object on each line. (Not in Triton.)
    Json,
}

impl Format {
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Default, Self::Iso8601, Self::Json].into_iter().find(|format| format.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Iso8601 => "ISO8601",
            Self::Json => "json",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Empty: standard error.
    pub file: String,
    pub info: bool,
    pub warning: bool,
    pub error: bool,
    pub verbose_level: u32,
    pub format: Format,
    /// A line for every request that is answered.
    pub access: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            file: String::new(),
            info: true,
            warning: true,
            error: true,
            verbose_level: 0,
            format: Format::Default,
            access: false,
        }
    }
}

/// What is to become different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub info: Option<bool>,
    pub warning: Option<bool>,
    pub error: Option<bool>,
    pub verbose_level: Option<u32>,
    pub format: Option<Format>,
}

impl Settings {
    pub(crate) fn change(&mut self, change: &Change) {
        self.info = change.info.unwrap_or(self.info);
        self.warning = change.warning.unwrap_or(self.warning);
        self.error = change.error.unwrap_or(self.error);
        self.verbose_level = change.verbose_level.unwrap_or(self.verbose_level);
        self.format = change.format.unwrap_or(self.format);
    }
}
