//! The Python package that workers run: part of the binary, unpacked where Python can import it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use nereid_backend::cache_folder;

include!(concat!(env!("OUT_DIR"), "/worker_files.rs"));

/// Puts the package into the user's cache, under a name made from its contents, and returns its
/// path. Python keeps its compiled form there too, so workers start faster next time.
pub(crate) fn unpack() -> io::Result<PathBuf> {
    let root = cache_folder()?;
    let mut hasher = DefaultHasher::new();
    WORKER_FILES.hash(&mut hasher);
    let target = root.join(format!("python-worker-{:016x}", hasher.finish()));
    if is_whole(&target) {
        return Ok(target);
    }
    // Written beside and renamed: another server may be doing the same.
    let fresh = root.join(format!("python-worker-new-{}", std::process::id()));
    let moved = write_to(&fresh).and_then(|()| fs::rename(&fresh, &target));
    if moved.is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    match moved {
        Err(error) if !is_whole(&target) => Err(error),
        _ => Ok(target),
    }
}

/// Keeps one Python file beside the package, under a name made from its contents.
pub(crate) fn keep(text: &str) -> io::Result<PathBuf> {
    let root = cache_folder()?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let target = root.join(format!("model-{:016x}.py", hasher.finish()));
    if !fs::read(&target).is_ok_and(|found| found == text.as_bytes()) {
        let fresh = target.with_extension(format!("{}.new", std::process::id()));
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &target)?;
    }
    Ok(target)
}

fn write_to(folder: &Path) -> io::Result<()> {
    for (name, contents) in WORKER_FILES {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, contents)?;
    }
    Ok(())
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
        assert_eq!(std::fs::read_to_string(super::keep("pass").unwrap()).unwrap(), "pass");
    }
}
