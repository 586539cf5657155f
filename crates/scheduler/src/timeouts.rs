//! When requests will have waited too long.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Moments, each with the level and the number of a request. Those of requests that ran in time
/// stay in it for a while. Empty unless a policy sets some.
#[derive(Default)]
pub(crate) struct Timeouts(BinaryHeap<Reverse<(Instant, u64, u64)>>);

impl Timeouts {
    /// So many requests wait; `waits` says of one whether it does. What has become useless is dropped
    /// once it is the larger part.
    pub(crate) fn set(
        &mut self,
        at: Instant,
        level: u64,
        number: u64,
        waiting: usize,
        waits: impl Fn(u64, u64) -> bool,
    ) {
        if self.0.len() > 2 * waiting + 64 {
            self.0.retain(|Reverse((_, level, number))| waits(*level, *number));
        }
        self.0.push(Reverse((at, level, number)));
    }

    /// Level and number of a request whose time has come, if it still waits.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(u64, u64)> {
        let Reverse((at, level, number)) = *self.0.peek()?;
        (at <= now).then(|| {
            self.0.pop();
            (level, number)
        })
    }

    /// The earliest moment.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Nobody waits.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
