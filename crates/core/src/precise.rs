//! Waits for a moment to the microsecond. The runtime's own timers go by whole milliseconds, and
//! queue delays are often shorter than one.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time;

/// The last part of a wait, which the kernel's own timer measures: longer than the runtime's are
/// late.
const LAST: Duration = Duration::from_millis(3);

/// Returns at `moment`, or as soon after it as the thread is free.
pub(crate) async fn sleep_until(moment: Instant) {
    if let Some(before) = moment.checked_sub(LAST)
        && before > Instant::now()
    {
        time::sleep_until(before.into()).await;
    }
    let left = moment.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return;
    }
    match timer(left) {
        Ok(timer) => {
            let _ = timer.readable().await;
        }
        // For want of descriptors, perhaps.
        Err(_) => time::sleep(left).await,
    }
}

/// Becomes readable after this time.
#[expect(deprecated, reason = "sound for an `OwnedFd`; what takes its place is unsafe to call")]
fn timer(left: Duration) -> io::Result<AsyncFd<OwnedFd>> {
    let timer =
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let value = Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    let once = Itimerspec { it_interval: never, it_value: value };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    AsyncFd::new(timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_wait_ends_early() {
        for wait in [0, 50, 700, 5_000] {
            let moment = Instant::now() + Duration::from_micros(wait);
            sleep_until(moment).await;
            assert!(Instant::now() >= moment, "{wait}");
        }
    }
}
