//! What the server knows about its models: an immutable snapshot that requests look things up in.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use nereid_inference::{Error, Result};

use crate::model::ModelVersion;
use crate::namespaces::Names;

/// All models by name, or by identifier where repositories are namespaces. The lifecycle publishes a
/// new one for every change.
#[derive(Clone, Default)]
pub struct Catalog {
    pub models: BTreeMap<String, Arc<ModelState>>,
    pub(crate) names: Names,
}

/// One model and what became of its versions.
#[derive(Clone, Default)]
pub struct ModelState {
    pub versions: BTreeMap<i64, VersionState>,
    /// What failed when it was loaded last, if not just a version: the versions that were serving
    /// before still do.
    pub reason: Option<Error>,
}

/// What became of one version.
#[derive(Clone)]
pub enum VersionState {
    Loading,
    Ready(Arc<ModelVersion>),
    Unavailable(Error),
    /// Taken out on request; requests that it had taken may still be running.
    Unloaded(Weak<ModelVersion>),
}

impl VersionState {
    /// The word that the repository index uses.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Loading => "LOADING",
            Self::Ready(_) => "READY",
            Self::Unloaded(left) if left.strong_count() > 0 => "UNLOADING",
            Self::Unavailable(_) | Self::Unloaded(_) => "UNAVAILABLE",
        }
    }

    /// Why it does not serve, in the words of the repository index; empty if there is nothing to
    /// say.
    pub fn reason(&self) -> String {
        match self {
            Self::Unavailable(error) => error.to_string(),
            Self::Unloaded(left) if left.strong_count() == 0 => "unloaded".to_owned(),
            _ => String::new(),
        }
    }
}

impl ModelState {
    /// Whether everything that should serve does.
    pub fn is_ready(&self) -> bool {
        let fine = |state: &VersionState| {
            matches!(state, VersionState::Ready(_) | VersionState::Unloaded(_))
        };
        // After a reload that failed, the versions from before still serve.
        (self.reason.is_none() || self.serves()) && self.versions.values().all(fine)
    }

    /// What failed when it was loaded, in Triton's words.
    pub fn failure(&self) -> Option<String> {
        if let Some(reason) = &self.reason {
            return Some(reason.message().to_owned());
        }
        let failed: Vec<String> = self
            .versions
            .iter()
            .filter(|(_, state)| matches!(state, VersionState::Unavailable(_)))
            .map(|(version, state)| {
                format!("version {version} is at UNAVAILABLE state: {};", state.reason())
            })
            .collect();
        (!failed.is_empty()).then(|| failed.join("\n"))
    }

    /// The version that a request means, of the model of this name.
    pub(crate) fn find(&self, name: &str, version: Option<i64>) -> Result<&Arc<ModelVersion>> {
        let unknown = || unknown(name);
        let Some(version) = version else {
            return self.ready().next_back().ok_or_else(|| {
                Error::not_found(format!("{} has no available versions", unknown()))
            });
        };
        match self.versions.get(&version) {
            Some(VersionState::Ready(ready)) => Ok(ready),
            Some(_) => Err(Error::unavailable(format!(
                "{} version {version} is not at ready state",
                unknown()
            ))),
            None => Err(Error::not_found(format!("{} version {version} is not found", unknown()))),
        }
    }

    /// Whether any version answers requests.
    pub(crate) fn serves(&self) -> bool {
        self.ready().next().is_some()
    }

    /// Versions that answer requests, ascending.
    pub fn ready(&self) -> impl DoubleEndedIterator<Item = &Arc<ModelVersion>> {
        self.versions.values().filter_map(|state| match state {
            VersionState::Ready(model) => Some(model),
            _ => None,
        })
    }
}

impl Catalog {
    /// The one model that is called so.
    pub(crate) fn state(&self, name: &str) -> Option<&Arc<ModelState>> {
        self.models.get(self.names.one(name).ok()?)
    }

    /// The version that a request means; without a number the highest one that is ready.
    pub fn find(&self, name: &str, version: Option<i64>) -> Result<&Arc<ModelVersion>> {
        let name = self.names.one(name)?;
        match self.models.get(name) {
            Some(model) => model.find(name, version),
            None => Err(Error::not_found(format!("{} is not found", unknown(name)))),
        }
    }
}

fn unknown(name: &str) -> String {
    format!("Request for unknown model: '{name}'")
}
