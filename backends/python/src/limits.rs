//! How long a worker may take, and what becomes of one that takes longer.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process_group, waitpgid,
};
use tokio::process::Child;

use crate::link::Link;

/// How long `finalize` may take before the process is killed.
const FINALIZE_LIMIT: Duration = Duration::from_secs(10);
/// How long a process may take to exit once its pipe is closed.
pub(crate) const EXIT_LIMIT: Duration = Duration::from_secs(2);
/// How long reading what a process has left in its pipe may take.
const READ_LIMIT: Duration = Duration::from_millis(100);
/// How long it may take to write down where it hangs.
const ABORT_LIMIT: Duration = Duration::from_secs(1);
/// How long what a worker has started may go on after it has ended, to clean up.
const ORPHAN_LIMIT: Duration = Duration::from_millis(500);

/// Ends when the worker has not become ready in time.
pub(crate) async fn late_start(link: &Link, limit: Option<Duration>) {
    let Some(limit) = limit else { return pending().await };
    tokio::time::sleep(limit).await;
    if !link.is_starting() {
        pending().await
    }
}

/// Ends when one of the `threads` batches that the worker executes at a time has not come back in
/// time. What waits in its pipe does not count.
pub(crate) async fn late_execute(link: &Link, limit: Option<Duration>, threads: usize) {
    let Some(limit) = limit else { return pending().await };
    let tick = (limit / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let mut since: HashMap<u64, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(tick).await;
        let (now, running) = (Instant::now(), link.running(threads));
        since.retain(|id, _| running.contains(id));
        if running.iter().any(|id| now - *since.entry(*id).or_insert(now) >= limit) {
            return;
        }
    }
}

/// Ends when the instance was dropped and its worker has had its time to finalize.
pub(crate) async fn late_end(link: &Link) {
    link.stopped.notified().await;
    tokio::time::sleep(FINALIZE_LIMIT).await;
}

/// Ends when the process has, and what it has written has been read. Most often its pipe says so,
/// but not if a process that it has forked keeps the pipe open.
pub(crate) async fn exited(child: &mut Child) {
    let _ = child.wait().await;
    tokio::time::sleep(READ_LIMIT).await;
}

/// Waits for a process whose pipe is closed, and kills it if that takes long.
pub(crate) async fn end(child: &mut Child) -> io::Result<ExitStatus> {
    match tokio::time::timeout(EXIT_LIMIT, child.wait()).await {
        Ok(status) => status,
        Err(_) => kill(child).await,
    }
}

/// Ends a process that hangs. Told to abort, Python writes down where each of its threads is.
pub(crate) async fn abort(child: &mut Child) -> io::Result<ExitStatus> {
    if let Some(pid) = pid(child) {
        let _ = kill_process(pid, Signal::ABORT);
    }
    match tokio::time::timeout(ABORT_LIMIT, child.wait()).await {
        Ok(status) => status,
        Err(_) => kill(child).await,
    }
}

/// Kills a process and those that it has started.
pub(crate) async fn kill(child: &mut Child) -> io::Result<ExitStatus> {
    if let Some(pid) = pid(child) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    child.start_kill()?;
    child.wait().await
}

/// Ends what a worker that has ended leaves behind: a process may hold the memory of a GPU that its
/// successor needs. One that has made itself a group of its own goes on.
pub(crate) async fn end_orphans(group: Pid) {
    let _ = kill_process_group(group, Signal::TERM);
    let since = Instant::now();
    loop {
        // They are this process's own now if it is the first of a container.
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
        if test_kill_process_group(group).is_err() {
            return;
        }
        if since.elapsed() > ORPHAN_LIMIT {
            let _ = kill_process_group(group, Signal::KILL);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}
