//! The Python package that workers run: part of the binary, unpacked where Python can import it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/worker_files.rs"));

/// Puts the package into the cache folder of the user, under a name made from its contents, and
/// returns its path. Python keeps its compiled form there too, so workers start faster next time.
pub(crate) fn unpack() -> io::Result<PathBuf> {
    let mut last = io::Error::other("no folder to unpack the Python worker into");
    for root in roots() {
        match unpack_into(&root) {
            Ok(path) => return Ok(path),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn roots() -> Vec<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.into_iter().chain([std::env::temp_dir()]).map(|root| root.join("nereid")).collect()
}

fn unpack_into(root: &Path) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    WORKER_FILES.hash(&mut hasher);
    let target = root.join(format!("python-worker-{:016x}", hasher.finish()));
    if is_whole(&target) {
        return Ok(target);
    }
    // Written beside and renamed: another server may be doing the same.
    let fresh = root.join(format!("python-worker-new-{}", std::process::id()));
    for (name, contents) in WORKER_FILES {
        let path = fresh.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&fresh))?;
        fs::write(path, contents)?;
    }
    match fs::rename(&fresh, &target) {
        Ok(()) => Ok(target),
        Err(_) if is_whole(&target) => fs::remove_dir_all(&fresh).map(|()| target),
        Err(error) => Err(error),
    }
}

fn is_whole(target: &Path) -> bool {
    WORKER_FILES.iter().all(|(name, contents)| {
        fs::read(target.join(name)).is_ok_and(|found| found == contents.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_package_is_there_twice() {
        let first = super::unpack().unwrap();
        assert!(first.join("triton_python_backend_utils.py").is_file());
        assert_eq!(super::unpack().unwrap(), first);
    }
}
