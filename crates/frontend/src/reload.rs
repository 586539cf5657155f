//! Files that are read again when they have changed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What tells one state of a file from another.
type Stamp = Option<(SystemTime, u64)>;

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let about = path.metadata().ok()?;
        Some((about.modified().ok()?, about.len()))
    };
    paths.iter().map(stamp).collect()
}

/// Calls `load` whenever one of the files has changed, until it says that nobody needs it any more.
pub(crate) async fn follow(paths: Vec<PathBuf>, mut load: impl FnMut() -> bool) {
    let mut before = stamps(&paths);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = stamps(&paths);
        if now != before && !load() {
            return;
        }
        before = now;
    }
}

/// Reads a file whose absence is an error that names it.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("failed to read '{}': {error}", path.display()))
}
