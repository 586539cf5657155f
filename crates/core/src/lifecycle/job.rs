//! What there is to do for one model: its folder, read and held against what is known of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nereid_inference::{Code, Error, Result};
use nereid_model_config::ModelConfig;
use nereid_repository::{Fingerprint, ModelFolder};
use tempfile::TempDir;

use super::in_place::without_instances;
use super::{ControlMode, Found, Lifecycle};
use crate::catalog::ModelState;
use crate::ensemble::members;
use crate::loading::{Look, Prepared};
use crate::on_demand::declared_bytes;
use crate::overrides::{Override, check_name, write_files};

/// In mode `auto`, a model that has failed is tried again after this time even if nobody has
/// changed it.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// A model that is to be loaded.
#[derive(Default)]
pub(super) struct Record {
    /// The models that it is made of.
    pub(super) needs: Vec<String>,
    /// Somebody named it; else it is there because others need it.
    pub(super) asked: bool,
    pub(super) fingerprint: Fingerprint,
    /// When it was loaded, or when that failed.
    pub(super) tried: Option<Instant>,
    /// Loaded with a configuration or files of a client's.
    pub(super) overridden: bool,
    /// Where the client's files are.
    pub(super) files: Option<TempDir>,
    /// The configuration as it was written, but for the instances.
    pub(super) config: Option<ModelConfig>,
}

/// A model to be loaded now.
pub(crate) struct Job {
    pub(super) prepared: Result<Prepared>,
    pub(super) record: Record,
}

impl Job {
    pub(crate) fn needs(&self) -> &[String] {
        &self.record.needs
    }

    /// What the model will take, as far as its folder tells.
    pub(crate) fn expected_bytes(&self) -> u64 {
        self.declared_bytes().unwrap_or_else(|| self.file_bytes())
    }

    pub(crate) fn declared_bytes(&self) -> Option<u64> {
        declared_bytes(&self.prepared.as_ref().ok()?.config)
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.prepared.as_ref().map_or(0, |prepared| prepared.folder.bytes())
    }
}

impl Lifecycle {
    /// What there is to do for a model that a request wants.
    pub(crate) fn wanted_job(&self, name: &str) -> Result<(String, Job, Found)> {
        check_name(self.server.catalog().names.name(name))?;
        let Look { found, silent } = self.repositories.look();
        if self.repositories.namespaces {
            self.server.note_names(found.keys());
        }
        let id = self.names(&found).one(name)?.to_owned();
        if !found.contains_key(&id) {
            if let Some(error) = silent.into_iter().next() {
                return Err(error);
            }
            let message = format!("Request for unknown model: '{name}' is not found");
            return Err(Error::not_found(message));
        }
        let mut job = self.job(&id, &found, Override::default());
        job.record.asked = true;
        Ok((id, job, found))
    }

    /// Why loading the model as it is has failed, if it has, not long ago: it would fail again.
    pub(crate) fn failed_before(&self, name: &str, job: &Job) -> Option<String> {
        let known = self.lock().get(name).is_some_and(|record| {
            let lately = record.tried.is_some_and(|tried| tried.elapsed() < TRY_AGAIN);
            lately && record.fingerprint == job.record.fingerprint
        });
        let failure = self.server.catalog().models.get(name)?.failure();
        failure.filter(|_| known && job.record.needs.is_empty())
    }

    /// What there is to do for a model, as far as its folder tells.
    pub(super) fn job(&self, name: &str, found: &Found, with: Override) -> Job {
        let mut record = Record {
            overridden: with.config.is_some(),
            tried: Some(Instant::now()),
            ..Record::default()
        };
        let prepared = self.folder(name, found, &with.files, &mut record).and_then(|folder| {
            record.fingerprint = self.fingerprint(self.known_fingerprint(name).as_ref(), &folder);
            let names = self.names(found);
            self.repositories.prepare(&folder, with.config.as_deref(), &names)
        });
        match &prepared {
            Ok(prepared) => {
                record.needs = members(&prepared.config);
                record.config = Some(without_instances(&prepared.config));
            }
            // What could not be fetched now may be there next time, without having changed.
            Err(error) if matches!(error.code(), Code::Unavailable | Code::Internal) => {
                record.fingerprint = Fingerprint::default();
            }
            Err(_) => {}
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
            let names = self.names(found);
            let folder = ModelFolder {
                namespace: names.namespace(name).to_owned(),
                ..ModelFolder::local(names.name(name), kept.path())
            };
            record.files = Some(kept);
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
    pub(super) fn fingerprint(
        &self,
        before: Option<&Fingerprint>,
        folder: &ModelFolder,
    ) -> Fingerprint {
        if let Some(remote) = &folder.remote {
            return Fingerprint::of_tags(remote.tags());
        }
        let folder = &folder.path;
        let taken = match (self.mode, before) {
            (ControlMode::None, _) => return Fingerprint::default(),
            (ControlMode::Poll, Some(before)) => Fingerprint::since(folder, before),
            _ => Fingerprint::of_times(folder),
        };
        let mut taken = taken.unwrap_or_default();
        if self.mode == ControlMode::Poll {
            // What cannot be read will be seen when it is loaded.
            let _ = taken.read_small(folder);
        }
        taken
    }

    pub(super) fn known_fingerprint(&self, name: &str) -> Option<Fingerprint> {
        self.lock().get(name).map(|record| record.fingerprint.clone())
    }

    /// Whether the model serves what it would serve after loading it again.
    pub(super) fn is_loaded_like(&self, name: &str, wanted: &Record) -> bool {
        let serves =
            |model: &Arc<ModelState>| model.is_ready() && model.serves() && model.reason.is_none();
        self.server.catalog().models.get(name).is_some_and(serves)
            && self.lock().get(name).is_some_and(|record| {
                let as_on_disk = !record.overridden && !wanted.overridden;
                as_on_disk && record.fingerprint == wanted.fingerprint
            })
    }
}
