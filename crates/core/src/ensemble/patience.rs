//! For how long the model of a decoupled step waits with its responses.
//!
//! What the ensemble waits for may be the instance that waits: a model may call it. So that such an
//! ensemble goes on, slowly, somebody who has waited for this long is let go on once, as in Triton.

use std::time::Duration;

use nereid_inference::Window;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

const PATIENCE: Duration = Duration::from_secs(300);

/// The window of a request to a decoupled step, looked after until it is dropped.
pub(super) struct Watched {
    pub(super) window: Window,
    watcher: AbortHandle,
}

impl Watched {
    pub(super) fn new(window: Window, reactor: &Handle, ensemble: &str) -> Self {
        let watcher = reactor.spawn(watch(window.clone(), ensemble.to_owned())).abort_handle();
        Self { window, watcher }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

async fn watch(window: Window, ensemble: String) {
    let mut seen = None;
    loop {
        tokio::time::sleep(PATIENCE).await;
        if seen.is_some() && seen == window.full_since() {
            tracing::error!(
                "ensemble '{ensemble}' has not come to the responses of a decoupled step for {} \
                 seconds; it takes one more, so as not to dead-lock",
                PATIENCE.as_secs()
            );
            window.give_back();
        }
        seen = window.full_since();
    }
}
