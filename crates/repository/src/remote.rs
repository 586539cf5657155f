//! Repositories that are no folders of this machine.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use nereid_inference::Result;

use crate::layout::{ModelFolder, scan_folder};

/// Where models are.
#[derive(Clone)]
pub enum Repository {
    Folder(PathBuf),
    Remote(Arc<dyn Remote>),
}

impl Repository {
    /// The models that it holds now.
    pub fn scan(&self) -> Result<Vec<ModelFolder>> {
        match self {
            Self::Folder(path) => scan_folder(path),
            Self::Remote(remote) => remote.scan(),
        }
    }

    /// As the user has named it.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Remote(remote) => remote.url().to_owned(),
        }
    }
}

impl From<PathBuf> for Repository {
    fn from(path: PathBuf) -> Self {
        Self::Folder(path)
    }
}

/// A place that is looked into from here, and whose models are brought here before they are loaded.
pub trait Remote: Send + Sync {
    fn url(&self) -> &str;

    /// The models that it holds now. Nothing has to be brought here yet.
    fn scan(&self) -> Result<Vec<ModelFolder>>;
}

/// One model of such a place, as it was when somebody looked.
pub trait RemoteModel: Debug + Send + Sync {
    /// The model's files, each with a number that is another one when the file's contents are.
    fn tags(&self) -> Vec<(PathBuf, u64)>;

    /// Brings what lies in no version's folder, and makes the versions' folders, empty.
    fn fetch(&self) -> Result<()>;

    /// Brings what these versions hold.
    fn fetch_versions(&self, versions: &[i64]) -> Result<()>;
}
