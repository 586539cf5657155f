//! When a request passed the stations that statistics, traces and metrics report.

use std::time::Instant;

/// Filled in on the way; a station that a request never reached stays `None`.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The whole request had been received.
    pub arrived: Instant,
    /// It joined a scheduler's queue.
    pub queued: Option<Instant>,
    /// An instance took it.
    pub started: Option<Instant>,
    /// Its inputs were ready for the model.
    pub input_ready: Option<Instant>,
    /// The model had computed.
    pub computed: Option<Instant>,
}

impl Times {
    pub fn now() -> Self {
        Self {
            arrived: Instant::now(),
            queued: None,
            started: None,
            input_ready: None,
            computed: None,
        }
    }
}
