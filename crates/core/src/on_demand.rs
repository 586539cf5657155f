//! Mode `auto`: a model is loaded when the first request for it comes, and those that were used
//! least recently leave when memory is short. Requests wait for the load; those that a model has
//! taken before it leaves are answered, since they hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nereid_inference::{Error, Request, Result};
use nereid_model_config::ModelConfig;
use tokio::sync::oneshot;

use crate::catalog::Catalog;
use crate::lifecycle::{ControlMode, Found, Lifecycle};
use crate::memory;
use crate::model::ModelVersion;

/// How often a request looks for its model again, where others push it out before it comes.
const TRIES: usize = 8;

/// How long a load waits for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of models that come and go.
pub(crate) struct OnDemand {
    /// `None`: all may stay.
    budget: Option<u64>,
    /// One load at a time: only so can be told what it took.
    turn: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who waits for which model.
    waiting: BTreeMap<String, Vec<oneshot::Sender<Result<()>>>>,
    /// Bytes of every model that was loaded once.
    costs: BTreeMap<String, u64>,
    /// When a model was loaded, in milliseconds as its statistics count them.
    loaded: BTreeMap<String, u64>,
    pinned: BTreeSet<String>,
}

/// What there was before a load.
pub(crate) struct Before {
    serving: BTreeSet<String>,
    held: u64,
}

impl OnDemand {
    pub(crate) fn new(budget: Option<u64>) -> Self {
        Self { budget, turn: Mutex::default(), state: Mutex::default() }
    }

    /// Whoever loads waits for the others, but not for ever: a model that is being loaded may wait
    /// for one that it calls.
    pub(crate) fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.turn.try_lock() {
                Ok(turn) => return Some(turn),
                Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() > deadline => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    pub(crate) fn pin(&self, name: &str) {
        self.state().pinned.insert(name.to_owned());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self, catalog: &Catalog) -> u64 {
        let state = self.state();
        let serving = catalog.models.iter().filter(|(_, model)| model.serves());
        serving.filter_map(|(name, _)| state.costs.get(name)).sum()
    }

    /// The model that was used least recently, of those that may go.
    fn oldest(&self, catalog: &Catalog, keep: &BTreeSet<String>) -> Option<String> {
        let state = self.state();
        let serving = catalog.models.iter().filter(|(name, model)| {
            model.serves() && !keep.contains(*name) && !state.pinned.contains(*name)
        });
        let last_used = |name: &str, ready: &mut dyn Iterator<Item = &Arc<ModelVersion>>| {
            let inferences = ready.map(|version| version.recorder.last_inference_ms());
            inferences.chain(state.loaded.get(name).copied()).max().unwrap_or(0)
        };
        let oldest = serving.min_by_key(|(name, model)| last_used(name, &mut model.ready()));
        oldest.map(|(name, _)| name.clone())
    }
}

impl Lifecycle {
    /// The version that a request means. In mode `auto` it may come only now.
    pub async fn model(
        self: &Arc<Self>,
        name: &str,
        version: Option<i64>,
    ) -> Result<Arc<ModelVersion>> {
        let mut found = self.server.model(name, version);
        if found.is_ok() || self.mode != ControlMode::Auto {
            return found;
        }
        for _ in 0..TRIES {
            self.wanted(name).await?;
            found = self.server.model(name, version);
            // A model that serves does not have the version that was asked for.
            if found.is_ok() || self.server.model(name, None).is_ok() {
                break;
            }
        }
        found
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
    async fn wanted(self: &Arc<Self>, name: &str) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        let first = {
            let mut state = self.on_demand.state();
            let waiting = state.waiting.entry(name.to_owned()).or_default();
            waiting.push(sender);
            waiting.len() == 1
        };
        if first {
            let (lifecycle, name) = (self.clone(), name.to_owned());
            tokio::task::spawn_blocking(move || {
                let outcome = lifecycle.load_wanted(&name);
                let waiting = lifecycle.on_demand.state().waiting.remove(&name);
                for waiter in waiting.into_iter().flatten() {
                    // Those who have hung up need no answer.
                    let _ = waiter.send(outcome.clone());
                }
            });
        }
        receiver.await.unwrap_or_else(|_| Err(Error::internal("loading panicked")))
    }

