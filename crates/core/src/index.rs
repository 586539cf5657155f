//! The repository index: every model that is known, and what became of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{Catalog, ModelState, VersionState};

/// One version of a model, or a model without versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexEntry {
    pub name: String,
    /// `None`: none was ever loaded.
    pub version: Option<i64>,
    /// Empty for models that are only on disk.
    pub state: &'static str,
    pub reason: String,
}

/// Models of the catalog and those that are only on disk, by name.
pub(crate) fn index(catalog: &Catalog, on_disk: Vec<String>) -> Vec<IndexEntry> {
    let names: BTreeSet<&String> = catalog.models.keys().chain(&on_disk).collect();
    let rows = |id: &String| entries(catalog.names.name(id), catalog.models.get(id));
    names.into_iter().flat_map(rows).collect()
}

fn entries(name: &str, model: Option<&Arc<ModelState>>) -> Vec<IndexEntry> {
    let entry = IndexEntry { name: name.to_owned(), ..IndexEntry::default() };
    let Some(model) = model else { return vec![entry] };
    let reason = model.reason.as_ref().map(ToString::to_string);
    if model.versions.is_empty() {
        let state = if reason.is_some() { "UNAVAILABLE" } else { "" };
        return vec![IndexEntry { state, reason: reason.unwrap_or_default(), ..entry }];
    }
    let version = |(&version, state): (&i64, &VersionState)| {
        let own = state.reason();
        IndexEntry {
            version: Some(version),
            state: state.word(),
            // A failed reload: what serves is the version from before.
            reason: if own.is_empty() { reason.clone().unwrap_or_default() } else { own },
            ..entry.clone()
        }
    };
    model.versions.iter().map(version).collect()
}
