//! Polls for a moment before sleeping, while that pays.
//!
//! Waking a sleeping core costs more than a small request. While events follow each other closely
//! the reactor therefore keeps polling for up to a given time after the last one; as soon as they
//! do not, it sleeps at once, since polling would only take the core from others.

use std::time::{Duration, Instant};

use nereid_backend::Pulse;

/// The next event is "soon" if it comes within this time.
const SOON: Duration = Duration::from_micros(250);
/// How many soon events it takes to start polling; a late one undoes as many.
const CONVINCED: u32 = 6;
/// How often to look whether events have begun to follow each other closely.
const LOOK: Duration = Duration::from_millis(5);

/// Runs for the life of the reactor.
pub(crate) async fn run(pulse: Pulse, limit: Duration) {
    if limit.is_zero() {
        return std::future::pending().await;
    }
    loop {
        wait_for_traffic(&pulse).await;
        poll_while_it_pays(&pulse, limit).await;
    }
}

/// Sleeps until events come so often that polling is worth a try.
async fn wait_for_traffic(pulse: &Pulse) {
    let mut seen = pulse.count();
    loop {
        tokio::time::sleep(LOOK).await;
        let count = pulse.count();
        if count - seen >= (LOOK.as_micros() / SOON.as_micros()) as u64 {
            return;
        }
        seen = count;
    }
}

/// Keeps the reactor from sleeping. Yielding lets it run everything that is ready and look for
/// new events before it comes back here.
async fn poll_while_it_pays(pulse: &Pulse, limit: Duration) {
    let mut last = (pulse.count(), Instant::now());
    let mut score = CONVINCED;
    while score > 0 {
        tokio::task::yield_now().await;
        let (count, now) = (pulse.count(), Instant::now());
        if count != last.0 {
            let soon = now - last.1 <= SOON;
            score =
                if soon { (score + 1).min(2 * CONVINCED) } else { score.saturating_sub(CONVINCED) };
            last = (count, now);
        } else if now - last.1 > limit {
            // Nothing came: let the reactor sleep once, until the next event is due.
            tokio::time::sleep(Duration::from_millis(1)).await;
            score = if pulse.count() == last.0 { 0 } else { score - 1 };
            last = (pulse.count(), Instant::now());
        }
    }
}
