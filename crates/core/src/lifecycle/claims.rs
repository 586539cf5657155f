//! Who is changing which models: nobody changes one that somebody else is changing.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nereid_inference::{Error, Result};

use super::Lifecycle;

/// How long a request in mode `auto` waits for others who change the same models. A model that is
/// being loaded may call one that is made of it, which would never end.
const PATIENCE: Duration = Duration::from_secs(120);

/// The models that are being loaded or unloaded.
#[derive(Default)]
pub(super) struct Claims {
    busy: Mutex<BTreeSet<String>>,
    freed: Condvar,
}

/// Models that one caller is changing.
pub(crate) struct Claim<'a> {
    claims: &'a Claims,
    names: Vec<String>,
}

impl Claims {
    /// Claims all of the models, or says which one is taken.
    fn claim(&self, names: Vec<String>, patience: Duration) -> Result<Claim<'_>, String> {
        let deadline = Instant::now() + patience;
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(taken) = names.iter().find(|name| busy.contains(*name)) else {
                busy.extend(names.iter().cloned());
                return Ok(Claim { claims: self, names });
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(taken.clone());
            }
            let waited = self.freed.wait_timeout(busy, left);
            busy = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut busy = self.claims.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            busy.remove(name);
        }
        drop(busy);
        self.claims.freed.notify_all();
    }
}

impl Lifecycle {
    /// Keeps others from changing `name`, the models it needs and those that need it.
    pub(crate) fn claim(&self, name: &str) -> Result<Claim<'_>> {
        self.claims.claim(self.related(name, &[]), Duration::ZERO).map_err(|taken| {
            Error::internal(format!(
                "a related model '{taken}' to a load/unload request is currently loading or \
                 unloading"
            ))
        })
    }

    /// As [`Self::claim`], of a model that will need `needs`; waits for those who are changing them.
    pub(crate) fn claim_patiently(&self, name: &str, needs: &[String]) -> Result<Claim<'_>> {
        self.claims.claim(self.related(name, needs), PATIENCE).map_err(|taken| {
            Error::unavailable(format!(
                "model '{name}' cannot be loaded: '{taken}' has been loading or unloading for {} s",
                PATIENCE.as_secs()
            ))
        })
    }

    fn related(&self, name: &str, needs: &[String]) -> Vec<String> {
        let mut related = self.with_needed(name);
        related.extend(needs.iter().cloned());
        related.extend(self.ensembles_of(name));
        related.into_iter().collect()
    }

    /// A model that was loaded once, and all that it is made of.
    pub(crate) fn with_needed(&self, name: &str) -> BTreeSet<String> {
        let records = self.lock();
        let mut all = BTreeSet::from([name.to_owned()]);
        let mut waiting = vec![name];
        while let Some(record) = waiting.pop().map(|name| records.get(name)) {
            for needed in record.into_iter().flat_map(|record| &record.needs) {
                if all.insert(needed.clone()) {
                    waiting.push(needed);
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_claimed_together_or_not_at_all() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let claims = Claims::default();
        let first = claims.claim(names(&["a", "b"]), Duration::ZERO).ok();
        assert_eq!(claims.claim(names(&["c", "b"]), Duration::ZERO).err(), Some("b".to_owned()));
        assert!(claims.claim(names(&["c"]), Duration::ZERO).is_ok());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| claims.claim(names(&["b"]), PATIENCE).is_ok());
            drop(first);
            assert!(waits.join().unwrap());
        });
    }
}
