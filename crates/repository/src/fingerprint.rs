//! Tells whether a model's folder has changed, reading as little of it as possible.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Up to this length files are read without a second thought: configurations, labels, code.
const SMALL: u64 = 256 << 10;

/// What a folder holds. Two of them are equal if the same files hold the same bytes, whenever they
/// were written; where the bytes of one of them were never read, if the files look untouched.
#[derive(Clone, Debug, Default)]
pub struct Fingerprint(BTreeMap<PathBuf, File>);

#[derive(Clone, Debug)]
struct File {
    stat: Stat,
    /// Of its bytes; `None`: not read.
    hash: Option<u64>,
}

/// What the file system says of a file. While it is the same, so are the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stat {
    len: u64,
    inode: u64,
    modified: (i64, i64),
    /// Moves on with every write, also where somebody has set the other time back.
    changed: (i64, i64),
}

impl Stat {
    fn new(found: &fs::Metadata) -> Self {
        Self {
            len: found.len(),
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Whether nobody has written to the file, as far as times can tell. Its permissions and its
    /// names do not matter.
    fn untouched_since(&self, before: &Self) -> bool {
        (self.len, self.inode, self.modified) == (before.len, before.inode, before.modified)
    }
}

impl Fingerprint {
    /// Of files that are elsewhere, by numbers that change with their contents.
    pub fn of_tags(tags: Vec<(PathBuf, u64)>) -> Self {
        let file = |tag| File { stat: Stat::default(), hash: Some(tag) };
        Self(tags.into_iter().map(|(name, tag)| (name, file(tag))).collect())
    }

    /// Looks at the files' names, lengths and times, and reads none of them.
    pub fn of_times(folder: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        collect(folder, Path::new(""), &mut files)?;
        Ok(Self(files))
    }

    /// Looks at the folder again. Read are only the files of which that tells whether they are as
    /// they were in `before`.
    pub fn since(folder: &Path, before: &Self) -> io::Result<Self> {
        let mut now = Self::of_times(folder)?;
        for (name, file) in &mut now.0 {
            let Some(before) = before.0.get(name) else { continue };
            let Some(known) = before.hash else { continue };
            let same = before.stat == file.stat;
            file.hash = if same { Some(known) } else { hash(&folder.join(name))? };
        }
        Ok(now)
    }

    /// Whether nothing is left to [`Self::read`].
    pub fn is_read(&self) -> bool {
        self.0.values().all(|file| file.hash.is_some())
    }

    /// Reads the files that were not read yet, as far as there is time: from then on touching them
    /// changes nothing.
    pub fn read(&mut self, folder: &Path, until: Instant) -> io::Result<()> {
        self.read_those(folder, |_| Instant::now() < until)
    }

    /// As [`Self::read`], but only what costs next to nothing.
    pub fn read_small(&mut self, folder: &Path) -> io::Result<()> {
        self.read_those(folder, |file| file.stat.len <= SMALL)
    }

    fn read_those(&mut self, folder: &Path, wanted: impl Fn(&File) -> bool) -> io::Result<()> {
        for (name, file) in &mut self.0 {
            if file.hash.is_some() || !wanted(file) {
                continue;
            }
            let path = folder.join(name);
            let bytes = hash(&path)?;
            // What was written meanwhile is for the next look to find.
            if fs::metadata(&path).is_ok_and(|found| Stat::new(&found) == file.stat) {
                file.hash = bytes;
            }
        }
        Ok(())
    }

    /// As `==`, but for the files of these names.
    pub fn is_like(&self, other: &Self, but: impl Fn(&Path) -> bool) -> bool {
        let mut ours = self.0.iter().filter(|(name, _)| !but(name));
        let mut theirs = other.0.iter().filter(|(name, _)| !but(name));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(one), Some(other)) if one.0 == other.0 && same(one.1, other.1) => {}
                _ => return false,
            }
        }
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.is_like(other, |_| false)
    }
}

fn same(one: &File, other: &File) -> bool {
    match (one.hash, other.hash) {
        (Some(one), Some(other)) => one == other,
        _ => one.stat.untouched_since(&other.stat),
    }
}

