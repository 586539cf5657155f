//! Runs one batch on an instance that serves nobody yet, and waits for the end of it.

use std::sync::{Arc, mpsc};

use nereid_backend::{Batch, BatchOwner, BatchReport};
use nereid_inference::{Answer, Error, Request, ResponseSink, Times};

use crate::seat::Runner;

/// Where the answers of one request go: errors are told, everything else is dropped.
pub(super) struct Watcher(mpsc::Sender<Error>);

impl ResponseSink for Watcher {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        if let Some(Err(error)) = answer.response {
            // The receiver waits until all senders are gone.
            let _ = self.0.send(error);
        }
    }
}

/// Keeps the channel open as long as the batch is somewhere.
struct Owner {
    _open: mpsc::Sender<Error>,
}

impl BatchOwner for Owner {
    fn batch_done(self: Arc<Self>, _: usize, _: BatchReport, rescheduled: Vec<Request>) {
        // The model would go on, so it works.
        rescheduled.into_iter().for_each(|request| request.responder.finish());
    }
}

/// Runs the requests that `make` makes. Returns their errors once all of them have been answered
/// and the instance is free again.
pub(super) fn run(
    runner: &Runner,
    make: impl FnOnce(&dyn Fn() -> Watcher) -> Vec<Request>,
) -> Vec<Error> {
    let (sender, errors) = mpsc::channel();
    let requests = make(&|| Watcher(sender.clone()));
    if requests.is_empty() {
        return Vec::new();
    }
    runner.run(Batch::new(requests, Arc::new(Owner { _open: sender.clone() }), 0));
    drop(sender);
    errors.iter().collect()
}
