//! Which models are loaded: at start, on request, and when the repository changes.
//!
//! A load makes new versions beside those that serve and publishes them together; requests that the
//! old ones have taken keep them alive until they are answered. A load that fails changes nothing
//! but the reason in the index. Everything here blocks and belongs on a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nereid_inference::{Error, Result};
use nereid_repository::{Fingerprint, ModelFolder};
use tempfile::TempDir;

use crate::catalog::{ModelState, VersionState};
use crate::ensemble::members;
use crate::index::{IndexEntry, index};
use crate::load_order::{Needs, circle, waves};
use crate::loading::{Prepared, Repositories, chosen_versions};
use crate::on_demand::{OnDemand, declared_bytes};
use crate::overrides::{Override, check_name, write_files};
use crate::server::Server;

/// A folder that is being written to is looked at again after this time.
const SETTLE: Duration = Duration::from_millis(200);

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
    /// Models that are being loaded or unloaded.
    busy: Mutex<BTreeSet<String>>,
}

/// A model that is to be loaded.
#[derive(Default)]
struct Record {
    /// The models that it is made of.
    needs: Vec<String>,
    /// Somebody named it; else it is there because others need it.
    asked: bool,
    fingerprint: Fingerprint,
    /// Loaded with a configuration or files of a client's.
    overridden: bool,
    /// Where the client's files are.
    _files: Option<TempDir>,
}

/// A model to be loaded now.
pub(crate) struct Job {
    prepared: Result<Prepared>,
    record: Record,
}

impl Job {
    pub(crate) fn needs(&self) -> &[String] {
        &self.record.needs
    }

    /// What the model will take, as far as its folder tells.
    pub(crate) fn expected_bytes(&self) -> u64 {
        let Ok(prepared) = &self.prepared else { return 0 };
        declared_bytes(&prepared.config).unwrap_or_else(|| prepared.folder.bytes())
    }
}

impl Lifecycle {
    pub fn new(repositories: Repositories, server: Arc<Server>, mode: ControlMode) -> Self {
        let (records, busy) = (Mutex::default(), Mutex::default());
        let on_demand = OnDemand::new(None);
        Self { repositories, server, mode, on_demand, records, busy }
    }

    /// Lets models take so many bytes in mode `auto`.
    #[must_use]
    pub fn with_memory_budget(mut self, bytes: Option<u64>) -> Self {
        self.on_demand = OnDemand::new(bytes);
        self
    }

