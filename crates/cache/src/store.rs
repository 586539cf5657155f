//! Where entries are kept.

use std::sync::Arc;

use nereid_inference::{Error, Result};

use crate::{Entry, Key, Local, LocalStatistics, Settings};

/// The one cache of a server.
pub enum ResponseCache {
    Local(Local),
    #[cfg(feature = "redis")]
    Redis(crate::redis::Redis),
}

impl ResponseCache {
    /// The cache that is asked for. Its reactor is the one that this runs on.
    pub async fn new(settings: &Settings) -> Result<Self> {
        match settings.cache() {
            "local" => local(settings).map(Self::Local),
            #[cfg(feature = "redis")]
            "redis" => Ok(Self::Redis(crate::redis::Redis::connect(settings).await?)),
            #[cfg(not(feature = "redis"))]
            "redis" => Err(Error::unsupported(
                "this build has no cache 'redis': it was built without the feature of that name",
            )),
            other => Err(Error::invalid_arg(format!("there is no cache '{other}'"))),
        }
    }

    /// Looks for an answer; `then` is called at once or later, but once.
    pub fn lookup(&self, key: Key, then: impl FnOnce(Option<Arc<Entry>>) + Send + 'static) {
        match self {
            Self::Local(local) => then(local.lookup(&key)),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.lookup(key, then),
        }
    }

    /// `None` for caches that are not in this process.
    pub fn statistics(&self) -> Option<LocalStatistics> {
        match self {
            Self::Local(local) => Some(local.statistics()),
            #[cfg(feature = "redis")]
            Self::Redis(_) => None,
        }
    }

    pub fn insert(&self, key: Key, entry: Entry) {
        match self {
            Self::Local(local) => local.insert(key, entry),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.insert(key, &entry),
        }
    }
}

fn local(settings: &Settings) -> Result<Local> {
    let fail =
        |reason: &str| Error::invalid_arg(format!("Failed to initialize LocalCache: {reason}"));
    settings.check_keys(&["size"])?;
    let size = settings.get("size");
    let size = size.ok_or_else(|| fail("config didn't contain a valid 'size' field."))?;
    match size.parse() {
        Ok(size) if size > 0 => Ok(Local::new(size)),
        _ => Err(fail(&format!("'size' must be a number of bytes above 0, got '{size}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn made(given: &[(&str, &str, &str)]) -> Result<(), String> {
        let own = |(a, b, c): &(&str, &str, &str)| (a.to_string(), b.to_string(), c.to_string());
        let given: Vec<_> = given.iter().map(own).collect();
        let settings = Settings::new(&given).map_err(|error| error.to_string())?.unwrap();
        ResponseCache::new(&settings).await.map(drop).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn settings() {
        assert_eq!(made(&[("local", "size", "x"), ("local", "size", "1000")]).await, Ok(()));
        for wrong in [
            &[("local", "size", "0")][..],
            &[("local", "size", "-1")],
            &[("local", "sise", "1000")],
            &[("other", "size", "1000")],
            &[("local", "size", "1000"), ("redis", "host", "a")],
            &[("redis", "port", "1000")],
            &[("redis", "host", "127.0.0.1"), ("redis", "port", "no")],
        ] {
            made(wrong).await.unwrap_err();
        }
        assert!(Settings::new(&[]).unwrap().is_none());
    }
}