    fn load_wanted(&self, name: &str) -> Result<()> {
        let _turn = self.on_demand.turn();
        if self.server.model(name, None).is_ok() {
            return Ok(());
        }
        self.load_measured(name)
    }

    /// Loads a model that does not serve, makes room for it, and notes what it took.
    pub(crate) fn load_measured(&self, name: &str) -> Result<()> {
        let (job, found) = self.wanted_job(name)?;
        if let Some(failure) = self.failed_before(name, &job) {
            return Err(Error::unavailable(format!("model '{name}' cannot be loaded: {failure}")));
        }
        let keep: BTreeSet<String> = job.needs().iter().cloned().chain([name.to_owned()]).collect();
        let known = self.on_demand.state().costs.get(name).copied();
        self.make_room(&keep, known.unwrap_or_else(|| job.expected_bytes()))?;
        let before = self.before();
        self.run_one(name, job, &found);
        self.note_costs(&before, &found);
        self.make_room(&keep, 0)?;
        let state = self.server.catalog().models.get(name).cloned().unwrap_or_default();
        match state.failure() {
            Some(failure) => {
                Err(Error::unavailable(format!("model '{name}' cannot be loaded: {failure}")))
            }
            None => Ok(()),
        }
    }

    /// Takes models out until `bytes` more fit, except those to keep.
    fn make_room(&self, keep: &BTreeSet<String>, bytes: u64) -> Result<()> {
        let Some(budget) = self.on_demand.budget else { return Ok(()) };
        if bytes > budget {
            return Err(Error::unavailable(format!(
                "{} needs {bytes} bytes, --model-memory-budget is {budget}",
                keep.iter().cloned().collect::<Vec<_>>().join(", ")
            )));
        }
        loop {
            let catalog = self.server.catalog();
            let used = self.on_demand.used(&catalog);
            if used + bytes <= budget {
                return Ok(());
            }
            let Some(oldest) = self.on_demand.oldest(&catalog, keep) else {
                tracing::warn!("models take {used} bytes of {budget}, and none of them may go");
                return Ok(());
            };
            tracing::info!("'{oldest}' makes room");
            self.remove(&oldest, true);
        }
    }

    /// To be taken before a load, for [`Self::note_costs`].
    pub(crate) fn before(&self) -> Before {
        Before { serving: self.serving(), held: memory::held() }
    }

    fn serving(&self) -> BTreeSet<String> {
        let catalog = self.server.catalog();
        let serving = catalog.models.iter().filter(|(_, model)| model.serves());
        serving.map(|(name, _)| name.clone()).collect()
    }

    /// Shares what a load took among the models that it brought, by the size of their files.
    pub(crate) fn note_costs(&self, before: &Before, found: &Found) {
        let grown = memory::held().saturating_sub(before.held);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let brought: Vec<(String, u64, Option<u64>)> = self
            .serving()
            .difference(&before.serving)
            .map(|name| {
                let folder = found.get(name).and_then(|folders| folders.first());
                let files = folder.map_or(0, |folder| folder.bytes());
                (
                    name.clone(),
                    files,
                    self.server
                        .model(name, None)
                        .ok()
                        .and_then(|model| declared_bytes(&model.config)),
                )
            })
            .collect();
        let all: u64 = brought.iter().map(|(_, files, _)| files).sum();
        let mut state = self.on_demand.state();
        for (name, files, declared) in brought {
            let share = (u128::from(grown) * u128::from(files) / u128::from(all.max(1))) as u64;
            state.costs.insert(name.clone(), declared.unwrap_or(share.max(files)));
            state.loaded.insert(name, now as u64);
        }
    }
}

/// `parameters { key: "memory_bytes" }`: for those who know better than any measurement.
pub(crate) fn declared_bytes(config: &ModelConfig) -> Option<u64> {
    config.parameter("memory_bytes")?.trim().parse().ok()
}
