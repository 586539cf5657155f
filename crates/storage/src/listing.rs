//! What a repository holds: objects, sorted into models and their files.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};
use std::time::{Duration, SystemTime};

use nereid_repository::version_number;
use object_store::ObjectMeta;
use object_store::path::Path;

/// One file of a model, as it was listed.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) key: Path,
    /// In the folder of the model.
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) e_tag: Option<String>,
    /// The time that its file bears here: any other tells that somebody has written to the file.
    pub(crate) stamp: SystemTime,
    /// Another one when the contents are.
    pub(crate) id: blake3::Hash,
}

/// A model's files, and folders that hold nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) objects: Vec<Object>,
    pub(crate) folders: Vec<PathBuf>,
}

impl Files {
    /// Another one when anything is.
    pub(crate) fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for object in &self.objects {
            hasher.update(object.path.as_os_str().as_encoded_bytes());
            hasher.update(&[0]);
            hasher.update(object.id.as_bytes());
        }
        for folder in &self.folders {
            hasher.update(folder.as_os_str().as_encoded_bytes());
            hasher.update(&[1]);
        }
        short(&hasher.finalize())
    }

    /// The versions that there are files or folders of.
    pub(crate) fn versions(&self) -> Vec<i64> {
        let paths = self.objects.iter().map(|object| &object.path).chain(&self.folders);
        let mut versions: Vec<i64> = paths.filter_map(|path| version_of(path)).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }
}

/// The version whose folder a path is or lies in.
pub(crate) fn version_of(path: &std::path::Path) -> Option<i64> {
    version_number(path.components().next()?.as_os_str().to_str()?)
}

/// A name for a file.
pub(crate) fn short(hash: &blake3::Hash) -> String {
    hash.to_hex()[..32].to_owned()
}

/// Sorts what was listed under `prefix` by models. Files beside the models' folders are none of
/// theirs.
pub(crate) fn models(prefix: &Path, listed: &[ObjectMeta]) -> BTreeMap<String, Files> {
    let mut models: BTreeMap<String, Files> = BTreeMap::new();
    let parents = parents(listed);
    for meta in listed {
        let Some(parts) = meta.location.prefix_match(prefix) else { continue };
        let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
        let Some((model, path)) = parts.split_first() else { continue };
        let path: PathBuf = path.iter().collect();
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let is_model = !path.as_os_str().is_empty() || parents.contains_key(&meta.location);
        if model.starts_with('.') || !inside || !is_model {
            continue;
        }
        let files = models.entry(model.clone()).or_default();
        if path.as_os_str().is_empty() {
            continue;
        }
        if is_folder(meta, &path, &parents) {
            files.folders.push(path);
        } else {
            files.objects.push(object(meta, path));
        }
    }
    for files in models.values_mut() {
        files.objects.sort_by(|one, other| one.path.cmp(&other.path));
        files.folders.sort();
    }
    models
}

/// Keys below which there are others.
fn parents(listed: &[ObjectMeta]) -> BTreeMap<Path, ()> {
    let mut parents = BTreeMap::new();
    for meta in listed {
        let mut above = meta.location.parent();
        while let Some(path) = above {
            above = path.parent();
            if parents.insert(path, ()).is_some() {
                break;
            }
        }
    }
    parents
}

/// Consoles make folders as empty objects whose names end with a slash. Which of the empty objects
/// those are can only be guessed from here: others lie below them, or they are called like a version.
fn is_folder(meta: &ObjectMeta, path: &std::path::Path, parents: &BTreeMap<Path, ()>) -> bool {
    let version = path.components().count() == 1 && version_of(path).is_some();
    meta.size == 0 && (version || parents.contains_key(&meta.location))
}

fn object(meta: &ObjectMeta, path: PathBuf) -> Object {
    let mut hasher = blake3::Hasher::new();
    hasher.update(meta.location.as_ref().as_bytes());
    hasher.update(&[0]);
    hasher.update(&meta.size.to_le_bytes());
    match (&meta.e_tag, &meta.version) {
        (None, None) => hasher.update(meta.last_modified.to_rfc3339().as_bytes()),
        (tag, version) => {
            hasher.update(tag.as_deref().unwrap_or("").as_bytes());
            hasher.update(version.as_deref().unwrap_or("").as_bytes())
        }
    };
    let id = hasher.finalize();
    let mut seconds = [0; 4];
    seconds.copy_from_slice(&id.as_bytes()[..4]);
    let stamp = SystemTime::UNIX_EPOCH + Duration::from_secs(u32::from_le_bytes(seconds).into());
    Object {
        key: meta.location.clone(),
        path,
        size: meta.size,
        e_tag: meta.e_tag.clone(),
        stamp,
        id,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn meta(key: &str, size: u64, tag: &str) -> ObjectMeta {
        ObjectMeta {
            location: Path::parse(key).unwrap(),
            last_modified: SystemTime::UNIX_EPOCH.into(),
            size,
            e_tag: Some(tag.to_owned()),
            version: None,
        }
    }

    #[test]
    fn objects_become_models() {
        let listed = [
            meta("models", 0, ""),
            meta("models/README.md", 5, "r"),
            meta("models/.git/config", 5, "g"),
            meta("models/a/config.pbtxt", 5, "c"),
            meta("models/a/1/model.py", 5, "p"),
            meta("models/a/1/data/big", 5, "d"),
            meta("models/ensemble", 0, ""),
            meta("models/ensemble/1", 0, ""),
            meta("models/ensemble/config.pbtxt", 5, "e"),
            meta("models/ensemble/labels.txt", 0, "l"),
        ];
        let models = models(&Path::from("models"), &listed);
        assert_eq!(models.keys().collect::<Vec<_>>(), ["a", "ensemble"]);
        let paths = |files: &Files| -> Vec<String> {
            files.objects.iter().map(|object| object.path.display().to_string()).collect()
        };
        assert_eq!(paths(&models["a"]), ["1/data/big", "1/model.py", "config.pbtxt"]);
        assert_eq!(models["a"].versions(), [1]);
        assert_eq!(paths(&models["ensemble"]), ["config.pbtxt", "labels.txt"]);
        assert_eq!(models["ensemble"].folders, [PathBuf::from("1")]);
        assert_eq!(models["ensemble"].versions(), [1]);
    }

    #[test]
    fn a_tag_changes_the_model() {
        let id = |tag: &str, size: u64| {
            models(&Path::default(), &[meta("a/config.pbtxt", size, tag)])["a"].id()
        };
        assert_eq!(id("x", 5), id("x", 5));
        assert_ne!(id("x", 5), id("y", 5));
        assert_ne!(id("x", 5), id("x", 6));
    }
}
