//! `max_inflight_requests`: how many requests each step has in flight at a time, over all requests
//! of the ensemble; the others wait in front of it.
//!
//! Nobody is blocked while it waits. What has led to a request that waits is held instead: the place
//! in the step before, and so on to the first, and for a response of a decoupled step its place in
//! the window of the request that it answers, so that the model sends no more until it is wanted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cycle::Cycle;
use super::run::Run;

/// One for each step.
pub(super) struct Gates {
    limit: usize,
    steps: Vec<Mutex<Gate>>,
}

#[derive(Default)]
struct Gate {
    in_flight: usize,
    waiting: VecDeque<Turn>,
    /// Somebody is starting those that may start.
    opening: bool,
}

/// A step of a cycle that can start but for the limit.
pub(super) struct Turn {
    pub(super) cycle: Arc<Cycle>,
    pub(super) step: usize,
    /// Given back once it, and all others that hold it, have started.
    pub(super) _hold: Option<Arc<Hold>>,
}

/// What follows has not started yet.
pub(super) enum Hold {
    /// A place in a step that has been answered.
    Step { run: Arc<Run>, step: usize },
    /// That of a response in the window of its request; only ever dropped.
    Response { _place: nereid_inference::Place },
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Self::Step { run, step } = self
            && let Some(gates) = &run.ensemble.gates
        {
            gates.leave(*step);
        }
    }
}

impl Gates {
    pub(super) fn new(limit: usize, steps: usize) -> Self {
        Self { limit, steps: (0..steps).map(|_| Mutex::default()).collect() }
    }

    /// Starts a step, or lets it wait. One on behalf of a model that calls does not wait: what it
    /// would wait for may be that very model.
    pub(super) fn enter(&self, turn: Turn) {
        let step = turn.step;
        if turn.cycle.is_called() {
            self.gate(step).in_flight += 1;
            return turn.start();
        }
        self.gate(step).waiting.push_back(turn);
        self.open(step);
    }

    fn leave(&self, step: usize) {
        self.gate(step).in_flight -= 1;
        self.open(step);
    }

    /// The requests of a run that has ended do not wait any more.
    pub(super) fn forget(&self, run: &Run) {
        for step in 0..self.steps.len() {
            let mut gate = self.gate(step);
            let (gone, left): (VecDeque<_>, _) =
                std::mem::take(&mut gate.waiting).into_iter().partition(|t| t.cycle.is_of(run));
            gate.waiting = left;
            drop(gate);
            drop(gone);
        }
    }

    fn open(&self, step: usize) {
        let mut gate = self.gate(step);
        if std::mem::replace(&mut gate.opening, true) {
            return;
        }
        while gate.in_flight < self.limit
            && let Some(turn) = gate.waiting.pop_front()
        {
            gate.in_flight += 1;
            drop(gate);
            let over = turn.cycle.is_over();
            if !over {
                // It may be answered at once, and come back here.
                turn.start();
            }
            gate = self.gate(step);
            gate.in_flight -= usize::from(over);
        }
        gate.opening = false;
    }

    fn gate(&self, step: usize) -> MutexGuard<'_, Gate> {
        self.steps[step].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    pub(super) fn start(self) {
        self.cycle.start(self.step);
    }
}
