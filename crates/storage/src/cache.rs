//! The folder in which a repository's models are kept.
//!
//! `objects/<id>` holds what was brought, each content once; `models/<model>/<id>/` is a model as it
//! was listed, put together from links to those. A new listing of a model is a new folder, so that
//! the old one stays whole for whoever serves from it. Several servers may share the folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::listing::{Object, short};

/// What is on its way is called so.
const PARTIAL: &str = "part";

/// Who holds one keeps others from tidying up.
pub(crate) struct Using {
    _lock: File,
}

#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(root.join("objects"))?;
        fs::create_dir_all(root.join("models"))?;
        Ok(Self { root })
    }

    pub(crate) fn model(&self, model: &str, id: &str) -> PathBuf {
        self.root.join("models").join(model).join(id)
    }

    pub(crate) fn object(&self, object: &Object) -> PathBuf {
        self.root.join("objects").join(short(&object.id))
    }

    pub(crate) fn partial(&self, object: &Object) -> PathBuf {
        self.object(object).with_extension(PARTIAL)
    }

    /// Whether the object is here, as it was brought.
    pub(crate) fn holds(&self, object: &Object) -> bool {
        fs::metadata(self.object(object)).is_ok_and(|found| is_as_brought(&found, object))
    }

    /// From now on the object is here. Nobody should write to it: models share it.
    pub(crate) fn keep(&self, file: &File, object: &Object) -> io::Result<()> {
        file.set_modified(object.stamp)?;
        file.set_permissions(fs::Permissions::from_mode(0o444))?;
        file.sync_all()?;
        fs::rename(self.partial(object), self.object(object))
    }

    /// Puts an object that is here into the folder of a model.
    pub(crate) fn link(&self, object: &Object, folder: &Path) -> io::Result<()> {
        let target = folder.join(&object.path);
        if fs::metadata(&target).is_ok_and(|found| is_as_brought(&found, object)) {
            return Ok(());
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let source = self.object(object);
        match fs::hard_link(&source, &target) {
            // Not every file system has links.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                copy(&source, &target, object)
            }
            _ => Ok(()),
        }
    }

    /// Keeps everything here until it is dropped.
    pub(crate) fn using(&self) -> io::Result<Using> {
        let lock = lock_file(&self.root.join("lock"))?;
        flock(&lock, FlockOperation::LockShared)?;
        Ok(Using { _lock: lock })
    }

    /// Keeps the folder of a model.
    pub(crate) fn using_model(&self, model: &str, id: &str) -> io::Result<Using> {
        let folder = self.model(model, id);
        fs::create_dir_all(folder.parent().unwrap_or(&self.root))?;
        let lock = lock_file(&folder.with_extension("lock"))?;
        flock(&lock, FlockOperation::LockShared)?;
        Ok(Using { _lock: lock })
    }

    /// Takes away folders of models that nobody uses and that are not of `current`, and objects that
    /// are in no folder and not `wanted`.
    pub(crate) fn tidy(
        &self,
        current: &BTreeSet<(String, String)>,
        wanted: &BTreeSet<String>,
    ) -> io::Result<()> {
        for model in names(&self.root.join("models"))? {
            let folder = self.root.join("models").join(&model);
            for id in names(&folder)?.into_iter().filter(|name| !name.ends_with(".lock")) {
                if !current.contains(&(model.clone(), id.clone())) {
                    self.remove_unless_used(&model, &id)?;
                }
            }
            // Fails where something is left in it.
            let _ = fs::remove_dir(&folder);
        }
        self.tidy_objects(wanted)
    }

    fn remove_unless_used(&self, model: &str, id: &str) -> io::Result<()> {
        let folder = self.model(model, id);
        let lock_path = folder.with_extension("lock");
        let lock = lock_file(&lock_path)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        fs::remove_dir_all(&folder)?;
        fs::remove_file(lock_path)
    }

    fn tidy_objects(&self, wanted: &BTreeSet<String>) -> io::Result<()> {
        let lock = lock_file(&self.root.join("lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        let objects = self.root.join("objects");
        for name in names(&objects)? {
            let path = objects.join(&name);
            let id = name.split('.').next().unwrap_or(&name);
            if !wanted.contains(id) && fs::metadata(&path).is_ok_and(|found| found.nlink() == 1) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Never onto a file that is there: it might be a link to the source.
fn copy(source: &Path, target: &Path, object: &Object) -> io::Result<()> {
    let mut new = File::options().create_new(true).write(true).open(target)?;
    io::copy(&mut File::open(source)?, &mut new)?;
    new.set_modified(object.stamp)
}

/// A file that somebody has written to since is another one.
fn is_as_brought(found: &fs::Metadata, object: &Object) -> bool {
    found.len() == object.size && found.modified().is_ok_and(|stamp| stamp == object.stamp)
}

fn lock_file(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string()));
    Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use object_store::path::Path as Key;

    use super::*;
    use crate::listing::{models, tests::meta};

    struct Fixture {
        _folder: tempfile::TempDir,
        cache: Cache,
    }

    fn cache() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().join("repository")).unwrap();
        Fixture { _folder: folder, cache }
    }

    fn object(key: &str, contents: &str, tag: &str) -> Object {
        let listed = [meta(key, contents.len() as u64, tag)];
        models(&Key::default(), &listed).into_values().next().unwrap().objects.remove(0)
    }

    fn bring(cache: &Cache, object: &Object, contents: &str) {
        fs::write(cache.partial(object), contents).unwrap();
        cache.keep(&File::open(cache.partial(object)).unwrap(), object).unwrap();
    }

    #[test]
    fn an_object_is_kept_once_and_linked() {
        let Fixture { cache, _folder } = &cache();
        let one = object("m/1/model.py", "text", "a");
        assert!(!cache.holds(&one));
        bring(cache, &one, "text");
        assert!(cache.holds(&one));
        let folder = cache.model("m", "id");
        cache.link(&one, &folder).unwrap();
        cache.link(&one, &folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join("1/model.py")).unwrap(), "text");
        // Somebody has written to it, as only root can.
        let target = folder.join("1/model.py");
        fs::remove_file(&target).unwrap();
        fs::write(&target, "other").unwrap();
        cache.link(&one, &folder).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "text");
    }

    #[test]
    fn what_nobody_wants_goes() {
        let Fixture { cache, _folder } = &cache();
        let (old, new) = (object("m/1/x", "old", "a"), object("m/1/x", "new", "b"));
        for (object, contents, id) in [(&old, "old", "one"), (&new, "new", "two")] {
            bring(cache, object, contents);
            cache.link(object, &cache.model("m", id)).unwrap();
        }
        let current = BTreeSet::from([("m".to_owned(), "two".to_owned())]);
        let wanted = BTreeSet::from([short(&new.id)]);
        let held = cache.using_model("m", "one").unwrap();
        cache.tidy(&current, &wanted).unwrap();
        assert!(cache.model("m", "one").exists());
        drop(held);
        cache.tidy(&current, &wanted).unwrap();
        assert!(!cache.model("m", "one").exists() && cache.model("m", "two").exists());
        assert!(!cache.holds(&old) && cache.holds(&new));
    }

    #[test]
    fn nothing_goes_while_something_comes() {
        let Fixture { cache, _folder } = &cache();
        let one = object("m/1/x", "text", "a");
        bring(cache, &one, "text");
        let using = cache.using().unwrap();
        cache.tidy(&BTreeSet::new(), &BTreeSet::new()).unwrap();
        assert!(cache.holds(&one));
        drop(using);
        cache.tidy(&BTreeSet::new(), &BTreeSet::new()).unwrap();
        assert!(!cache.holds(&one));
    }
}
