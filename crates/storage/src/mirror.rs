//! A repository in a cloud, and what is kept of it here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::{StreamExt, TryStreamExt, stream};
use nereid_inference::{Error, Result};
use nereid_repository::{ModelFolder, Remote};
use object_store::ObjectMeta;
use tokio::runtime::Runtime;

use crate::cache::Cache;
use crate::credentials::variable;
use crate::download;
use crate::engine::engine;
use crate::failure::{failed, is_about_credentials};
use crate::listing::{Files, Object, models, short};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::url::{Cloud, Location};

/// Objects on their way at the same time.
const TOGETHER: usize = 8;

pub(crate) struct Mirror {
    location: Location,
    pub(crate) cache: Cache,
    engine: &'static Runtime,
    store: Mutex<Arc<Store>>,
    state: Mutex<State>,
    this: Weak<Mirror>,
}

#[derive(Default)]
struct State {
    /// What each model was when the repository was listed last.
    current: BTreeMap<String, Listed>,
    /// What is in use, by model and listing.
    snapshots: BTreeMap<(String, String), Weak<Snapshot>>,
}

#[derive(PartialEq, Eq)]
struct Listed {
    id: String,
    /// Names of objects in the cache.
    objects: Vec<String>,
}

impl Mirror {
    pub(crate) fn open(url: &str, cache: &Path) -> Result<Arc<Self>> {
        let location = Location::parse(url)?;
        let cache = Cache::open(folder(&location, cache)).map_err(|error| {
            Error::internal(format!("no folder to keep the models of {url} in: {error}"))
        })?;
        let engine =
            engine().map_err(|error| Error::internal(format!("failed to open {url}: {error}")))?;
        let store = Mutex::new(Arc::new(Store::open(&location)?));
        let state = Mutex::default();
        Ok(Arc::new_cyclic(|this| Self {
            location,
            cache,
            engine,
            store,
            state,
            this: this.clone(),
        }))
    }

    fn list(&self) -> Result<Vec<ObjectMeta>> {
        let first = self.store();
        let doing = format!("list {}", self.location.name(&self.location.prefix));
        let error = match self.list_with(&first) {
            Err(error) if is_about_credentials(&error) => error,
            other => return other.map_err(|error| failed(&doing, &error, &first.secrets)),
        };
        // They may have been exchanged since they were read.
        let again = Arc::new(Store::open(&self.location)?);
        let listed = self.list_with(&again);
        if listed.is_ok() {
            *self.store.lock().unwrap_or_else(PoisonError::into_inner) = again;
        }
        listed.map_err(|_| failed(&doing, &error, &first.secrets))
    }

    fn list_with(&self, store: &Store) -> object_store::Result<Vec<ObjectMeta>> {
        let prefix = &self.location.prefix;
        let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
        self.engine.block_on(store.client.list(prefix).try_collect())
    }

    /// The model as it is listed now: the one of before, if nothing has changed.
    fn snapshot(&self, state: &mut State, model: &str, files: Files) -> Option<Arc<Snapshot>> {
        let key = (model.to_owned(), files.id());
        if let Some(known) = state.snapshots.get(&key).and_then(Weak::upgrade) {
            return Some(known);
        }
        let snapshot = Arc::new(Snapshot {
            mirror: self.this.upgrade()?,
            model: model.to_owned(),
            folder: self.cache.model(model, &key.1),
            id: key.1.clone(),
            files,
            using: Mutex::default(),
        });
        state.snapshots.insert(key, Arc::downgrade(&snapshot));
        Some(snapshot)
    }

