//! One model as it was listed, and the folder that it is brought into.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nereid_inference::{Error, Result};
use nereid_repository::RemoteModel;

use crate::cache::Using;
use crate::listing::{Files, Object, version_of};
use crate::mirror::Mirror;

pub(crate) struct Snapshot {
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) model: String,
    pub(crate) id: String,
    pub(crate) files: Files,
    pub(crate) folder: PathBuf,
    /// Once something was brought: keeps the folder from being tidied away.
    pub(crate) using: Mutex<Option<Using>>,
}

impl Snapshot {
    fn bring(&self, wanted: impl Fn(&Object) -> bool) -> Result<()> {
        let objects: Vec<&Object> = self.files.objects.iter().filter(|one| wanted(one)).collect();
        self.mirror.bring(self, &objects)
    }

    fn make_folders(&self) -> std::io::Result<()> {
        let mut using = self.using.lock().unwrap_or_else(PoisonError::into_inner);
        if using.is_none() {
            *using = Some(self.mirror.cache.using_model(&self.model, &self.id)?);
        }
        std::fs::create_dir_all(&self.folder)?;
        for version in self.files.versions() {
            std::fs::create_dir_all(self.folder.join(version.to_string()))?;
        }
        for folder in &self.files.folders {
            std::fs::create_dir_all(self.folder.join(folder))?;
        }
        Ok(())
    }
}

impl RemoteModel for Snapshot {
    fn tags(&self) -> Vec<(PathBuf, u64)> {
        let tag = |object: &Object| {
            let mut first = [0; 8];
            first.copy_from_slice(&object.id.as_bytes()[..8]);
            (object.path.clone(), u64::from_le_bytes(first))
        };
        let folders = self.files.folders.iter().map(|folder| (folder.clone(), 0));
        self.files.objects.iter().map(tag).chain(folders).collect()
    }

    fn fetch(&self) -> Result<()> {
        self.make_folders().map_err(|error| {
            let folder = self.folder.display();
            Error::internal(format!("failed to make {folder} for '{}': {error}", self.model))
        })?;
        self.bring(|object| version_of(&object.path).is_none())
    }

    fn fetch_versions(&self, versions: &[i64]) -> Result<()> {
        self.bring(|object| version_of(&object.path).is_some_and(|v| versions.contains(&v)))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} {})", self.model, self.id)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let using = self.using.lock().unwrap_or_else(PoisonError::into_inner).take();
        if using.is_some() {
            drop(using);
            self.mirror.tidy_if_left(&self.model, &self.id);
        }
    }
}
