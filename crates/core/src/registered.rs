//! Repositories that become known while the server runs, each for the sake of one model, which gets
//! a name of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nereid_inference::{Code, Error, Result};
use nereid_model_config as model_config;
use nereid_repository::{ModelFolder, Repository, scan};

use crate::lifecycle::{ControlMode, Lifecycle};
use crate::loading::{Look, Repositories};

/// By the repository's path.
#[derive(Default)]
pub struct Registered(Mutex<BTreeMap<PathBuf, Mapping>>);

/// The model in this folder has this name.
#[derive(Clone)]
struct Mapping {
    folder: String,
    name: String,
}

impl Registered {
    /// Whether a model's name is not that of its folder.
    pub(crate) fn renames(&self, name: &str) -> bool {
        self.lock().values().any(|mapping| mapping.name == name)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Mapping>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repositories {
    /// Adds what the repositories hold that became known while the server runs.
    pub(crate) fn add_registered(&self, look: &mut Look) {
        let registered = self.registered.lock().clone();
        // What was registered may be gone by now; that is no reason to know of nothing at all.
        for (path, mapping) in registered.into_iter().filter(|(path, _)| path.is_dir()) {
            let found = match scan(&[path.into()], self.namespaces) {
                Ok(found) => found,
                Err(error) => {
                    look.silent.push(error);
                    continue;
                }
            };
            for mut folder in found.into_values().flatten() {
                if folder.name == mapping.folder {
                    folder.name.clone_from(&mapping.name);
                }
                look.found.entry(folder.id()).or_default().push(folder);
            }
        }
    }
}

impl Lifecycle {
    /// Makes a repository known. Its model, which of several is the ensemble, is called `name`.
    pub fn register(&self, repository: &Path, name: &str) -> Result<()> {
        if self.mode != ControlMode::Explicit {
            return Err(Error::unsupported(
                "repository registration is not allowed if model control mode is not EXPLICIT",
            ));
        }
        let shown = repository.display();
        let already = |message| Err(Error::new(Code::AlreadyExists, message));
        let mut registered = self.repositories.registered.lock();
        let is_known =
            |known: &Repository| matches!(known, Repository::Folder(path) if path == repository);
        let known = self.repositories.paths.iter().any(is_known);
        if known || registered.contains_key(repository) {
            return already(format!("model repository '{shown}' has already been registered"));
        }
        if !repository.is_dir() {
            let message = format!("failed to register '{shown}', repository not found");
            return Err(Error::invalid_arg(message));
        }
        if registered.values().any(|mapping| mapping.name == name) {
            return already(format!(
                "failed to register '{shown}', there is a conflicting mapping for '{name}'"
            ));
        }
        let mapping = Mapping { folder: main_model(repository)?, name: name.to_owned() };
        registered.insert(repository.to_owned(), mapping);
        Ok(())
    }

    /// Forgets a repository that was made known. What was loaded from it still serves.
    pub fn unregister(&self, repository: &Path) -> Result<()> {
        match self.repositories.registered.lock().remove(repository) {
            Some(_) => Ok(()),
            None => Err(Error::invalid_arg(format!(
                "failed to unregister '{}', repository not found",
                repository.display()
            ))),
        }
    }
}

/// The folder of the only model, or of the only ensemble.
fn main_model(repository: &Path) -> Result<String> {
    let mut folders = scan(&[repository.to_owned().into()], false)?;
    if folders.len() > 1 {
        folders.retain(|_, folders| folders.iter().any(is_ensemble));
    }
    match folders.len() {
        1 => Ok(folders.into_keys().next().unwrap_or_default()),
        _ => Err(Error::invalid_arg(format!(
            "failed to register '{}', expecting one model, or several of which one is an ensemble",
            repository.display()
        ))),
    }
}

fn is_ensemble(folder: &ModelFolder) -> bool {
    let text = folder.config_text(None).ok().flatten();
    text.and_then(|(path, text)| model_config::parse(&text, &path).ok())
        .is_some_and(|config| config.is_ensemble())
}
