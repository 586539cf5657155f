//! A cache in a Redis server, which may be shared between servers and outlives them.
//!
//! A lookup that fails, for whatever reason, is a miss: a cache is no reason not to answer. What
//! leaves when it is full is for the Redis server to decide (`maxmemory-policy`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nereid_inference::{Error, Result};
use redis::RedisResult;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::encoding::{decode, encode};
use crate::redis_client::{client, number};
use crate::{Entry, Key, Settings};

/// How long to wait where nothing is configured. Triton would wait for ever.
const DEFAULT_TIMEOUT_MS: u64 = 1000;

/// Insertions on their way; while there are as many, others are left out.
const INSERTIONS: usize = 256;

/// Triton's settings. One connection carries all requests at once, so that there is no pool to be
/// sized or waited for.
const KEYS: &[&str] = &[
    "host",
    "port",
    "user",
    "password",
    "db",
    "connect_timeout",
    "socket_timeout",
    "pool_size",
    "wait_timeout",
    "tls_enabled",
    "cert",
    "key",
    "cacert",
    "cacert_dir",
    "sni",
];

pub struct Redis(Arc<Shared>);

struct Shared {
    connection: ConnectionManager,
    reactor: Handle,
    insertions: Arc<Semaphore>,
    /// The last command failed; said once, not with every request.
    failing: AtomicBool,
}

impl Redis {
    /// Connects, so that a mistake shows when the server starts.
    pub(crate) async fn connect(settings: &Settings) -> Result<Self> {
        settings.check_keys(KEYS)?;
        let host = settings.get("host").ok_or_else(|| {
            Error::invalid_arg("Failed to initialize RedisCache: 'host' must be specified")
        })?;
        let fail = |error: redis::RedisError| {
            Error::unavailable(format!("Failed to initialize RedisCache at {host}: {error}"))
        };
        let client = client(host, settings)?.map_err(fail)?;
        let timeout = |key| Ok(Duration::from_millis(number(settings, key, DEFAULT_TIMEOUT_MS)?));
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(timeout("connect_timeout")?))
            .set_response_timeout(Some(timeout("socket_timeout")?));
        let connection = ConnectionManager::new_with_config(client, config).await.map_err(fail)?;
        Ok(Self(Arc::new(Shared {
            connection,
            reactor: Handle::current(),
            insertions: Arc::new(Semaphore::new(INSERTIONS)),
            failing: AtomicBool::new(false),
        })))
    }

    pub(crate) fn lookup(&self, key: Key, then: impl FnOnce(Option<Arc<Entry>>) + Send + 'static) {
        let shared = self.0.clone();
        self.0.reactor.spawn(async move {
            let mut connection = shared.connection.clone();
            let mut command = redis::cmd("GET");
            let found = command.arg(name(&key)).query_async(&mut connection).await;
            let found: Option<Bytes> = shared.note(found).flatten();
            then(found.and_then(decode).map(Arc::new));
        });
    }

    pub(crate) fn insert(&self, key: Key, entry: &Entry) {
        let Ok(permit) = self.0.insertions.clone().try_acquire_owned() else { return };
        let shared = self.0.clone();
        let bytes = encode(entry);
        self.0.reactor.spawn(async move {
            let mut connection = shared.connection.clone();
            let mut command = redis::cmd("SET");
            command.arg(name(&key)).arg(&bytes[..]);
            let _: Option<()> = shared.note(command.query_async(&mut connection).await);
            drop(permit);
        });
    }
}

impl Shared {
    fn note<T>(&self, result: RedisResult<T>) -> Option<T> {
        let failed = result.is_err();
        let failed_before = self.failing.swap(failed, Ordering::Relaxed);
        match result {
            Ok(value) => {
                if failed_before {
                    tracing::info!("the Redis response cache answers again");
                }
                Some(value)
            }
            Err(error) => {
                if !failed_before {
                    tracing::warn!("the Redis response cache fails, requests are run: {error}");
                }
                None
            }
        }
    }
}

fn name(key: &Key) -> Vec<u8> {
    [b"nereid:", &key.as_bytes()[..]].concat()
}
