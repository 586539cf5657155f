//! The requests of one priority that wait.

use std::collections::VecDeque;
use std::time::Instant;

use nereid_inference::Request;

/// First those in time, in order of arrival, then those that waited too long and were not rejected.
#[derive(Default)]
pub(crate) struct Level {
    in_time: VecDeque<Waiting>,
    delayed: VecDeque<Waiting>,
}

pub(crate) struct Waiting {
    pub(crate) request: Request,
    pub(crate) since: Instant,
    /// Counts arrivals, so that a request can be found again.
    pub(crate) number: u64,
}

impl Level {
    pub(crate) fn len(&self) -> usize {
        self.in_time.len() + self.delayed.len()
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.in_time.push_back(waiting);
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        self.in_time.pop_front().or_else(|| self.delayed.pop_front())
    }

    /// In the order in which they run.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.in_time.iter().chain(&self.delayed)
    }

    /// Whether the request that arrived as the given one still waits in time.
    pub(crate) fn is_in_time(&self, number: u64) -> bool {
        self.find(number).is_some()
    }

    /// Takes out the request that arrived as the given one, if it still waits in time.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Waiting> {
        self.in_time.remove(self.find(number)?)
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.in_time.binary_search_by_key(&number, |waiting| waiting.number).ok()
    }

    /// Puts a request that was removed behind all others.
    pub(crate) fn delay(&mut self, waiting: Waiting) {
        self.delayed.push_back(waiting);
    }

    /// Takes out the requests whose clients are gone. Cheap when there are none.
    pub(crate) fn take_cancelled(&mut self) -> Vec<Request> {
        if !self.iter().any(is_cancelled) {
            return Vec::new();
        }
        let mut cancelled = Vec::new();
        for queue in [&mut self.in_time, &mut self.delayed] {
            let (gone, left): (VecDeque<_>, _) =
                std::mem::take(queue).into_iter().partition(is_cancelled);
            *queue = left;
            cancelled.extend(gone.into_iter().map(|waiting| waiting.request));
        }
        cancelled
    }
}

fn is_cancelled(waiting: &Waiting) -> bool {
    waiting.request.cancellation.is_cancelled()
}
