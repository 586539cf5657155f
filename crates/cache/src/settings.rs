//! `--cache-config`: which cache, and its settings.

use nereid_inference::{Error, Result};

/// `<cache>,<key>=<value>` as often as there are keys; a key that is given twice has its last value.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    cache: String,
    values: Vec<(String, String)>,
}

impl Settings {
    /// `None` where no cache is asked for.
    pub fn new(given: &[(String, String, String)]) -> Result<Option<Self>> {
        let Some((cache, ..)) = given.first() else { return Ok(None) };
        if given.iter().any(|(other, ..)| other != cache) {
            return Err(Error::invalid_arg(
                "found multiple cache configurations, but only a single cache is currently \
                 supported",
            ));
        }
        let values = given.iter().map(|(_, key, value)| (key.clone(), value.clone())).collect();
        Ok(Some(Self { cache: cache.clone(), values }))
    }

    /// Its name: `local`, `redis`.
    pub fn cache(&self) -> &str {
        &self.cache
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Refuses keys that the cache does not know: a setting that is misspelt should not be lost.
    pub fn check_keys(&self, known: &[&str]) -> Result<()> {
        let unknown = self.values.iter().find(|(key, _)| !known.contains(&key.as_str()));
        unknown.map_or(Ok(()), |(key, _)| {
            Err(Error::invalid_arg(format!(
                "cache '{}' has no setting '{key}'; it has {}",
                self.cache,
                known.join(", ")
            )))
        })
    }
}
