//! Holds a scheduler back until enough requests wait: how Triton's tests see to it that a batch
//! forms of what they send.

use std::str::FromStr;

/// Requests that must wait before the first batch is made. Once they do, it is over for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Requests in the queue, or in the slots of sequences.
    pub queued: usize,
    /// Requests of sequences that have no slot. Counts only together with the others.
    pub backlog: usize,
}

impl Hold {
    /// What `TRITONSERVER_DELAY_SCHEDULER` and `TRITONSERVER_BACKLOG_DELAY_SCHEDULER` ask for.
    pub fn from_environment() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| usize::from_str(&text).ok());
        Self {
            queued: number("TRITONSERVER_DELAY_SCHEDULER").unwrap_or(0),
            backlog: number("TRITONSERVER_BACKLOG_DELAY_SCHEDULER").unwrap_or(0),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.queued == 0
    }

    /// Tells how many wait now; whether that is not enough.
    pub(crate) fn holds(&mut self, queued: usize, backlog: usize) -> bool {
        if queued >= self.queued && backlog >= self.backlog {
            *self = Self::default();
        }
        !self.is_over()
    }
}