    /// Loads what is to be loaded at start: everything, or the models of these names. Returns when
    /// all were tried; an error means that a repository could not be read at all.
    pub fn start(&self, names: Option<&[String]>) -> Result<()> {
        let found = self.repositories.found()?;
        let chosen: Vec<String> = match names {
            None => found.keys().cloned().collect(),
            Some(names) => names.to_vec(),
        };
        if self.mode == ControlMode::Auto {
            let _turn = self.on_demand.turn();
            for name in chosen {
                self.on_demand.pin(&name);
                if let Err(error) = self.load_measured(&name) {
                    self.failed(&name, error);
                }
            }
            self.server.finish_start();
            return Ok(());
        }
        let jobs = chosen.iter().map(|name| {
            let mut job = self.job(name, &found, Override::default());
            job.record.asked = true;
            (name.clone(), job)
        });
        self.run(jobs.collect(), &found);
        self.server.finish_start();
        Ok(())
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
        let _turn = (self.mode == ControlMode::Auto).then(|| self.on_demand.turn());
        check_name(name)?;
        let poll_failed = |reason: &str| {
            Error::internal(format!(
                "failed to load '{name}', failed to poll from model repository{reason}"
            ))
        };
        if with.config.is_none() && !with.files.is_empty() {
            return Err(poll_failed(": files are given without a configuration"));
        }
        let _claim = self.claim(name)?;
        let found = self.repositories.found()?;
        if !found.contains_key(name) && with.files.is_empty() {
            return Err(poll_failed(""));
        }
        let overridden = with.config.is_some();
        let mut job = self.job(name, &found, with);
        if let (true, Err(error)) = (overridden, &job.prepared) {
            return Err(poll_failed(&format!(": {}", error.message())));
        }
        job.record.asked = true;
        if self.is_loaded_like(name, &job.record) {
            return Ok(());
        }
        let before = (self.mode == ControlMode::Auto).then(|| self.before());
        self.run_one(name, job, &found);
        if let Some(before) = before {
            self.note_costs(&before, &found);
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
        let _turn = (self.mode == ControlMode::Auto).then(|| self.on_demand.turn());
        let _claim = self.claim(name)?;
        self.remove(name, dependents);
        Ok(())
    }

    /// Looks at the repositories and does what has changed. A folder that is being written to is
    /// left for the next time.
    pub fn poll(&self) -> Result<()> {
        let found = self.repositories.found()?;
        let gone: Vec<String> =
            self.lock().keys().filter(|name| !found.contains_key(*name)).cloned().collect();
        for name in gone {
            tracing::info!("'{name}' has left the repository");
            self.remove(&name, false);
        }
        let changed: Vec<String> =
            found.keys().filter(|name| self.has_changed(name, &found)).cloned().collect();
        for name in changed {
            let mut job = self.job(&name, &found, Override::default());
            job.record.asked = true;
            self.run_one(&name, job, &found);
        }
        Ok(())
    }

    /// Every model of the catalog and on disk, or just the versions that serve.
    pub fn index(&self, ready: bool) -> Result<Vec<IndexEntry>> {
        let on_disk = self.repositories.found()?.into_keys().collect();
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

    /// Keeps others from changing `name`, the models it needs and those that need it.
    fn claim(&self, name: &str) -> Result<Claim<'_>> {
        let needed = self.lock().get(name).map(|record| record.needs.clone()).unwrap_or_default();
        let needing = self.ensembles_of(name);
        let all: Vec<String> = [name.to_owned()].into_iter().chain(needed).chain(needing).collect();
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.iter().find(|name| busy.contains(*name)) {
            return Err(Error::internal(format!(
                "a related model '{taken}' to a load/unload request is currently loading or \
                 unloading"
            )));
        }
        busy.extend(all.iter().cloned());
        Ok(Claim { busy: &self.busy, names: all })
    }

    /// What there is to do for a model that a request wants.
    pub(crate) fn wanted_job(&self, name: &str) -> Result<(Job, Found)> {
        check_name(name)?;
        let found = self.repositories.found()?;
        if !found.contains_key(name) {
            let message = format!("Request for unknown model: '{name}' is not found");
            return Err(Error::not_found(message));
        }
        let mut job = self.job(name, &found, Override::default());
        job.record.asked = true;
        Ok((job, found))
    }

    /// Why loading the model as it is has failed, if it has: it would fail again.
    pub(crate) fn failed_before(&self, name: &str, job: &Job) -> Option<String> {
        let known = self.lock().get(name)?.fingerprint == job.record.fingerprint;
        let failure = self.server.catalog().models.get(name)?.failure();
        failure.filter(|_| known && job.record.needs.is_empty())
    }

    /// What there is to do for a model, as far as its folder tells.
    fn job(&self, name: &str, found: &Found, with: Override) -> Job {
        let mut record = Record { overridden: with.config.is_some(), ..Record::default() };
        let prepared = self.folder(name, found, &with.files, &mut record).and_then(|folder| {
            record.fingerprint = self.fingerprint(&self.known_fingerprint(name), &folder.path);
            self.repositories.prepare(&folder, with.config.as_deref())
        });
        if let Ok(prepared) = &prepared {
            record.needs = members(&prepared.config);
        }
        Job { prepared, record }
    }

    fn folder(
        &self,
        name: &str,
        found: &Found,
        files: &[(String, Vec<u8>)],
        record: &mut Record,
    ) -> Result<ModelFolder> {
        if !files.is_empty() {
            let kept = write_files(files)?;
            let folder = ModelFolder { name: name.to_owned(), path: kept.path().to_owned() };
            record._files = Some(kept);
            return Ok(folder);
        }
        match found.get(name).map(Vec::as_slice) {
            Some([folder]) => Ok(folder.clone()),
            Some(folders) => {
                let paths: Vec<_> = folders.iter().map(|f| f.path.display().to_string()).collect();
                Err(Error::invalid_arg(format!(
                    "model '{name}' is in several repositories: {}",
                    paths.join(", ")
                )))
            }
            None => Err(Error::invalid_arg(format!("there is no model '{name}'"))),
        }
    }

    /// What the folder of a model holds now; what it holds since `before` is not read again.
    fn fingerprint(&self, before: &Fingerprint, folder: &Path) -> Fingerprint {
        let taken = match self.mode {
            ControlMode::None => return Fingerprint::default(),
            ControlMode::Explicit | ControlMode::Auto => Fingerprint::of_times(folder),
            ControlMode::Poll => Fingerprint::of_contents(folder, before),
        };
        taken.unwrap_or_default()
    }

    fn known_fingerprint(&self, name: &str) -> Fingerprint {
        self.lock().get(name).map(|record| record.fingerprint.clone()).unwrap_or_default()
    }

    /// Whether the model serves what it would serve after loading it again.
    fn is_loaded_like(&self, name: &str, wanted: &Record) -> bool {
        let serves = |model: &Arc<ModelState>| model.is_ready() && model.serves();
        self.server.catalog().models.get(name).is_some_and(serves)
            && self.lock().get(name).is_some_and(|record| {
                let as_on_disk = !record.overridden && !wanted.overridden;
                as_on_disk && record.fingerprint == wanted.fingerprint
            })
    }

    /// Whether a model is new or its folder differs, and nobody is writing to it.
    fn has_changed(&self, name: &str, found: &Found) -> bool {
        let Some([folder]) = found.get(name).map(Vec::as_slice) else { return false };
        let known = self.known_fingerprint(name);
        let now = self.fingerprint(&known, &folder.path);
        if self.lock().contains_key(name) && known == now {
            return false;
        }
        std::thread::sleep(SETTLE);
        now == self.fingerprint(&now, &folder.path)
    }

    /// Loads a model, what it needs, and then what needs it.
    pub(crate) fn run_one(&self, name: &str, job: Job, found: &Found) {
        self.run(BTreeMap::from([(name.to_owned(), job)]), found);
        self.follow(name, found);
    }

    /// Loads models and those that they need, members before ensembles, the rest in parallel.
    fn run(&self, mut jobs: BTreeMap<String, Job>, found: &Found) {
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
            let loaded = self.repositories.load_version(prepared, version, &catalog);
            match loaded {
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

    /// What serves goes on serving; the index says why the rest does not.
    pub(crate) fn failed(&self, name: &str, error: Error) {
        tracing::error!("failed to load '{name}': {error}");
        self.server.publish(name, |model| {
            model.versions.retain(|_, state| !matches!(state, VersionState::Loading));
            model.reason = Some(error.clone());
        });
    }

    /// Ensembles follow their members: those that need `name` are loaded anew, or taken out.
    fn follow(&self, name: &str, found: &Found) {
        for ensemble in self.ensembles_of(name) {
            if self.server.model(name, None).is_ok() {
                let asked = self.lock().get(&ensemble).is_some_and(|record| record.asked);
                let mut job = self.job(&ensemble, found, Override::default());
                job.record.asked = asked;
                self.run_one(&ensemble, job, found);
            } else {
                self.take_out(&ensemble);
                self.follow(&ensemble, found);
            }
        }
    }

    fn ensembles_of(&self, name: &str) -> Vec<String> {
        let records = self.lock();
        let needing = records.iter().filter(|(_, record)| record.needs.iter().any(|n| n == name));
        needing.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn remove(&self, name: &str, dependents: bool) {
        let record = self.lock().remove(name);
        self.take_out(name);
        self.follow(name, &Found::new());
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the repositories hold, by name.
pub(crate) type Found = BTreeMap<String, Vec<ModelFolder>>;

/// Models that one caller is changing.
struct Claim<'a> {
    busy: &'a Mutex<BTreeSet<String>>,
    names: Vec<String>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            busy.remove(name);
        }
    }
}
