//! How the server ends: first it is not ready any more, then it takes no new requests, and when
//! those that run are answered, its workers go.

use std::sync::Arc;
use std::time::Duration;

use nereid_core::Server;
use nereid_inference::Cancellation;
use nereid_trace::Tracer;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::flags::ServeFlags;
use crate::supervisor::Supervisor;

/// How long workers may take to finalize once all requests have been answered.
const FAREWELL: Duration = Duration::from_secs(5);

/// What has to end.
pub(crate) struct Ending {
    pub(crate) server: Arc<Server>,
    /// Tells the frontends.
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) frontends: JoinSet<()>,
    /// Tells who waits for a worker.
    pub(crate) ending: Cancellation,
    pub(crate) tracer: Tracer,
    /// Held by everything that has to be gone.
    pub(crate) alive: Arc<()>,
}

impl Ending {
    /// Ends everything in order, or at once when another signal comes.
    pub(crate) async fn run(
        self,
        flags: &ServeFlags,
        signals: &mut Signals,
        supervisor: &Supervisor,
    ) {
        let patience = Duration::from_secs(flags.exit_timeout_secs);
        let notice = Duration::from_secs(flags.exit_notice_secs);
        self.server.stop_accepting();
        supervisor.stopping(notice + patience + FAREWELL);
        let (server, ending) = (self.server.clone(), self.ending.clone());
        tokio::select! {
            () = self.in_order(notice, patience) => {}
            () = signals.next() => {
                tracing::warn!("told to stop again: not waiting any longer");
                ending.cancel();
                server.unload_all();
            }
        }
    }

    async fn in_order(mut self, notice: Duration, patience: Duration) {
        if !notice.is_zero() {
            tracing::info!("stopping: not ready any more, accepting for {notice:?}");
            tokio::time::sleep(notice).await;
        }
        tracing::info!("stopping: waiting for requests that are running");
        let _ = self.stop.send(true);
        let ended = async { while self.frontends.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!("requests are still running after {patience:?}: not waiting any longer");
        }
        self.ending.cancel();
        self.server.unload_all();
        let tracer = self.tracer;
        // A panic there has been reported, and keeps nobody here.
        let _ = tokio::task::spawn_blocking(move || tracer.finish()).await;
        wait_for_workers(&self.alive).await;
    }
}

/// Workers end when their instances are dropped; the kernel ends those that take too long, as
/// soon as this process is gone.
async fn wait_for_workers(alive: &Arc<()>) {
    let deadline = tokio::time::Instant::now() + FAREWELL;
    while Arc::strong_count(alive) > 1 {
        if tokio::time::Instant::now() >= deadline {
            tracing::warn!("not everything has ended after {FAREWELL:?}: not waiting any longer");
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
