//! Loads and unloads: in which order, what is published when, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nereid_inference::{Code, Error, Result};

use super::job::Job;
use super::{ControlMode, Found, Lifecycle};
use crate::catalog::{Catalog, VersionState};
use crate::load_order::{Needs, circle, waves};
use crate::loading::{Prepared, chosen_versions};
use crate::model::ModelVersion;
use crate::overrides::Override;

/// Between two tries to load a version; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Lifecycle {
    /// Loads a model, what it needs, and then what needs it; or just changes its instances.
    pub(crate) fn run_one(&self, name: &str, job: Job, found: &Found) {
        self.run_all(BTreeMap::from([(name.to_owned(), job)]), found);
    }

    /// As [`Self::run_one`], for several models.
    pub(super) fn run_all(&self, jobs: BTreeMap<String, Job>, found: &Found) {
        let in_place = |(name, job): (String, Job)| {
            let job = self.change_in_place(&name, job)?;
            Some((name, job))
        };
        let jobs: BTreeMap<String, Job> = jobs.into_iter().filter_map(in_place).collect();
        let names: BTreeSet<String> = jobs.keys().cloned().collect();
        self.run(jobs, found);
        for name in &names {
            self.follow(name, found, &names);
        }
    }

    /// Loads models and those that they need, members before ensembles, the rest in parallel.
    pub(super) fn run(&self, mut jobs: BTreeMap<String, Job>, found: &Found) {
        self.add_needed(&mut jobs, found);
        for name in jobs.keys() {
            // Known from here on: a server that is starting is not ready before all were tried.
            self.server.publish(name, |_| {});
        }
        let needs: Needs =
            jobs.iter().map(|(name, job)| (name.clone(), job.record.needs.clone())).collect();
        let (waves, rest) = waves(&needs);
        for wave in waves {
            let jobs = wave.iter().filter_map(|name| Some((name, &jobs.get(name)?.prepared)));
            self.load_together(jobs.collect());
        }
        for name in rest {
            let through = circle(&needs, &name).unwrap_or("an ensemble that does");
            self.failed(
                &name,
                Error::invalid_arg(format!(
                    "circular dependency between ensembles: {name} -> ... -> {through} -> {name}"
                )),
            );
        }
        self.lock().extend(jobs.into_iter().map(|(name, job)| (name, job.record)));
    }

    /// Adds jobs for the models that ensembles need and that do not serve yet.
    fn add_needed(&self, jobs: &mut BTreeMap<String, Job>, found: &Found) {
        loop {
            let catalog = self.server.catalog();
            let serves =
                |name: &String| catalog.models.get(name).is_some_and(|model| model.serves());
            let missing: BTreeSet<String> = jobs
                .values()
                .flat_map(|job| job.record.needs.clone())
                .filter(|name| {
                    !jobs.contains_key(name) && found.contains_key(name) && !serves(name)
                })
                .collect();
            if missing.is_empty() {
                return;
            }
            for name in missing {
                let job = self.job(&name, found, Override::default());
                jobs.insert(name, job);
            }
        }
    }

    fn load_together(&self, jobs: Vec<(&String, &Result<Prepared>)>) {
        let threads = self.repositories.load_threads.clamp(1, jobs.len().max(1));
        let waiting = Mutex::new(jobs.into_iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((name, prepared)) = next() {
                        let loaded = prepared.as_ref().map_err(Error::clone);
                        if let Err(error) =
                            loaded.and_then(|prepared| self.load_one(name, prepared))
                        {
                            self.failed(name, error);
                        }
                    }
                });
            }
        });
    }

    /// Loads the versions of a model beside those that serve, and publishes them.
    fn load_one(&self, name: &str, prepared: &Prepared) -> Result<()> {
        let versions = chosen_versions(&prepared.folder, &prepared.config)?;
        let reload = self.server.catalog().models.get(name).is_some_and(|model| model.serves());
        if !reload {
            self.server.publish(name, |model| {
                let loading = |&version: &i64| (version, VersionState::Loading);
                model.versions = versions.iter().map(loading).collect();
            });
        }
        let catalog = self.server.catalog();
        let mut states = BTreeMap::new();
        for version in versions {
            match self.load_version(prepared, version, &catalog) {
                Ok(loaded) => {
                    tracing::info!("successfully loaded '{name}' version {version}");
                    states.insert(version, VersionState::Ready(loaded));
                }
                Err(error) if reload || prepared.config.is_ensemble() => return Err(error),
                Err(error) => {
                    tracing::error!("failed to load '{name}' version {version}: {error}");
                    states.insert(version, VersionState::Unavailable(error));
                }
            }
        }
        self.server.publish(name, |model| {
            let before = std::mem::replace(&mut model.versions, states.clone());
            for (version, state) in before {
                if let VersionState::Ready(old) = state {
                    let left = VersionState::Unloaded(Arc::downgrade(&old));
                    model.versions.entry(version).or_insert(left);
                }
            }
            model.reason = None;
        });
        Ok(())
    }

    /// Loads a version, again and again if that was asked for and may help.
    fn load_version(
        &self,
        prepared: &Prepared,
        version: i64,
        catalog: &Catalog,
    ) -> Result<Arc<ModelVersion>> {
        let mut pause = FIRST_PAUSE;
        for left in (0..=self.repositories.load_retries).rev() {
            let loaded = self.repositories.load_version(prepared, version, catalog);
            match loaded {
                // A configuration that is wrong stays wrong.
                Err(error) if left > 0 && error.code() != Code::InvalidArg => {
                    let name = &prepared.config.name;
                    tracing::warn!(
                        "failed to load '{name}' version {version}, {left} tries left: {error}"
                    );
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                loaded => return loaded,
            }
        }
        Err(Error::internal("no try was made"))
    }

    /// What serves goes on serving; the index says why the rest does not.
    pub(crate) fn failed(&self, name: &str, error: Error) {
        tracing::error!("failed to load '{name}': {error}");
        self.server.publish(name, |model| {
            model.versions.retain(|_, state| !matches!(state, VersionState::Loading));
            model.reason = Some(error.clone());
        });
    }

    /// Ensembles follow their members: those that need `name` are loaded anew, or taken out, but for
    /// those that were just loaded. In mode `auto` they come back with the next request for them.
    fn follow(&self, name: &str, found: &Found, loaded: &BTreeSet<String>) {
        for ensemble in self.ensembles_of(name) {
            let serves = self.server.model(&ensemble, None).is_ok();
            if loaded.contains(&ensemble) || (self.mode == ControlMode::Auto && !serves) {
                continue;
            }
            if self.server.model(name, None).is_ok() {
                let asked = self.lock().get(&ensemble).is_some_and(|record| record.asked);
                let mut job = self.job(&ensemble, found, Override::default());
                job.record.asked = asked;
                self.run_one(&ensemble, job, found);
            } else {
                self.take_out(&ensemble);
                self.follow(&ensemble, found, loaded);
            }
        }
    }

    pub(super) fn ensembles_of(&self, name: &str) -> Vec<String> {
        let records = self.lock();
        let needing = records.iter().filter(|(_, record)| record.needs.iter().any(|n| n == name));
        needing.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn remove(&self, name: &str, dependents: bool) {
        let record = self.lock().remove(name);
        self.take_out(name);
        self.follow(name, &Found::new(), &BTreeSet::new());
        for needed in record.map(|record| record.needs).unwrap_or_default() {
            let unasked = self.lock().get(&needed).is_some_and(|record| !record.asked);
            if dependents && unasked && self.ensembles_of(&needed).is_empty() {
                self.remove(&needed, true);
            }
        }
    }

    fn take_out(&self, name: &str) {
        if !self.server.catalog().models.contains_key(name) {
            return;
        }
        tracing::info!("unloading '{name}'");
        self.server.publish(name, |model| {
            model.reason = None;
            for state in model.versions.values_mut() {
                if let VersionState::Ready(ready) = state {
                    *state = VersionState::Unloaded(Arc::downgrade(ready));
                }
            }
        });
    }
}
