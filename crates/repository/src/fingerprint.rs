//! Tells whether a model's folder has changed.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The contents of a folder. Two of them are equal if the same files hold the same bytes, whenever
/// they were written; where one of them did not read the files, if they have the same times.
#[derive(Clone, Debug, Default)]
pub struct Fingerprint(BTreeMap<PathBuf, File>);

#[derive(Clone, Debug)]
struct File {
    len: u64,
    modified: Option<SystemTime>,
    /// `None`: not read.
    hash: Option<u64>,
}

impl Fingerprint {
    /// Reads the files in `folder`; those that have the length and the time they had in `before`
    /// are not read again.
    pub fn of_contents(folder: &Path, before: &Self) -> io::Result<Self> {
        let read = |path: &Path, name: &Path, file: &File| {
            let same = |b: &&File| b.len == file.len && b.modified == file.modified;
            let known = before.0.get(name).filter(same).and_then(|before| before.hash);
            known.map_or_else(|| hash(path), Ok).map(Some)
        };
        Self::take(folder, &read)
    }

    /// Looks at lengths and times only.
    pub fn of_times(folder: &Path) -> io::Result<Self> {
        Self::take(folder, &|_, _, _| Ok(None))
    }

    fn take(folder: &Path, hash: &HashOf<'_>) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        collect(folder, Path::new(""), hash, &mut files)?;
        Ok(Self(files))
    }
}

/// The hash of a file, given its path, its name in the folder, and what else is known of it.
type HashOf<'a> = dyn Fn(&Path, &Path, &File) -> io::Result<Option<u64>> + 'a;

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&File, &File)| match (one.hash, other.hash) {
            (Some(one), Some(other)) => one == other,
            _ => one.len == other.len && one.modified == other.modified,
        };
        self.0.keys().eq(other.0.keys()) && self.0.values().zip(other.0.values()).all(same)
    }
}

fn collect(
    root: &Path,
    inner: &Path,
    hash: &HashOf<'_>,
    files: &mut BTreeMap<PathBuf, File>,
) -> io::Result<()> {
    for entry in fs::read_dir(root.join(inner))? {
        let name = inner.join(entry?.file_name());
        let path = root.join(&name);
        // What Python leaves beside a model is not part of it.
        if name.ends_with("__pycache__") {
            continue;
        }
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if found.is_dir() {
            collect(root, &name, hash, files)?;
            continue;
        }
        let mut file = File { len: found.len(), modified: found.modified().ok(), hash: None };
        file.hash = hash(&path, &name, &file)?;
        files.insert(name, file);
    }
    Ok(())
}

fn hash(path: &Path) -> io::Result<u64> {
    let mut file = fs::File::open(path)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.write(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_count_and_times_do_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("1")).unwrap();
        let file = folder.path().join("1/model.py");
        fs::write(&file, "one").unwrap();
        let first = Fingerprint::of_contents(folder.path(), &Fingerprint::default()).unwrap();
        let touched = fs::File::options().write(true).open(&file).unwrap();
        touched.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(Fingerprint::of_contents(folder.path(), &first).unwrap(), first);
        fs::write(&file, "two").unwrap();
        assert_ne!(Fingerprint::of_contents(folder.path(), &first).unwrap(), first);
        fs::write(&file, "one").unwrap();
        let times = Fingerprint::of_times(folder.path()).unwrap();
        assert_eq!(Fingerprint::of_times(folder.path()).unwrap(), times);
        fs::write(folder.path().join("config.pbtxt"), "").unwrap();
        assert_ne!(Fingerprint::of_times(folder.path()).unwrap(), times);
        assert_ne!(Fingerprint::of_contents(folder.path(), &first).unwrap(), first);
    }
}
