//! Which models are loaded: at start, on request, and when the repository changes.
//!
//! A load makes new versions beside those that serve and publishes them together; requests that the
//! old ones have taken keep them alive until they are answered. A load that fails changes nothing
//! but the reason in the index. Everything here blocks and belongs on a thread of its own.

mod claims;
mod in_place;
mod job;
mod poll;
mod run;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nereid_inference::{Error, Result};

use crate::index::{IndexEntry, index};
pub(crate) use crate::loading::Found;
use crate::loading::{Look, Repositories};
use crate::namespaces::Names;
use crate::on_demand::{AutoSettings, OnDemand};
use crate::overrides::{Override, check_name};
use crate::parallel;
use crate::server::Server;
use claims::Claims;
pub(crate) use job::Job;
use job::Record;

/// Who decides which models are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMode {
    /// All that the repositories hold when the server starts.
    None,
    /// Clients do.
    Explicit,
    /// The repositories do, while the server runs.
    Poll,
    /// Requests do: a model comes with the first one for it.
    Auto,
}

pub struct Lifecycle {
    pub(crate) repositories: Repositories,
    pub(crate) server: Arc<Server>,
    pub(crate) mode: ControlMode,
    pub(crate) on_demand: OnDemand,
    /// The models that are to be loaded, whether that worked or not.
    records: Mutex<BTreeMap<String, Record>>,
    claims: Claims,
}

impl Lifecycle {
    pub fn new(repositories: Repositories, server: Arc<Server>, mode: ControlMode) -> Self {
        if repositories.namespaces {
            server.use_namespaces();
        }
        let (records, claims) = (Mutex::default(), Claims::default());
        let on_demand = OnDemand::new(AutoSettings::default(), repositories.load_threads);
        Self { repositories, server, mode, on_demand, records, claims }
    }

    /// Bounds for mode `auto`.
    #[must_use]
    pub fn with_auto(mut self, settings: AutoSettings) -> Self {
        self.on_demand = OnDemand::new(settings, self.repositories.load_threads);
        self
    }

    /// Loads what is to be loaded at start: everything, or the models of these names. Returns when
    /// all were tried; an error means that a repository could not be read at all.
    pub fn start(&self, names: Option<&[String]>) -> Result<()> {
        let found = self.repositories.found()?;
        let chosen: Vec<String> = match names {
            None => found.keys().cloned().collect(),
            Some(names) => self.names(&found).expand(names),
        };
        if self.mode == ControlMode::Auto {
            self.load_pinned(chosen);
            self.server.finish_start();
            return Ok(());
        }
        // Models of a cloud are fetched here.
        let jobs = parallel::map(&chosen, self.repositories.load_threads, |name| {
            let mut job = self.job(name, &found, Override::default());
            job.record.asked = true;
            (name.clone(), job)
        });
        self.run(jobs.into_iter().collect(), &found);
        self.server.finish_start();
        Ok(())
    }

