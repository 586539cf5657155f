//! What the server offers to its backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nereid_arena::Arena;
use nereid_inference::{Cancellation, Request};
use nereid_metrics::Registry;
use tokio::sync::Notify;

/// Given to a backend with every load.
#[derive(Clone)]
pub struct Host {
    /// Where a model that calls other models sends its requests.
    pub service: Arc<dyn Service>,
    /// Shared memory for tensors that cross a process boundary.
    pub arena: Arena,
    /// The reactor: hand-off instances register their descriptors and tasks here.
    pub reactor: tokio::runtime::Handle,
    pub pulse: Pulse,
    /// Metrics of a backend's or a model's own.
    pub metrics: Registry,
    /// Held by everything that must come to an end before the server exits.
    pub alive: Arc<()>,
    /// Set when the server waits no longer for requests that still run: whoever waits for somebody
    /// else on their behalf gives up.
    pub ending: Cancellation,
}

/// Runs a request on whatever model it names. Never blocks; the answer goes to the responder.
pub trait Service: Send + Sync + 'static {
    fn infer(&self, request: Request);
}

/// Tells of events that reach the reactor. A reactor that polls for a moment before it sleeps
/// listens, to know whether another event is likely soon.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Beats>);

#[derive(Debug, Default)]
struct Beats {
    count: AtomicU64,
    beat: Notify,
}

impl Pulse {
    pub fn beat(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.beat.notify_one();
    }

    /// Events so far.
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Waits for an event, or returns at once if there was one since the last call.
    pub async fn next(&self) {
        self.0.beat.notified().await;
    }
}
