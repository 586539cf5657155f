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

/// Runs for the life of the reactor.
pub(crate) async fn run(pulse: Pulse, limit: Duration) {
    if limit.is_zero() {
        return;
    }
    let mut rhythm = Rhythm { count: pulse.count(), last: Instant::now(), score: 0 };
    loop {
        pulse.next().await;
        rhythm.look(&pulse);
        while rhythm.score >= CONVINCED && rhythm.last.elapsed() <= limit {
            // Yielding lets the reactor run everything that is ready and look for new events
            // before it comes back here; what it does not do is sleep. The worker or the client
            // that the next event depends on may be waiting for this very core: it goes first.
            tokio::task::yield_now().await;
            rustix::thread::sched_yield();
            rhythm.look(&pulse);
        }
    }
}

/// Whether events follow each other closely.
struct Rhythm {
    count: u64,
    last: Instant,
    score: u32,
}

impl Rhythm {
    fn look(&mut self, pulse: &Pulse) {
        let count = pulse.count();
        if count == self.count {
            return;
        }
        let now = Instant::now();
        self.score = if now - self.last <= SOON {
            (self.score + 1).min(2 * CONVINCED)
        } else {
            self.score.saturating_sub(CONVINCED)
        };
        (self.count, self.last) = (count, now);
    }
}
