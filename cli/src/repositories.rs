//! What `--model-repository` names: folders, or places in a cloud.

use std::path::{Path, PathBuf};

use nereid_core::Repository;

/// How the names of places begin that are no folders.
const SCHEMES: [&str; 3] = ["s3://", "gs://", "as://"];

pub(crate) fn open(paths: &[PathBuf]) -> Result<Vec<Repository>, String> {
    paths.iter().map(|path| open_one(path)).collect()
}

fn open_one(path: &Path) -> Result<Repository, String> {
    match path.to_str() {
        Some(url) if SCHEMES.iter().any(|scheme| url.starts_with(scheme)) => open_url(url),
        _ => Ok(Repository::Folder(path.to_owned())),
    }
}

#[cfg(feature = "cloud")]
fn open_url(url: &str) -> Result<Repository, String> {
    let cache = nereid_backend::cache_folder().map_err(|error| error.to_string())?;
    let mirror = nereid_storage::open(url, &cache.join("repositories"));
    mirror.map(Repository::Remote).map_err(|error| error.message().to_owned())
}

#[cfg(not(feature = "cloud"))]
fn open_url(url: &str) -> Result<Repository, String> {
    Err(format!(
        "{url}: this nereid was built without cloud storage; build it with: \
         cargo build --release --features cloud"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_folders() {
        let opened = open(&[PathBuf::from("/models"), PathBuf::from("s3x/models")]).unwrap();
        assert!(opened.iter().all(|repository| matches!(repository, Repository::Folder(_))));
    }

    #[cfg(not(feature = "cloud"))]
    #[test]
    fn what_was_not_built_is_named() {
        let error = open(&[PathBuf::from("s3://bucket/models")]).err().unwrap();
        assert!(error.contains("s3://bucket/models") && error.contains("--features cloud"));
    }
}
