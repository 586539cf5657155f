//! How much waits for a client that reads slowly, or not at all.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes of answers above which a stream takes in no more requests: its client has to read first.
const PAUSE: usize = 256 << 20;
/// Bytes of answers above which a model that sends many is told to stop.
const LIMIT: usize = 1 << 30;

/// The answers of one stream that have not been sent yet.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: AtomicUsize,
    less: Notify,
}

impl Backlog {
    /// An answer waits; `false` if there are too many already, and nobody seems to read them.
    pub fn add(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed) <= LIMIT
    }

    /// An answer has been sent.
    pub fn remove(&self, bytes: usize) {
        if self.bytes.fetch_sub(bytes, Ordering::Relaxed) > PAUSE {
            self.less.notify_one();
        }
    }

    /// Waits until the client has read enough to ask for more. There is one who waits.
    pub async fn room(&self) {
        while self.bytes.load(Ordering::Relaxed) > PAUSE {
            self.less.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_waits_for_who_reads() {
        let backlog = Backlog::default();
        assert!(backlog.add(PAUSE + 10));
        let waits = async {
            backlog.room().await;
            backlog.bytes.load(Ordering::Relaxed)
        };
        let reads = async {
            tokio::task::yield_now().await;
            backlog.remove(4);
            tokio::task::yield_now().await;
            backlog.remove(6);
        };
        assert_eq!(tokio::join!(waits, reads).0, PAUSE);
        assert!(backlog.add(LIMIT));
        assert!(!backlog.add(1));
    }
}
