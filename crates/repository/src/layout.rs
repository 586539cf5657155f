//! Finds models and versions in repository folders.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nereid_inference::{Error, Result};

use crate::remote::{RemoteModel, Repository};

/// A folder of a repository that holds one model.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    pub name: String,
    /// The repository, where repositories are namespaces.
    pub namespace: String,
    pub path: PathBuf,
    /// Where the folder's contents come from, if they are to be brought here first. They stay here
    /// for as long as somebody holds this.
    pub remote: Option<Arc<dyn RemoteModel>>,
}

impl ModelFolder {
    /// A folder of this machine.
    pub fn local(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), namespace: String::new(), remote: None }
    }

    /// What tells the model from all others.
    pub fn id(&self) -> String {
        identifier(&self.namespace, &self.name)
    }

    /// Brings the folder here, but for what its versions hold.
    pub fn fetch(&self) -> Result<()> {
        self.remote.as_ref().map_or(Ok(()), |remote| remote.fetch())
    }

    /// Brings what these versions hold.
    pub fn fetch_versions(&self, versions: &[i64]) -> Result<()> {
        self.remote.as_ref().map_or(Ok(()), |remote| remote.fetch_versions(versions))
    }

    /// Text of `configs/<name>.pbtxt`, if there is one, else of `config.pbtxt`, with its path;
    /// `None` where there is no such file.
    pub fn config_text(&self, name: Option<&str>) -> Result<Option<(PathBuf, String)>> {
        let named = name.map(|name| self.path.join("configs").join(format!("{name}.pbtxt")));
        let usual = self.path.join("config.pbtxt");
        for path in named.into_iter().chain([usual]) {
            if let Some(text) = read_text(&path)? {
                return Ok(Some((path, text)));
            }
        }
        Ok(None)
    }

    /// The size of the files of the newest version; of those below it one level is counted.
    pub fn bytes(&self) -> u64 {
        let newest = self.versions().ok().and_then(|versions| versions.last().copied());
        newest.map_or(0, |version| size(&self.path.join(version.to_string()), 1))
    }

    /// Version numbers on disk, ascending. As in Triton, a folder counts if its name is an integer
    /// above zero without leading zeros; everything else is ignored.
    pub fn versions(&self) -> Result<Vec<i64>> {
        let mut versions: Vec<i64> =
            subfolders(&self.path)?.iter().filter_map(|name| version_number(name)).collect();
        versions.sort_unstable();
        Ok(versions)
    }
}

fn size(folder: &Path, below: usize) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| match fs::metadata(entry.path()) {
        Ok(found) if found.is_dir() && below > 0 => size(&entry.path(), below - 1),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    };
    entries.map(one).sum()
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::invalid_arg(format!("{}: not UTF-8 text", path.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The number of the version that a folder of this name is.
pub fn version_number(name: &str) -> Option<i64> {
    if name.starts_with('0') || !name.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    name.parse().ok()
}

/// What a model is called where repositories are namespaces; without one by its name alone.
pub fn identifier(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}::{name}") }
}

/// Namespace and name.
pub fn split_identifier(id: &str) -> (&str, &str) {
    id.rsplit_once("::").unwrap_or(("", id))
}

/// The models of all repositories. Those of one name are all listed under it: which one is meant
/// cannot be known. Where repositories are namespaces, each model is listed under its identifier.
pub fn scan(
    repositories: &[Repository],
    namespaces: bool,
) -> Result<BTreeMap<String, Vec<ModelFolder>>> {
    let mut models: BTreeMap<String, Vec<ModelFolder>> = BTreeMap::new();
    for repository in repositories {
        for mut folder in repository.scan()? {
            if namespaces {
                folder.namespace = repository.name();
            }
            models.entry(folder.id()).or_default().push(folder);
        }
    }
    Ok(models)
}

pub(crate) fn scan_folder(repository: &Path) -> Result<Vec<ModelFolder>> {
    let names = subfolders(repository)?.into_iter().filter(|name| !name.starts_with('.'));
    let folder = |name: String| {
        let path = repository.join(&name);
        let path = fs::canonicalize(&path).unwrap_or(path);
        ModelFolder::local(name, path)
    };
    Ok(names.map(folder).collect())
}

fn subfolders(path: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(path, &error))?;
        // Follows links: repositories are often put together from them.
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::internal(format!("failed to read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_versions_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for path in ["one/a/1", "one/a/12", "one/a/02", "one/a/x", "one/.git", "two/a", "two/b"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        fs::write(one.join("a/3"), "a file is no version").unwrap();
        let models = scan(&[one.clone().into(), two.clone().into()], false).unwrap();
        assert_eq!(models.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(models["a"].len(), 2);
        let apart = scan(&[one.clone().into(), two.into()], true).unwrap();
        assert_eq!(apart.len(), 3);
        assert_eq!(apart[&format!("{}::a", one.display())][0].name, "a");
        assert_eq!(models["a"][0].versions().unwrap(), [1, 12]);
        let folder = &models["b"][0];
        assert!(folder.config_text(None).unwrap().is_none());
        fs::write(folder.path.join("config.pbtxt"), "usual").unwrap();
        fs::create_dir(folder.path.join("configs")).unwrap();
        fs::write(folder.path.join("configs/big.pbtxt"), "named").unwrap();
        let text = |name| folder.config_text(name).unwrap().unwrap().1;
        assert_eq!((text(None), text(Some("big"))), ("usual".into(), "named".into()));
        assert_eq!(text(Some("small")), "usual");
    }

    #[test]
    fn a_missing_repository_is_named() {
        let error = scan(&[PathBuf::from("/no/such/folder").into()], false).unwrap_err();
        assert!(error.message().contains("/no/such/folder"), "{error}");
    }
}
