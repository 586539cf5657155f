//! One sequence: what it has waiting, and when it ends by itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nereid_inference::{CorrelationId, Request};

use super::slots::Place;

pub(super) struct Stream {
    pub(super) id: CorrelationId,
    /// `None`: it is in the backlog.
    pub(super) place: Option<Place>,
    pub(super) waiting: VecDeque<Waiting>,
    /// Its last request has arrived.
    pub(super) ended: bool,
    /// A request of it is on its instance.
    pub(super) running: bool,
    /// When it was last answered.
    pub(super) last_seen: Option<Instant>,
    /// The timer that is set for it.
    pub(super) timer: Option<Instant>,
    /// When the first of its requests gives up waiting for a slot.
    deadline: Option<Instant>,
}

pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) since: Instant,
    /// Counts arrivals.
    pub(super) number: u64,
}

impl Stream {
    pub(super) fn new(id: CorrelationId, place: Option<Place>) -> Self {
        Self {
            id,
            place,
            waiting: VecDeque::new(),
            ended: false,
            running: false,
            last_seen: None,
            timer: None,
            deadline: None,
        }
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        if self.place.is_none() && waiting.request.timeout_us > 0 {
            let timeout = Duration::from_micros(waiting.request.timeout_us);
            let deadline = waiting.since.checked_add(timeout);
            self.deadline = crate::step::earlier(self.deadline, deadline);
        }
        self.waiting.push_back(waiting);
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// Nothing more is to run for it.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.request.cancellation.is_cancelled())
    }

    /// When it ends unless something happens before. A client that waits for an answer is not
    /// silent, however long its model takes.
    pub(super) fn next_timer(&self, max_idle: Duration) -> Option<Instant> {
        match self.place {
            None => self.deadline,
            Some(_) if self.running || !self.waiting.is_empty() => None,
            Some(_) => self.last_seen?.checked_add(max_idle),
        }
    }
}
