//! The default scheduler and the dynamic batcher: queues by priority, two ways to take from them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nereid_inference::{Error, Request};

use crate::cancelled::Cancelled;
use crate::closed::Closed;
use crate::fit::Limits;
use crate::hold::Hold;
use crate::level::{Level, Waiting};
use crate::policy::{QueuePolicies, TimeoutAction};
use crate::step::{Dispatch, Rejected, Step, earlier, freest, wait};
use crate::timeouts::Timeouts;

/// How requests are put together.
#[derive(Clone, Debug, Default)]
pub struct Batching {
    /// Largest batch, counted in the first dimension; 0 where the model does not batch.
    pub max_batch_size: usize,
    /// Without it every request is a batch of its own.
    pub dynamic: Option<Dynamic>,
    /// Inputs whose shapes may differ between the requests of a batch.
    pub ragged_inputs: Vec<String>,
    /// Holds the dynamic batcher back.
    pub hold: Hold,
}

/// Settings of the dynamic batcher.
#[derive(Clone, Debug, Default)]
pub struct Dynamic {
    /// Sizes worth waiting for, ascending.
    pub preferred_batch_sizes: Vec<usize>,
    /// How long the oldest request may wait for others.
    pub max_queue_delay: Duration,
    pub policies: QueuePolicies,
}

impl Batching {
    /// Whether something may still happen to a request while it waits (it may get company, be
    /// overtaken or wait too long), so that it is better not given to a busy instance ahead of time.
    pub fn gains_by_waiting(&self) -> bool {
        let dynamic = self.dynamic.as_ref();
        dynamic.is_some_and(|dynamic| self.max_batch_size > 1 || dynamic.policies.matter())
    }
}

/// Requests that wait for an instance, by priority and then in order of arrival.
pub struct Queue {
    limits: Limits,
    /// How long to wait for others; `None`: every request runs alone.
    max_queue_delay: Option<Duration>,
    policies: QueuePolicies,
    /// The highest priority first.
    levels: BTreeMap<u64, Level>,
    waiting: usize,
    timeouts: Timeouts,
    arrivals: u64,
    rejected: Vec<Rejected>,
    cancelled: Cancelled,
    hold: Hold,
}

impl Queue {
    pub fn new(batching: Batching) -> Self {
        let Batching { max_batch_size, dynamic, ragged_inputs, hold } = batching;
        let max_queue_delay = dynamic.as_ref().map(|dynamic| dynamic.max_queue_delay);
        let Dynamic { preferred_batch_sizes, policies, .. } = dynamic.unwrap_or_default();
        Self {
            limits: Limits { max_batch_size, preferred_batch_sizes, ragged_inputs },
            max_queue_delay,
            policies,
            levels: BTreeMap::new(),
            waiting: 0,
            timeouts: Timeouts::default(),
            arrivals: 0,
            rejected: Vec::new(),
            cancelled: Cancelled::default(),
            // There is no backlog here.
            hold: Hold { backlog: 0, ..hold },
        }
    }

    pub fn len(&self) -> usize {
        self.waiting
    }

    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Takes a request in, or rejects it where too many wait already.
    pub fn push(&mut self, request: Request, now: Instant) {
        let number = self.policies.level(request.priority);
        if self.is_full(number) {
            self.rejected.push(Rejected::queue_full(request));
            return;
        }
        self.cancelled.join(&request);
        let timeout = self.policies.policy(number).timeout(request.timeout_us);
        if let Some(deadline) = timeout.and_then(|timeout| now.checked_add(timeout)) {
            let Self { timeouts, levels, arrivals, waiting, .. } = self;
            timeouts.set(deadline, number, *arrivals, *waiting, |level, number| {
                levels.get(&level).is_some_and(|level| level.is_in_time(number))
            });
        }
        let level = self.levels.entry(number).or_default();
        level.push(Waiting { request, since: now, number: self.arrivals });
        self.arrivals += 1;
        self.waiting += 1;
    }

