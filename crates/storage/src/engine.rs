//! Runs what talks to the network, for callers that block.

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// One for all repositories, driven by whoever waits for something: it has no thread of its own, and
/// never ends where nothing may block.
pub(crate) fn engine() -> io::Result<&'static Runtime> {
    static ENGINE: OnceLock<Runtime> = OnceLock::new();
    if let Some(engine) = ENGINE.get() {
        return Ok(engine);
    }
    let engine = Builder::new_current_thread().enable_all().build()?;
    Ok(ENGINE.get_or_init(|| engine))
}