fn collect(root: &Path, inner: &Path, files: &mut BTreeMap<PathBuf, File>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(inner))? {
        let entry = entry?;
        let name = inner.join(entry.file_name());
        // What Python leaves beside a model is not part of it.
        if name.ends_with("__pycache__") {
            continue;
        }
        // Follows links: models are often put together from them.
        let found = match fs::metadata(entry.path()) {
            Ok(found) => found,
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if found.is_dir() {
            collect(root, &name, files)?;
        } else {
            files.insert(name, File { stat: Stat::new(&found), hash: None });
        }
    }
    Ok(())
}

/// `None` where the file has gone.
fn hash(path: &Path) -> io::Result<Option<u64>> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hasher.finish())),
            read => hasher.write(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn model() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("1")).unwrap();
        let file = folder.path().join("1/model.py");
        fs::write(&file, "one").unwrap();
        (folder, file)
    }

    fn touch(file: &Path) {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    fn read(folder: &Path) -> Fingerprint {
        let mut read = Fingerprint::of_times(folder).unwrap();
        read.read(folder, Instant::now() + Duration::from_secs(60)).unwrap();
        read
    }

    #[test]
    fn contents_count_and_times_do_not() {
        let (folder, file) = model();
        let first = read(folder.path());
        touch(&file);
        assert_eq!(Fingerprint::since(folder.path(), &first).unwrap(), first);
        fs::write(&file, "two").unwrap();
        assert_ne!(Fingerprint::since(folder.path(), &first).unwrap(), first);
        fs::write(&file, "one").unwrap();
        assert_eq!(Fingerprint::since(folder.path(), &first).unwrap(), first);
        fs::write(folder.path().join("config.pbtxt"), "").unwrap();
        assert_ne!(Fingerprint::since(folder.path(), &first).unwrap(), first);
    }

    #[test]
    fn times_count_where_nothing_was_read() {
        let (folder, file) = model();
        let times = Fingerprint::of_times(folder.path()).unwrap();
        assert_eq!(Fingerprint::of_times(folder.path()).unwrap(), times);
        assert_eq!(Fingerprint::since(folder.path(), &times).unwrap(), times);
        touch(&file);
        assert_ne!(Fingerprint::of_times(folder.path()).unwrap(), times);
        assert_ne!(Fingerprint::since(folder.path(), &times).unwrap(), times);
    }

    #[test]
    fn a_time_that_was_set_back_hides_nothing() {
        let (folder, file) = model();
        touch(&file);
        let first = read(folder.path());
        fs::write(&file, "two").unwrap();
        touch(&file);
        assert_ne!(Fingerprint::since(folder.path(), &first).unwrap(), first);
    }

    #[test]
    fn only_files_that_have_changed_are_read() {
        let (folder, file) = model();
        let mut first = read(folder.path());
        for known in first.0.values_mut() {
            known.hash = Some(7);
        }
        let second = Fingerprint::since(folder.path(), &first).unwrap();
        assert!(second.0.values().all(|file| file.hash == Some(7)));
        touch(&file);
        let third = Fingerprint::since(folder.path(), &second).unwrap();
        assert!(third.0.values().all(|file| file.hash != Some(7)));
    }

    #[test]
    fn some_files_may_be_left_out() {
        let (folder, _) = model();
        let before = read(folder.path());
        fs::write(folder.path().join("config.pbtxt"), "name: 'm'").unwrap();
        let after = Fingerprint::since(folder.path(), &before).unwrap();
        assert!(after.is_like(&before, |name| name == Path::new("config.pbtxt")));
        assert!(!after.is_like(&before, |name| name == Path::new("other")));
    }

    #[test]
    fn what_there_is_no_time_for_stays_unread() {
        let (folder, _) = model();
        let mut times = Fingerprint::of_times(folder.path()).unwrap();
        times.read(folder.path(), Instant::now()).unwrap();
        assert!(times.0.values().all(|file| file.hash.is_none()));
        times.read_small(folder.path()).unwrap();
        assert!(times.is_read());
    }
}