    fn is_full(&mut self, number: u64) -> bool {
        let max = self.policies.policy(number).max_queue_size;
        let full = |levels: &BTreeMap<u64, Level>| {
            max > 0 && levels.get(&number).is_some_and(|level| level.len() >= max)
        };
        if !full(&self.levels) {
            return false;
        }
        // Those whose clients are gone take nobody's place.
        self.reject_cancelled();
        full(&self.levels)
    }

    /// Decides what runs next. `places` says how many batches each instance takes now.
    ///
    /// An idle model answers a lone request at once unless its configuration asks for a delay.
    pub fn step(&mut self, now: Instant, places: &[usize]) -> Step {
        let timeout = self.expire(now);
        let Some(instance) = freest(places) else { return wait(timeout) };
        let Some(delay) = self.max_queue_delay else { return self.dispatch(instance, 1, None) };
        if !self.hold.is_over() && self.hold.holds(self.waiting, 0) {
            return wait(timeout);
        }
        let waiting = self.levels.values().flat_map(Level::iter);
        let waiting = waiting.map(|waiting| (&waiting.request, waiting.since));
        let Some(fit) = self.limits.fit(waiting) else { return Step::Idle };
        let deadline = fit.oldest.checked_add(delay);
        let over = match deadline.is_some_and(|deadline| now >= deadline) {
            true if delay.is_zero() => Some(Closed::IdleInstance),
            true => Some(Closed::Delay),
            false => None,
        };
        match fit.closed.or(over) {
            None => wait(earlier(deadline, timeout)),
            closed => self.dispatch(instance, fit.take(), closed),
        }
    }

    /// Takes out the first `count` requests, or as many as there are.
    fn dispatch(&mut self, instance: usize, count: usize, closed: Option<Closed>) -> Step {
        let count = count.min(self.waiting);
        if count == 0 {
            return Step::Idle;
        }
        let mut requests = Vec::with_capacity(count);
        for level in self.levels.values_mut() {
            let left = count - requests.len();
            requests.extend((0..left).map_while(|_| level.pop()).map(|waiting| waiting.request));
        }
        self.waiting -= count;
        Step::Dispatch(Dispatch { instance, requests, closed, ..Dispatch::default() })
    }

    /// Applies the policies to the requests that have waited too long. Returns when the next may.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        while let Some((number, arrival)) = self.timeouts.due(now) {
            let Some(level) = self.levels.get_mut(&number) else { continue };
            let Some(waiting) = level.remove(arrival) else { continue };
            match self.policies.policy(number).timeout_action {
                TimeoutAction::Delay => level.delay(waiting),
                TimeoutAction::Reject => {
                    self.waiting -= 1;
                    self.rejected.push(Rejected::timed_out(waiting.request));
                }
            }
        }
        if self.waiting == 0 {
            self.timeouts.clear();
        }
        self.timeouts.next()
    }

    /// Rejects the requests whose clients are gone. Cheap when there are none.
    pub fn reject_cancelled(&mut self) {
        if !self.cancelled.search() {
            return;
        }
        for level in self.levels.values_mut() {
            for request in level.take_cancelled() {
                self.waiting -= 1;
                self.rejected.push(Rejected { request, error: Error::cancelled() });
            }
        }
    }

    /// There are no sequences here that could go on.
    pub(crate) fn refuse_rescheduled(&mut self, rescheduled: Vec<Request>) {
        self.rejected.extend(rescheduled.into_iter().map(Rejected::not_iterative));
    }

    /// What was rejected since the last call.
    pub fn take_rejected(&mut self) -> Vec<Rejected> {
        std::mem::take(&mut self.rejected)
    }
}

#[cfg(test)]
#[path = "batching_properties.rs"]
mod properties;
#[cfg(test)]
#[path = "batching_tests.rs"]
mod tests;
