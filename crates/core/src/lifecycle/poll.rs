//! Mode `poll`: the repositories say what is to be loaded.

use std::time::{Duration, Instant};

use nereid_inference::Result;
use nereid_repository::Fingerprint;

use super::{Found, Lifecycle};
use crate::loading::Look;
use crate::overrides::Override;

/// A folder that is being written to is looked at again after this time.
const SETTLE: Duration = Duration::from_millis(200);

/// How long one look at the repositories may read files that nobody has touched, to know them when
/// somebody does.
const READING: Duration = Duration::from_secs(1);

impl Lifecycle {
    /// Looks at the repositories and does what has changed. A folder that is being written to is
    /// left for the next time. Nobody leaves while a repository cannot be looked at.
    pub fn poll(&self) -> Result<()> {
        let Look { found, silent } = self.repositories.look();
        let mut gone: Vec<String> =
            self.lock().keys().filter(|name| !found.contains_key(*name)).cloned().collect();
        if !silent.is_empty() {
            gone.clear();
        }
        for name in gone {
            tracing::info!("'{name}' has left the repository");
            self.remove(&name, false);
        }
        let changed = self.settled(self.changed(&found), &found);
        let jobs = changed.into_iter().map(|name| {
            let mut job = self.job(&name, &found, Override::default());
            job.record.asked = true;
            (name, job)
        });
        self.run_all(jobs.collect(), &found);
        self.read_unread(&found);
        silent.into_iter().next().map_or(Ok(()), Err)
    }

    /// The models that are new or whose folders differ, with what these hold now.
    fn changed(&self, found: &Found) -> Vec<(String, Fingerprint)> {
        let mut changed = Vec::new();
        for (name, folders) in found {
            let [folder] = folders.as_slice() else { continue };
            let known = self.known_fingerprint(name);
            let now = self.fingerprint(known.as_ref(), folder);
            if known.as_ref() == Some(&now) {
                // The times may be others, and are not to be looked into again.
                self.note_fingerprint(name, now);
            } else {
                changed.push((name.clone(), now));
            }
        }
        changed
    }

    /// Those of them to which nobody is writing.
    fn settled(&self, changed: Vec<(String, Fingerprint)>, found: &Found) -> Vec<String> {
        if changed.is_empty() {
            return Vec::new();
        }
        std::thread::sleep(SETTLE);
        let is_remote = |(name, _): &(String, Fingerprint)| {
            found.get(name).into_iter().flatten().any(|folder| folder.remote.is_some())
        };
        // What is elsewhere is as it was listed: it has to be listed again.
        let again = changed.iter().any(is_remote).then(|| self.repositories.look().found);
        let found = again.as_ref().unwrap_or(found);
        let settled = changed.into_iter().filter(|(name, before)| {
            let folder = found.get(name).and_then(|folders| folders.first());
            folder.is_some_and(|folder| *before == self.fingerprint(Some(before), folder))
        });
        settled.map(|(name, _)| name).collect()
    }

    /// Reads the files of models that were loaded without looking into their files: from then on
    /// it does not matter when they were written.
    fn read_unread(&self, found: &Found) {
        let until = Instant::now() + READING;
        for (name, folders) in found {
            let ([folder], Some(mut known)) = (folders.as_slice(), self.known_fingerprint(name))
            else {
                continue;
            };
            // What cannot be read will be seen when it is loaded.
            if known.is_read() || known.read(&folder.path, until).is_err() {
                continue;
            }
            self.note_fingerprint(name, known);
            if Instant::now() >= until {
                return;
            }
        }
    }

    fn note_fingerprint(&self, name: &str, fingerprint: Fingerprint) {
        if let Some(record) = self.lock().get_mut(name) {
            record.fingerprint = fingerprint;
        }
    }
}
