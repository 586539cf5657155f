//! Whether a model is ready, where it has a say in that.

use std::sync::Arc;
use std::time::Duration;

use super::{Link, Phase, State};
use crate::frame::ASK_READY;

/// How long a model may take to say whether it is ready.
const READY_LIMIT: Duration = Duration::from_secs(5);

pub(crate) type ReadyAnswer = Box<dyn FnOnce(bool) + Send>;

impl Link {
    /// Whether it would execute a batch: asks the model, if that has a say in it.
    pub(crate) fn ask_ready(self: &Arc<Self>, answer: ReadyAnswer) {
        let mut state = self.lock();
        let serves = matches!(state.phase, Phase::Ready | Phase::Starting);
        let State { worker, next_id, .. } = &mut *state;
        let Some(worker) = worker.as_mut().filter(|worker| serves && worker.says_ready) else {
            drop(state);
            return answer(serves);
        };
        let id = *next_id;
        *next_id += 1;
        worker.ready_asks.insert(id, answer);
        drop(state);
        self.send_note(ASK_READY, 0, id);
        let link = self.clone();
        self.host.reactor.spawn(async move {
            tokio::time::sleep(READY_LIMIT).await;
            // Who is busy has not said no.
            let busy = !link.running(1).is_empty();
            link.ready_answered(id, busy);
        });
    }

    pub(crate) fn ready_answered(&self, id: u64, ready: bool) {
        let answer = self.lock().worker.as_mut().and_then(|worker| worker.ready_asks.remove(&id));
        if let Some(answer) = answer {
            answer(ready);
        }
    }
}
