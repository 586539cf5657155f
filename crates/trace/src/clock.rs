//! Moments as numbers that others understand.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// One moment on all clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    instant: Instant,
    monotonic: Duration,
    epoch: Duration,
}

impl Clock {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Self {
            instant: Instant::now(),
            monotonic: Duration::new(seconds, nanos),
            epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// Nanoseconds since the machine has started, as in Triton's files.
    pub(crate) fn monotonic_ns(&self, at: Instant) -> u64 {
        self.shift(self.monotonic, at)
    }

    /// Nanoseconds since 1970.
    pub(crate) fn epoch_ns(&self, at: Instant) -> u64 {
        self.shift(self.epoch, at)
    }

    fn shift(&self, base: Duration, at: Instant) -> u64 {
        let shifted = match at.checked_duration_since(self.instant) {
            Some(later) => base + later,
            None => base.saturating_sub(self.instant.duration_since(at)),
        };
        u64::try_from(shifted.as_nanos()).unwrap_or(u64::MAX)
    }
}