    /// Loads models that are to stay in mode `auto`.
    fn load_pinned(&self, names: Vec<String>) {
        names.iter().for_each(|name| self.on_demand.pin(name));
        let waiting = Mutex::new(names.into_iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let fails = |name: &str| {
            self.server.catalog().models.get(name).is_some_and(|model| model.failure().is_some())
        };
        std::thread::scope(|scope| {
            for _ in 0..self.repositories.load_threads.max(1) {
                scope.spawn(|| {
                    while let Some(name) = next() {
                        // What the load itself has failed of stands in the index.
                        match self.load_wanted(&name) {
                            Err(error) if !fails(&name) => self.failed(&name, error),
                            _ => {}
                        }
                    }
                });
            }
        });
    }

    /// Does what blocks on a thread of its own, for those who may not block.
    pub async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let lifecycle = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&lifecycle)).await;
        done.unwrap_or_else(|_| Err(Error::internal("model control panicked")))
    }

    /// Loads a model, or loads it anew. Models that it needs are loaded too, and those that need
    /// it come back.
    pub fn load(&self, name: &str, with: Override) -> Result<()> {
        self.refuse_unless_explicit()?;
        check_name(name)?;
        let poll_failed = |reason: &str| {
            Error::internal(format!(
                "failed to load '{name}', failed to poll from model repository{reason}"
            ))
        };
        if with.config.is_none() && !with.files.is_empty() {
            return Err(poll_failed(": files are given without a configuration"));
        }
        let Look { found, silent } = self.repositories.look();
        let ids = self.names(&found).all(name);
        if !ids.iter().all(|id| found.contains_key(id)) && with.files.is_empty() {
            let reason = silent.first().map(|error| format!(": {}", error.message()));
            return Err(poll_failed(&reason.unwrap_or_default()));
        }
        // Models of one name are loaded in all of their namespaces; the error has all failures.
        let loaded = ids.iter().map(|id| self.load_found(id, &found, with.clone(), &poll_failed));
        let failures: Vec<Error> = loaded.filter_map(Result::err).collect();
        match failures.as_slice() {
            [] => Ok(()),
            [failure] => Err(failure.clone()),
            several => {
                let messages: String = several.iter().map(Error::message).collect();
                Err(Error::invalid_arg(messages))
            }
        }
    }

    fn load_found(
        &self,
        name: &str,
        found: &Found,
        with: Override,
        poll_failed: &dyn Fn(&str) -> Error,
    ) -> Result<()> {
        let auto = self.mode == ControlMode::Auto;
        let _claim = if auto { self.claim_patiently(name, &[]) } else { self.claim(name) }?;
        let overridden = with.config.is_some();
        let mut job = self.job(name, found, with);
        if let (true, Err(error)) = (overridden, &job.prepared) {
            return Err(poll_failed(&format!(": {}", error.message())));
        }
        job.record.asked = true;
        if self.is_loaded_like(name, &job.record) {
            return Ok(());
        }
        if auto {
            let keep = job.needs().iter().cloned().chain([name.to_owned()]).collect();
            let reserved = self.reserve(name, &job, &keep)?;
            self.run_one(name, job, found);
            self.settle(name, reserved, found, &keep);
        } else {
            self.run_one(name, job, found);
        }
        let state = self.server.catalog().models.get(name).cloned().unwrap_or_default();
        match state.failure() {
            Some(failure) => {
                Err(Error::invalid_arg(format!("load failed for model '{name}': {failure}\n")))
            }
            None => Ok(()),
        }
    }

    /// Takes a model out. Requests that it has taken are still answered. A model that is not
    /// loaded is not an error.
    pub fn unload(&self, name: &str, dependents: bool) -> Result<()> {
        self.refuse_unless_explicit()?;
        let auto = self.mode == ControlMode::Auto;
        for id in self.server.catalog().names.all(name) {
            let _claim = if auto { self.claim_patiently(&id, &[]) } else { self.claim(&id) }?;
            self.remove(&id, dependents);
        }
        Ok(())
    }

    /// Every model of the catalog and on disk, or just the versions that serve. Where a repository
    /// cannot be read, what is in the catalog still can.
    pub fn index(&self, ready: bool) -> Result<Vec<IndexEntry>> {
        let Look { found, silent } = self.repositories.look();
        for error in silent {
            tracing::warn!("the index lists only what is known: {error}");
        }
        let on_disk = found.into_keys().collect();
        let mut entries = index(&self.server.catalog(), on_disk);
        entries.retain(|entry| !ready || entry.state == "READY");
        Ok(entries)
    }

    fn refuse_unless_explicit(&self) -> Result<()> {
        if matches!(self.mode, ControlMode::Explicit | ControlMode::Auto) {
            return Ok(());
        }
        let message = "explicit model load / unload is not allowed if polling is enabled";
        Err(Error::unavailable(message))
    }

    /// Who is called how, in the repositories.
    fn names(&self, found: &Found) -> Names {
        Names::of(self.repositories.namespaces, found.keys())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