    /// Brings objects into the folder of a model; those that are here already are not asked for.
    pub(crate) fn bring(&self, snapshot: &Snapshot, objects: &[&Object]) -> Result<()> {
        let kept = |error: std::io::Error| {
            let folder = snapshot.folder.display();
            Error::internal(format!("failed to keep '{}' in {folder}: {error}", snapshot.model))
        };
        let _using = self.cache.using().map_err(kept)?;
        let missing: Vec<&Object> =
            objects.iter().copied().filter(|object| !self.cache.holds(object)).collect();
        if !missing.is_empty() {
            let bytes: u64 = missing.iter().map(|object| object.size).sum();
            let (model, count) = (&snapshot.model, missing.len());
            tracing::info!("'{model}': fetching {count} files, {bytes} bytes from {}", self.url());
            self.download(&missing)?;
        }
        for object in objects {
            self.cache.link(object, &snapshot.folder).map_err(kept)?;
        }
        Ok(())
    }

    fn download(&self, objects: &[&Object]) -> Result<()> {
        let store = self.store();
        let one = |object: &Object| {
            let (store, object) = (store.clone(), object.clone());
            let name = self.location.name(&object.key);
            async move { download::bring(&store, &self.cache, &object, &name).await }
        };
        let all = stream::iter(objects.iter().map(|object| one(object)));
        self.engine.block_on(all.buffer_unordered(TOGETHER).try_collect())
    }

    /// Tidies up if a folder that nobody uses any more is not what is listed now. Whoever lets go of
    /// the last request may not have the time for it.
    pub(crate) fn tidy_if_left(self: &Arc<Self>, model: &str, id: &str) {
        if self.state().current.get(model).is_some_and(|listed| listed.id == id) {
            return;
        }
        let mirror = self.clone();
        std::thread::spawn(move || mirror.tidy());
    }

    fn tidy(&self) {
        let (current, wanted): (BTreeSet<_>, BTreeSet<_>) = {
            let mut state = self.state();
            state.snapshots.retain(|_, snapshot| snapshot.strong_count() > 0);
            let current = &state.current;
            (
                current.iter().map(|(model, listed)| (model.clone(), listed.id.clone())).collect(),
                current.values().flat_map(|listed| listed.objects.clone()).collect(),
            )
        };
        if let Err(error) = self.cache.tidy(&current, &wanted) {
            tracing::warn!("failed to tidy up what is kept of {}: {error}", self.url());
        }
    }

    fn store(&self) -> Arc<Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remote for Mirror {
    fn url(&self) -> &str {
        &self.location.url
    }

    fn scan(&self) -> Result<Vec<ModelFolder>> {
        let listed = models(&self.location.prefix, &self.list()?);
        let (folders, changed) = {
            let mut state = self.state();
            let now: BTreeMap<String, Listed> =
                listed.iter().map(|(model, files)| (model.clone(), noted(files))).collect();
            let changed = state.current != now;
            state.current = now;
            let folders: Vec<ModelFolder> = listed
                .into_iter()
                .filter_map(|(name, files)| {
                    let snapshot = self.snapshot(&mut state, &name, files)?;
                    let path = snapshot.folder.clone();
                    Some(ModelFolder { remote: Some(snapshot), ..ModelFolder::local(name, path) })
                })
                .collect();
            (folders, changed)
        };
        if folders.is_empty() {
            tracing::warn!("{} holds no models", self.url());
        }
        if changed {
            self.tidy();
        }
        Ok(folders)
    }
}

fn noted(files: &Files) -> Listed {
    let objects = files.objects.iter().map(|object| short(&object.id)).collect();
    Listed { id: files.id(), objects }
}

/// Where a repository is kept: repositories do not share, servers may.
fn folder(location: &Location, usual: &Path) -> PathBuf {
    let (cloud, variable_name) = match location.cloud {
        Cloud::S3 => ("s3", "TRITON_AWS_MOUNT_DIRECTORY"),
        Cloud::Google => ("gs", "TRITON_GCS_MOUNT_DIRECTORY"),
        Cloud::Azure => ("as", "TRITON_AZURE_MOUNT_DIRECTORY"),
    };
    let parent = variable(variable_name).map_or_else(|| usual.to_owned(), PathBuf::from);
    let id = short(&blake3::hash(location.url.as_bytes()));
    parent.join(format!("{cloud}-{}-{}", location.bucket, &id[..12]))
}
