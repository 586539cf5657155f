//! Whether a queue has to be searched for requests whose clients are gone.

use nereid_inference::{Cancellation, Request};

/// Remembers how many cancellations there had been when the queue was last searched.
#[derive(Debug, Default)]
pub(crate) struct Cancelled {
    seen: u64,
    /// One that was cancelled before has joined the queue since.
    joined: bool,
}

impl Cancelled {
    /// Tells of a request that joins the queue.
    pub(crate) fn join(&mut self, request: &Request) {
        self.joined |= request.cancellation.is_cancelled();
    }

    /// Whether there may be some since the last call.
    pub(crate) fn search(&mut self) -> bool {
        let seen = Cancellation::count();
        std::mem::take(&mut self.joined) | (std::mem::replace(&mut self.seen, seen) != seen)
    }
}
