//! What the protocols talk to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use nereid_backend::{ModelChange, Service};
use nereid_inference::{Error, Request, Result};
use tokio::sync::{oneshot, watch};

use crate::catalog::{Catalog, ModelState};
use crate::ensemble::members;
use crate::lifecycle::{ControlMode, Lifecycle};
use crate::model::ModelVersion;
use crate::namespaces::Names;
use crate::overrides::Override;
use crate::statistics::ModelStatistics;

/// The protocol extensions that are served, by Triton's names.
const EXTENSIONS: [&str; 10] = [
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
];

/// Answers requests from the current catalog.
pub struct Server {
    id: String,
    strict_readiness: bool,
    catalog: ArcSwap<Catalog>,
    /// The models of the repository have all been tried.
    started: AtomicBool,
    stopping: AtomicBool,
    /// Tells those who watch that readiness may have changed.
    changes: watch::Sender<()>,
    lifecycle: OnceLock<Weak<Lifecycle>>,
}

/// Who the server says it is.
#[derive(Clone, Debug)]
pub struct ServerMetadata {
    pub name: String,
    pub version: &'static str,
    pub extensions: &'static [&'static str],
}

impl Server {
    pub fn new(id: impl Into<String>, strict_readiness: bool) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            strict_readiness,
            catalog: ArcSwap::default(),
            started: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            changes: watch::Sender::default(),
            lifecycle: OnceLock::new(),
        })
    }

    pub fn metadata(&self) -> ServerMetadata {
        ServerMetadata {
            name: self.id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            extensions: &EXTENSIONS,
        }
    }

    pub fn is_live(&self) -> bool {
        true
    }

    /// Whether requests should be sent here: all models have been tried and, under strict
    /// readiness, all of them serve.
    pub fn is_ready(&self) -> bool {
        self.started.load(Ordering::Acquire)
            && !self.stopping.load(Ordering::Acquire)
            && (!self.strict_readiness
                || self.catalog.load().models.values().all(|model| model.is_ready()))
    }

    /// Hears of every change after which readiness may be another.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Second stop of a request: the version that it means.
    pub fn model(&self, name: &str, version: Option<i64>) -> Result<Arc<ModelVersion>> {
        self.catalog.load().find(name, version).cloned()
    }

    /// Whether a version would execute a request: it asks the model, where that has a say in it.
    pub async fn is_model_ready(&self, name: &str, version: Option<i64>) -> Result<bool> {
        let model = self.model(name, version)?;
        let (sender, answer) = oneshot::channel();
        model.is_ready(Box::new(move |ready| {
            // Who asked may have gone.
            let _ = sender.send(ready);
        }));
        Ok(answer.await.unwrap_or(false))
    }

    /// Who loads and unloads models; models may ask for that, too.
    pub fn set_lifecycle(&self, lifecycle: &Arc<Lifecycle>) {
        // Set once, when the server is put together.
        let _ = self.lifecycle.set(Arc::downgrade(lifecycle));
    }

    /// Versions of a model that answer requests, ascending; only `version` if it was asked for.
    pub fn ready_versions(&self, name: &str, version: Option<i64>) -> Vec<i64> {
        let catalog = self.catalog.load();
        let Some(model) = catalog.state(name) else { return Vec::new() };
        let ready = model.ready().map(|ready| ready.version);
        ready.filter(|ready| version.is_none_or(|version| version == *ready)).collect()
    }

    /// Statistics of the versions that answer requests: of one model, or of all by name.
    pub fn statistics(
        &self,
        name: Option<&str>,
        version: Option<i64>,
    ) -> Result<Vec<ModelStatistics>> {
        let catalog = self.catalog.load();
        let snapshot =
            |model: &Arc<ModelVersion>| model.recorder.snapshot(&model.name, model.version);
        let Some(name) = name else {
            return Ok(catalog.models.values().flat_map(|m| m.ready().map(snapshot)).collect());
        };
        let Some(model) = catalog.state(name).filter(|model| model.serves()) else {
            return Err(Error::invalid_arg(format!("requested model '{name}' is not available")));
        };
        let found: Vec<_> = model
            .ready()
            .filter(|ready| version.is_none_or(|version| ready.version == version))
            .map(snapshot)
            .collect();
        if found.is_empty() {
            return Err(Error::invalid_arg(format!(
                "requested model version is not available for model '{name}'"
            )));
        }
        Ok(found)
    }

    /// From here on the server is not ready: load balancers should look elsewhere.
    pub fn stop_accepting(&self) {
        self.stopping.store(true, Ordering::Release);
        self.changes.send_replace(());
    }

    /// Lets go of all models; each ends when its last request has been answered.
    pub fn unload_all(&self) {
        self.catalog.store(Arc::default());
    }

    /// From here on repositories are namespaces. There are no models yet.
    pub(crate) fn use_namespaces(&self) {
        self.catalog.store(Arc::new(Catalog { names: Names::new(true), ..Catalog::default() }));
    }

    /// These models are there, loaded or not: a name that several of them bear is ambiguous.
    pub(crate) fn note_names<'a>(&self, ids: impl Iterator<Item = &'a String> + Clone) {
        self.catalog.rcu(|catalog| {
            let mut catalog = Catalog::clone(catalog);
            ids.clone().for_each(|id| catalog.names.add(id));
            catalog
        });
    }

    pub(crate) fn finish_start(&self) {
        self.started.store(true, Ordering::Release);
        self.changes.send_replace(());
    }

    /// Publishes a catalog in which `change` was made to the model `name`.
    pub(crate) fn publish(&self, name: &str, change: impl Fn(&mut ModelState)) {
        self.catalog.rcu(|catalog| {
            let mut catalog = Catalog::clone(catalog);
            let mut model =
                catalog.models.get(name).map(|model| ModelState::clone(model)).unwrap_or_default();
            change(&mut model);
            catalog.names.add(name);
            catalog.models.insert(name.to_owned(), Arc::new(model));
            catalog
        });
        self.changes.send_replace(());
    }
}

impl Service for Server {
    fn infer(&self, request: Request) {
        match self.model(&request.model, request.version) {
            Ok(model) => model.submit(request),
            Err(error) => match self.lifecycle.get().and_then(Weak::upgrade) {
                Some(lifecycle) if lifecycle.mode == ControlMode::Auto => {
                    lifecycle.infer_on_demand(request);
                }
                _ => request.responder.answer(Err(error)),
            },
        }
    }

    fn is_model_ready(&self, name: &str, version: Option<i64>) -> bool {
        self.model(name, version).is_ok()
    }

    fn members(&self, name: &str) -> Vec<String> {
        self.model(name, None).map(|model| members(&model.config)).unwrap_or_default()
    }

    fn change(&self, change: ModelChange) -> Result<()> {
        let lifecycle = self.lifecycle.get().and_then(Weak::upgrade);
        let lifecycle = lifecycle.ok_or_else(|| Error::unavailable("the server is stopping"))?;
        match change {
            ModelChange::Load { name, config, files } => {
                lifecycle.load(&name, Override { config, files })
            }
            ModelChange::Unload { name, dependents } => lifecycle.unload(&name, dependents),
        }
    }
}
