//! Changes of instance counts, which need no load.

use std::path::Path;
use std::sync::Arc;

use nereid_inference::Result;
use nereid_model_config::ModelConfig;

use super::Lifecycle;
use super::job::Job;
use crate::catalog::{ModelState, VersionState};
use crate::loading::{Prepared, chosen_versions};
use crate::model::ModelVersion;
use crate::regroup::Regrouping;

impl Lifecycle {
    /// Gives a model that serves other instances, if `job` asks for nothing else. If not, the job
    /// comes back. Where new instances cannot be started, everything stays as it was.
    pub(super) fn change_in_place(&self, name: &str, job: Job) -> Option<Job> {
        let Ok(prepared) = &job.prepared else { return Some(job) };
        let Some(serving) = self.same_but_for_instances(name, &job, prepared) else {
            return Some(job);
        };
        let changes = serving
            .iter()
            .map(|version| Regrouping::start(&self.repositories, prepared, version))
            .collect::<Result<Option<Vec<Regrouping>>>>();
        match changes {
            Ok(None) => return Some(job),
            Ok(Some(changes)) => {
                self.publish_changed(name, changes);
                tracing::info!("changed the instances of '{name}' in place");
            }
            Err(error) => self.failed(name, error),
        }
        self.lock().insert(name.to_owned(), job.record);
        None
    }

    fn publish_changed(&self, name: &str, changes: Vec<Regrouping>) {
        let changed: Vec<_> = changes.into_iter().map(Regrouping::finish).collect();
        self.server.publish(name, |model| {
            model.reason = None;
            for version in &changed {
                model.versions.insert(version.version, VersionState::Ready(version.clone()));
            }
        });
    }

    /// The versions that serve, if loading would bring the same ones from the same files.
    fn same_but_for_instances(
        &self,
        name: &str,
        job: &Job,
        prepared: &Prepared,
    ) -> Option<Vec<Arc<ModelVersion>>> {
        let catalog = self.server.catalog();
        // The folder of before would leave, and the model's files with it.
        if prepared.folder.remote.is_some() {
            return None;
        }
        // After a load that failed, what is known of the folder is not what serves.
        let is_sound = |model: &&Arc<ModelState>| model.is_ready() && model.reason.is_none();
        let model = catalog.models.get(name).filter(is_sound)?;
        let serving: Vec<Arc<ModelVersion>> = model.ready().cloned().collect();
        let versions: Vec<i64> = serving.iter().map(|version| version.version).collect();
        if versions.is_empty()
            || chosen_versions(&prepared.folder, &prepared.config) != Ok(versions)
        {
            return None;
        }
        let records = self.lock();
        let before = records.get(name)?;
        let same_files = before.files.is_none()
            && job.record.files.is_none()
            && before.fingerprint.is_like(&job.record.fingerprint, is_configuration);
        let same_config = before.config.as_ref()? == &without_instances(&prepared.config);
        (same_files && same_config).then_some(serving)
    }
}

/// Whether a file of a model's folder is one of its configurations, which are compared as such.
fn is_configuration(file: &Path) -> bool {
    file == Path::new("config.pbtxt") || file.starts_with("configs")
}

pub(super) fn without_instances(config: &ModelConfig) -> ModelConfig {
    ModelConfig { instance_group: Vec::new(), ..config.clone() }
}
