//! The folder for files that backends make and execute: Python code, compiled libraries.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a backend keeps what it makes for later starts: the user's cache, or a folder of the
/// user's own among the temporary files.
pub fn cache_folder() -> io::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .filter(|cache| !cache.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    if let Some(folder) = cache.map(|cache| cache.join("nereid"))
        && private_folder(&folder).is_ok()
    {
        return Ok(folder);
    }
    let user = std::env::var("USER").unwrap_or_else(|_| "user".to_owned());
    let folder = std::env::temp_dir().join(format!("nereid-{user}"));
    private_folder(&folder).map_err(|error| {
        io::Error::other(format!("no folder to keep files in: {}: {error}", folder.display()))
    })?;
    Ok(folder)
}

/// Makes `folder`, unless it is there and others may write to it: what lies in it gets executed.
fn private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = fs::metadata(folder)?;
    let probe = tempfile_probe(folder)?;
    let mine = fs::metadata(&probe).map(|probe| probe.uid() == found.uid());
    fs::remove_file(&probe)?;
    if mine? && found.permissions().mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other("belongs to somebody else, or others may write to it"))
}

/// A fresh file in `folder`: shows that it can be written to, and who we are.
fn tempfile_probe(folder: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".probe-{}-{count}", std::process::id()));
    fs::File::create_new(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        assert!(private_folder(folder.path()).is_ok());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(private_folder(folder.path()).is_err());
    }
}
