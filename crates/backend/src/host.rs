//! What the server offers to its backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nereid_arena::Arena;
use nereid_inference::{Cancellation, Error, Request, Result};
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

    /// Whether a version of a model (the highest one, if none is named) answers requests.
    fn is_model_ready(&self, _name: &str, _version: Option<i64>) -> bool {
        false
    }

    /// The models that a model is made of; none, if it is no ensemble.
    fn members(&self, _name: &str) -> Vec<String> {
        Vec::new()
    }

    /// Loads or unloads a model. Blocks for as long as that takes.
    fn change(&self, _change: ModelChange) -> Result<()> {
        Err(Error::unsupported("models cannot be loaded or unloaded here"))
    }
}

/// What a model may ask the server to do with another one.
#[derive(Debug)]
pub enum ModelChange {
    Load {
        name: String,
        /// JSON that takes the place of the model's configuration.
        config: Option<String>,
        /// Paths in the model's folder, and what the files hold.
        files: Vec<(String, Vec<u8>)>,
    },
    Unload {
        name: String,
        /// Also the models that only it needs.
        dependents: bool,
    },
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
