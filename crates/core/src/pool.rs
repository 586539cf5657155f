//! The instances of one model version and the queue in front of them.
//!
//! There is no task that watches the queue. Whoever brings an event (a request, a finished batch,
//! a timer) asks the scheduler what to do and does it, so that a request wakes no thread but the
//! one that runs its model.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nereid_backend::{Batch, BatchOwner, BatchReport};
use nereid_inference::{Error, Request};
use nereid_scheduler::{Batching, Queue, Step};
use tokio::runtime::Handle;

use crate::seat::Runner;
use crate::statistics::Recorder;

pub(crate) struct Pool {
    runners: Vec<Runner>,
    state: Mutex<State>,
    recorder: Arc<Recorder>,
    reactor: Handle,
}

struct State {
    queue: Queue,
    /// How many more batches each instance takes.
    places: Vec<usize>,
    /// Somebody is handing out batches; who brings another event only leaves a note.
    pumping: bool,
    noted: bool,
    /// When the timer that is set will fire.
    timer: Option<Instant>,
}

impl Pool {
    pub(crate) fn new(
        runners: Vec<Runner>,
        batching: Batching,
        recorder: Arc<Recorder>,
        reactor: Handle,
    ) -> Arc<Self> {
        // A batch can only grow while it waits here, so a batching model's instances are not
        // given work ahead of time.
        let ahead = if batching.dynamic.is_some() { 1 } else { usize::MAX };
        let places = runners.iter().map(|runner| runner.depth().min(ahead)).collect();
        let queue = Queue::new(batching);
        let state = State { queue, places, pumping: false, noted: false, timer: None };
        Arc::new(Self { runners, state: Mutex::new(state), recorder, reactor })
    }

    /// Fifth stop of a request: into the queue, and on if an instance is free.
    pub(crate) fn submit(self: &Arc<Self>, request: Request) {
        self.lock().queue.push(request, Instant::now());
        self.pump();
    }

    /// Hands out batches until the scheduler wants none or no instance is free.
    ///
    /// An instance may finish inside `run` and come back here through `batch_done`; that inner
    /// call, like one from another thread, leaves a note and returns, so that no instance is ever
    /// entered twice.
    fn pump(self: &Arc<Self>) {
        let mut state = self.lock();
        state.noted = true;
        if state.pumping {
            return;
        }
        state.pumping = true;
        while std::mem::take(&mut state.noted) {
            let cancelled = state.queue.take_cancelled();
            if !cancelled.is_empty() {
                drop(state);
                answer_cancelled(cancelled);
                state = self.lock();
            }
            while let Some((seat, requests)) = self.next(&mut state) {
                drop(state);
                self.runners[seat].run(Batch::new(requests, self.clone(), seat));
                state = self.lock();
            }
        }
        state.pumping = false;
    }

    /// Sixth stop: the scheduler's decision, with the instance that has the most places free.
    fn next(self: &Arc<Self>, state: &mut State) -> Option<(usize, Vec<Request>)> {
        let free = |&seat: &usize| state.places[seat];
        let seat = (0..self.runners.len()).rev().max_by_key(free).filter(|seat| free(seat) > 0)?;
        match state.queue.step(Instant::now()) {
            Step::Dispatch(requests) => {
                state.places[seat] -= 1;
                Some((seat, requests))
            }
            Step::WaitUntil(until) => {
                self.set_timer(state, until);
                None
            }
            Step::Idle => None,
        }
    }

    fn set_timer(self: &Arc<Self>, state: &mut State, until: Instant) {
        if state.timer.is_some_and(|set| set <= until) {
            return;
        }
        state.timer = Some(until);
        let pool = self.clone();
        self.reactor.spawn(async move {
            tokio::time::sleep_until(until.into()).await;
            pool.lock().timer = None;
            pool.pump();
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BatchOwner for Pool {
    fn batch_done(self: Arc<Self>, seat: usize, report: BatchReport) {
        self.recorder.record_batch(&report);
        self.lock().places[seat] += 1;
        self.pump();
    }
}

fn answer_cancelled(requests: Vec<Request>) {
    for request in requests {
        request.responder.answer(Err(Error::cancelled()));
    }
}
