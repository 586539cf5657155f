//! What the server knows about its models: an immutable snapshot that requests look things up in.

use std::collections::BTreeMap;
use std::sync::Arc;

use nereid_inference::{Error, Result};

use crate::model::ModelVersion;

/// All models by name. The lifecycle publishes a new one for every change.
#[derive(Clone, Default)]
pub struct Catalog {
    pub models: BTreeMap<String, Arc<ModelState>>,
}

/// One model and what became of its versions.
#[derive(Clone, Default)]
pub struct ModelState {
    pub versions: BTreeMap<i64, VersionState>,
    /// Why there is no version at all, if so.
    pub reason: Option<Error>,
}

/// One line of the repository index.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexEntry {
    pub name: String,
    /// `None` where it never came to a version.
    pub version: Option<i64>,
    pub state: &'static str,
    pub reason: Option<Error>,
}

/// What became of one version.
#[derive(Clone)]
pub enum VersionState {
    Loading,
    Ready(Arc<ModelVersion>),
    Unavailable(Error),
}

impl VersionState {
    /// The word that the repository index uses.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Loading => "LOADING",
            Self::Ready(_) => "READY",
            Self::Unavailable(_) => "UNAVAILABLE",
        }
    }
}

impl ModelState {
    /// Whether everything that should serve does.
    pub fn is_ready(&self) -> bool {
        self.reason.is_none()
            && self.versions.values().all(|state| matches!(state, VersionState::Ready(_)))
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
    /// What there is, by name and version: everything, or only what serves.
    pub fn index(&self, only_ready: bool) -> Vec<IndexEntry> {
        let mut entries = Vec::new();
        for (name, model) in &self.models {
            let entry =
                |version, state, reason| IndexEntry { name: name.clone(), version, state, reason };
            if let Some(reason) = &model.reason {
                entries.push(entry(None, "UNAVAILABLE", Some(reason.clone())));
            }
            entries.extend(model.versions.iter().map(|(version, state)| {
                let reason = match state {
                    VersionState::Unavailable(error) => Some(error.clone()),
                    _ => None,
                };
                entry(Some(*version), state.word(), reason)
            }));
        }
        entries.retain(|entry| !only_ready || entry.state == "READY");
        entries
    }

    /// The version that a request means; without a number the highest one that is ready.
    pub fn find(&self, name: &str, version: Option<i64>) -> Result<&Arc<ModelVersion>> {
        let unknown = || format!("Request for unknown model: '{name}'");
        let Some(model) = self.models.get(name) else {
            return Err(Error::not_found(format!("{} is not found", unknown())));
        };
        let Some(version) = version else {
            return model.ready().next_back().ok_or_else(|| {
                Error::not_found(format!("{} has no available versions", unknown()))
            });
        };
        match model.versions.get(&version) {
            Some(VersionState::Ready(ready)) => Ok(ready),
            Some(_) => Err(Error::unavailable(format!(
                "{} version {version} is not at ready state",
                unknown()
            ))),
            None => Err(Error::not_found(format!("{} version {version} is not found", unknown()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_says_why() {
        let error = Error::invalid_arg("no");
        let mut catalog = Catalog::default();
        let versions = [(1, VersionState::Unavailable(error.clone())), (2, VersionState::Loading)];
        let some = ModelState { versions: versions.into(), reason: None };
        catalog.models.insert("some".into(), Arc::new(some));
        let none = ModelState { reason: Some(error), ..ModelState::default() };
        catalog.models.insert("none".into(), Arc::new(none));
        let lines: Vec<_> = catalog
            .index(false)
            .into_iter()
            .map(|e| (e.name, e.version, e.state, e.reason.is_some()))
            .collect();
        assert_eq!(
            lines,
            [
                ("none".to_owned(), None, "UNAVAILABLE", true),
                ("some".to_owned(), Some(1), "UNAVAILABLE", true),
                ("some".to_owned(), Some(2), "LOADING", false),
            ]
        );
        assert_eq!(catalog.index(true), []);
    }
}
