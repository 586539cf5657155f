//! What is traced, in the terms of Triton's trace extension.

use std::time::Duration;

use nereid_inference::{Error, Result};

/// What a trace holds; nothing: there are no traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    pub timestamps: bool,
    pub tensors: bool,
}

impl Level {
    pub const OFF: Self = Self { timestamps: false, tensors: false };

    pub fn is_off(self) -> bool {
        self == Self::OFF
    }

    /// The same with one more; names that are unknown add nothing, as in Triton.
    #[must_use]
    pub fn with(self, name: &str) -> Self {
        match name {
            "TIMESTAMPS" => Self { timestamps: true, ..self },
            "TENSORS" => Self { tensors: true, ..self },
            _ => self,
        }
    }

    pub fn names(self) -> Vec<&'static str> {
        let all =
            [(self.is_off(), "OFF"), (self.timestamps, "TIMESTAMPS"), (self.tensors, "TENSORS")];
        all.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect()
    }
}

/// Settings that a model may have of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub level: Level,
    /// One of so many requests is traced; 0: only those that bring a context along.
    pub rate: u32,
    /// How many more are traced; -1: as many as come.
    pub count: i64,
    /// How many traces go into a file; 0: all that there are, when the server stops.
    pub log_frequency: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: Level::OFF, rate: 1000, count: -1, log_frequency: 0 }
    }
}

impl Settings {
    /// What a change makes of them; `wider`: where it goes back to.
    #[must_use]
    pub(crate) fn changed(self, change: &Change, wider: Self) -> Self {
        let Change { level, rate, count, log_frequency } = change;
        Self {
            level: level.map_or(self.level, |level| level.unwrap_or(wider.level)),
            rate: rate.map_or(self.rate, |rate| rate.unwrap_or(wider.rate)),
            count: count.map_or(self.count, |count| count.unwrap_or(wider.count)),
            log_frequency: log_frequency
                .map_or(self.log_frequency, |number| number.unwrap_or(wider.log_frequency)),
        }
    }
}

/// What is to become different: `Some(None)` goes back to what is set for all models or, there, to
/// what was set at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub level: Option<Option<Level>>,
    pub rate: Option<Option<u32>>,
    pub count: Option<Option<i64>>,
    pub log_frequency: Option<Option<u32>>,
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Into files in Triton's format.
    Triton {
        file: String,
    },
    OpenTelemetry(OpenTelemetry),
}

impl Mode {
    /// Refuses, in Triton's words, to trace into no file, or never.
    pub(crate) fn check(&self, settings: Settings) -> Result<()> {
        let problem = match self {
            Self::Triton { .. } if settings.level.is_off() => return Ok(()),
            Self::Triton { .. } if settings.rate == 0 => "sample rate must be non-zero",
            Self::Triton { file } if file.is_empty() => "trace file name is not given",
            _ => return Ok(()),
        };
        Err(Error::invalid_arg(format!("Attempting to set invalid trace setting :{problem}")))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTelemetry {
    pub url: String,
    /// Attributes of this server.
    pub resource: Vec<(String, String)>,
    /// Spans that wait to be sent; those beyond are dropped.
    pub max_queue_size: usize,
    pub max_export_batch_size: usize,
    /// How long spans wait for others.
    pub schedule_delay: Duration,
}

impl Default for OpenTelemetry {
    fn default() -> Self {
        Self {
            url: "http://localhost:4318/v1/traces".to_owned(),
            resource: Vec::new(),
            max_queue_size: 2048,
            max_export_batch_size: 512,
            schedule_delay: Duration::from_millis(5000),
        }
    }
}

/// What a server starts with.
#[derive(Clone, Debug)]
pub struct TraceConfig {
    pub settings: Settings,
    pub mode: Mode,
}
