//! Mode `auto`: a model is loaded when the first request for it comes, and those that were used
//! least recently leave when memory is short. Requests wait for the load, but not too many of them;
//! those that a model has taken before it leaves are answered, since they hold it.

mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nereid_inference::{Error, Request, Result};
use nereid_model_config::ModelConfig;
use tokio::sync::{Semaphore, oneshot};

use crate::catalog::ModelState;
use crate::lifecycle::{ControlMode, Lifecycle};
use crate::model::ModelVersion;
use room::Room;

/// How long a load waits for its turn. A model that is being loaded may wait for one that it calls,
/// so nobody waits for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Settings of mode `auto`.
#[derive(Clone, Copy, Debug)]
pub struct AutoSettings {
    /// Bytes that models may take; `None`: all may stay.
    pub budget: Option<u64>,
    /// Requests that may wait for models at the same time.
    pub max_waiting: usize,
}

impl Default for AutoSettings {
    fn default() -> Self {
        Self { budget: None, max_waiting: 1000 }
    }
}

/// Who waits for models that come and go, and the room that these have.
pub(crate) struct OnDemand {
    max_waiting: usize,
    /// Places for requests that wait.
    places: Semaphore,
    /// Models loaded at the same time.
    turns: Semaphore,
    waiting: Mutex<BTreeMap<String, Vec<Waiter>>>,
    room: Room,
}

/// Gets the model as it was right after the load: others may push it out at once.
type Waiter = oneshot::Sender<Result<Arc<ModelState>>>;

impl OnDemand {
    pub(crate) fn new(settings: AutoSettings, loads: usize) -> Self {
        Self {
            max_waiting: settings.max_waiting,
            places: Semaphore::new(settings.max_waiting.min(Semaphore::MAX_PERMITS)),
            turns: Semaphore::new(loads.max(1)),
            waiting: Mutex::default(),
            room: Room::new(settings.budget),
        }
    }

    pub(crate) fn pin(&self, name: &str) {
        self.room.pin(name);
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lifecycle {
    /// The version that a request means. In mode `auto` it may come only now.
    pub async fn model(
        self: &Arc<Self>,
        name: &str,
        version: Option<i64>,
    ) -> Result<Arc<ModelVersion>> {
        {
            // One look at the catalog for both: a model may be coming at this very moment.
            let catalog = self.server.catalog();
            let found = catalog.find(name, version).cloned();
            // A model that serves does not have the version that was asked for.
            let is_there = || catalog.find(name, None).is_ok();
            if found.is_ok() || self.mode != ControlMode::Auto || is_there() {
                return found;
            }
        }
        self.wanted(name).await?.find(name, version).cloned()
    }

    /// Sends a request of one model to another, which may come only now.
    pub fn infer_on_demand(self: &Arc<Self>, request: Request) {
        let lifecycle = self.clone();
        self.repositories.host.reactor.spawn(async move {
            match lifecycle.model(&request.model, request.version).await {
                Ok(model) => model.submit(request),
                Err(error) => request.responder.answer(Err(error)),
            }
        });
    }

    /// Comes back when the model was loaded, by whoever asked for it first.
    async fn wanted(self: &Arc<Self>, name: &str) -> Result<Arc<ModelState>> {
        let Ok(_place) = self.on_demand.places.try_acquire() else {
            return Err(Error::unavailable(format!(
                "model '{name}' is not loaded, and {} requests wait for models already \
                 (--model-load-max-waiting)",
                self.on_demand.max_waiting
            )));
        };
        let (sender, receiver) = oneshot::channel();
        let first = {
            let mut waiting = self.on_demand.waiting();
            let waiting = waiting.entry(name.to_owned()).or_default();
            waiting.push(sender);
            waiting.len() == 1
        };
        if first {
            tokio::spawn(self.clone().load_in_turn(name.to_owned()));
        }
        receiver.await.unwrap_or_else(|_| Err(Error::internal("loading panicked")))
    }

    /// Loads a model for those who wait for it.
    async fn load_in_turn(self: Arc<Self>, name: String) {
        let _turn = tokio::time::timeout(PATIENCE, self.on_demand.turns.acquire()).await;
        let (lifecycle, wanted) = (self.clone(), name.clone());
        let loading = tokio::task::spawn_blocking(move || lifecycle.load_wanted(&wanted));
        let outcome =
            loading.await.unwrap_or_else(|_| Err(Error::internal("loading a model panicked")));
        let waiting = self.on_demand.waiting().remove(&name);
        for waiter in waiting.into_iter().flatten() {
            // Those who have hung up need no answer.
            let _ = waiter.send(outcome.clone());
        }
    }

    /// Loads a model that does not serve, makes room for it, and notes what it took.
    pub(crate) fn load_wanted(&self, name: &str) -> Result<Arc<ModelState>> {
        let (id, job, found) = self.wanted_job(name)?;
        let name = id.as_str();
        let _claim = self.claim_patiently(name, job.needs())?;
        let catalog = self.server.catalog();
        if let Some(state) = catalog.models.get(name).filter(|model| model.serves()) {
            return Ok(state.clone());
        }
        if let Some(failure) = self.failed_before(name, &job) {
            return Err(Error::unavailable(format!("model '{name}' cannot be loaded: {failure}")));
        }
        let keep: BTreeSet<String> = job.needs().iter().cloned().chain([name.to_owned()]).collect();
        let reserved = self.reserve(name, &job, &keep)?;
        self.run_one(name, job, &found);
        let state = self.server.catalog().models.get(name).cloned().unwrap_or_default();
        self.settle(name, reserved, &found, &keep);
        match state.failure() {
            Some(failure) => {
                Err(Error::unavailable(format!("model '{name}' cannot be loaded: {failure}")))
            }
            None => Ok(state),
        }
    }
}

/// `parameters { key: "memory_bytes" }`: for those who know better than any measurement.
pub(crate) fn declared_bytes(config: &ModelConfig) -> Option<u64> {
    config.parameter("memory_bytes")?.trim().parse().ok()
}
