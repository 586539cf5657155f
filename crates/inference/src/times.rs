//! When a request passed the stations that statistics, traces and metrics report.

use std::time::{Duration, Instant};

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
    /// What its response cache said, where its model has one.
    pub cache: Option<CacheLookup>,
}

/// How a request fared with a response cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheLookup {
    pub hit: bool,
    /// Of the lookup, and after a miss of the insertion as well.
    pub duration: Duration,
}

impl Times {
    pub fn now() -> Self {
        Self {
            arrived: Instant::now(),
            queued: None,
            started: None,
            input_ready: None,
            computed: None,
            cache: None,
        }
    }
}
