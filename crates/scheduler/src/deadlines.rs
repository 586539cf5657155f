//! The batcher of models with a latency target (`slo_ms`): earliest deadline first inside a
//! priority, batches no larger than their most urgent request allows, and no work for requests
//! that would be late anyway.
//!
//! A request is late once its answer would come after its deadline, as far as can be told from how
//! long batches took so far. It is refused as soon as that is known: when it arrives, if too many
//! are before it, or later, when something more urgent came or a batch took longer than expected.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use nereid_inference::{Error, Request, log_prefix};

use crate::cancelled::Cancelled;
use crate::closed::Closed;
use crate::fit::Limits;
use crate::forecast::Forecast;
use crate::step::{Dispatch, Rejected, Step, earlier, freest, wait};
use crate::timeouts::Timeouts;
use crate::{Batching, QueuePolicies, TimeoutAction};

/// Where more wait than this, their batches are reckoned instead of played through.
const PLAYED_THROUGH: usize = 512;

/// How many requests at a time may be given up for others.
const MOST_GIVEN_UP: usize = 16;

/// Requests with deadlines that wait for an instance.
pub struct Deadlines {
    limits: Limits,
    max_queue_delay: Duration,
    policies: QueuePolicies,
    /// Requests run in the order in which they came, whatever their deadlines.
    in_order: bool,
    /// The highest priority first; in each the earliest deadline first, but behind all others those
    /// that waited longer than their policy lets them and were not rejected.
    levels: BTreeMap<u64, VecDeque<Waiting>>,
    timeouts: Timeouts,
    arrivals: u64,
    forecast: Forecast,
    /// What each instance runs.
    running: Vec<Option<Running>>,
    /// Instances that get nothing more.
    retired: BTreeSet<usize>,
    rejected: Vec<Rejected>,
    cancelled: Cancelled,
}

struct Waiting {
    request: Request,
    since: Instant,
    deadline: Instant,
    /// Counts arrivals, so that it can be found again.
    number: u64,
    delayed: bool,
}

#[derive(Clone, Copy)]
struct Running {
    size: usize,
    since: Instant,
    /// When it will be done, probably.
    until: Instant,
}

/// A batch that might be run: its part of the requests that wait.
struct Plan {
    count: usize,
    size: usize,
    /// The earliest in it.
    deadline: Instant,
    oldest: Instant,
    closed: Option<Closed>,
}

impl Deadlines {
    /// Without dynamic batching every request is a batch of its own. `in_order`: answers are to leave
    /// in the order of requests, so that nobody may overtake.
    pub fn new(batching: Batching, instances: usize, in_order: bool) -> Self {
        let Batching { max_batch_size, dynamic, ragged_inputs, .. } = batching;
        let max_batch_size = if dynamic.is_some() { max_batch_size } else { 0 };
        let dynamic = dynamic.unwrap_or_default();
        Self {
            limits: Limits { max_batch_size, preferred_batch_sizes: Vec::new(), ragged_inputs },
            max_queue_delay: dynamic.max_queue_delay,
            policies: dynamic.policies,
            in_order,
            levels: BTreeMap::new(),
            timeouts: Timeouts::default(),
            arrivals: 0,
            forecast: Forecast::default(),
            running: vec![None; instances],
            retired: BTreeSet::new(),
            rejected: Vec::new(),
            cancelled: Cancelled::default(),
        }
    }

    /// Plans with an instance more, in the place of one that was retired, or behind all.
    pub fn add_instance(&mut self, instance: usize) {
        self.running.resize(self.running.len().max(instance + 1), None);
        self.retired.remove(&instance);
    }

    /// Plans without an instance.
    pub fn retire_instance(&mut self, instance: usize) {
        self.retired.insert(instance);
    }

    /// What the instances run that will get more.
    fn staying(&self) -> impl Iterator<Item = &Option<Running>> {
        let instances = self.running.iter().enumerate();
        instances.filter(|(instance, _)| !self.retired.contains(instance)).map(|(_, run)| run)
    }

    pub fn len(&self) -> usize {
        self.levels.values().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.levels.values().all(VecDeque::is_empty)
    }

    /// Takes a request in, or rejects it where too many wait already or it would be late. One
    /// without a deadline is never late.
    pub fn push(&mut self, request: Request, now: Instant) {
        let number = self.policies.level(request.priority);
        let max = self.policies.policy(number).max_queue_size;
        if max > 0 && self.levels.get(&number).is_some_and(|level| level.len() >= max) {
            // Those whose clients are gone take nobody's place.
            self.reject_cancelled();
        }
        let level = self.levels.entry(number).or_default();
        if max > 0 && level.len() >= max {
            self.rejected.push(Rejected::queue_full(request));
            return;
        }
        self.cancelled.join(&request);
        let timeout = self.policies.policy(number).timeout(request.timeout_us);
        let deadline = request.deadline.unwrap_or(now + Duration::from_secs(3600));
        let arrived = self.arrivals;
        self.arrivals += 1;
        let waiting = Waiting { request, since: now, deadline, number: arrived, delayed: false };
        let place = self.insert(number, waiting);
        if let Some(at) = timeout.and_then(|timeout| now.checked_add(timeout)) {
            let count = self.len();
            let Self { timeouts, levels, .. } = self;
            timeouts.set(at, number, arrived, count, |level, number| {
                levels.get(&level).is_some_and(|level| in_time(level, number).is_some())
            });
        }
        if let Some(end) = self.late_end(number, place, now)
            && let Some(late) = self.levels.get_mut(&number).and_then(|level| level.remove(place))
        {
            self.refuse(late, end, now);
        }
    }

    /// Puts a request in its place of a level; says which.
    fn insert(&mut self, number: u64, waiting: Waiting) -> usize {
        let level = self.levels.entry(number).or_default();
        let place = match (waiting.delayed, self.in_order) {
            (true, _) => level.len(),
            (false, true) => level.partition_point(|other| !other.delayed),
            (false, false) => {
                level.partition_point(|other| !other.delayed && other.deadline <= waiting.deadline)
            }
        };
        level.insert(place, waiting);
        place
    }

    /// Applies the policies to the requests that have waited too long. Returns when the next may.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        while let Some((number, arrival)) = self.timeouts.due(now) {
            let Some(level) = self.levels.get_mut(&number) else { continue };
            let Some(mut waiting) = in_time(level, arrival).and_then(|place| level.remove(place))
            else {
                continue;
            };
            match self.policies.policy(number).timeout_action {
                TimeoutAction::Reject => self.rejected.push(Rejected::timed_out(waiting.request)),
                TimeoutAction::Delay => {
                    waiting.delayed = true;
                    self.insert(number, waiting);
                }
            }
        }
        if self.is_empty() {
            self.timeouts.clear();
        }
        self.timeouts.next()
    }

    /// When the request at a place of a level would be answered, if that is too late. One that is
    /// alone is never late: it runs whatever is known, so that what is known can become better.
    ///
    /// Behind a batch that deadlines keep small, whoever waits becomes urgent and keeps the next
    /// one smaller still. So who comes after such a batch must leave time for a full one.
    fn late_end(&self, number: u64, place: usize, now: Instant) -> Option<Instant> {
        if self.len() == 1 && self.running.iter().all(Option::is_none) {
            return None;
        }
        let deadline = self.levels.get(&number)?.get(place)?.deadline;
        let before =
            self.levels.range(..number).map(|(_, level)| level.len()).sum::<usize>() + place;
        let mut free: Vec<Instant> =
            self.staying().map(|running| running.map_or(now, |r| r.until.max(now))).collect();
        if before > PLAYED_THROUGH {
            let end = self.reckon(before, *free.iter().min()?);
            return (end > deadline).then_some(end);
        }
        let mut from = 0;
        let mut least = 0;
        loop {
            let instance = (0..free.len()).min_by_key(|&instance| free[instance])?;
            let start = free[instance];
            let plan = self.plan(from, start)?;
            if before < from + plan.count {
                let end = start + self.forecast.of(plan.size.max(least));
                return (end > deadline).then_some(end);
            }
            if plan.closed == Some(Closed::Deadline) {
                least = self.limits.max_batch_size;
            }
            free[instance] = start + self.forecast.of(plan.size);
            from += plan.count;
        }
    }

    /// When a request behind so many others would be answered, if all batches are full.
    fn reckon(&self, before: usize, start: Instant) -> Instant {
        let size = self.limits.max_batch_size.max(1);
        let batches = before / (size * self.staying().count().max(1)) + 1;
        start + self.forecast.of(size) * u32::try_from(batches).unwrap_or(u32::MAX)
    }

    /// The batch that would begin with the given one of those that wait, at `start`: as many as
    /// make none of them late. The first is in it in any case.
    fn plan(&self, from: usize, start: Instant) -> Option<Plan> {
        let mut waiting = self.levels.values().flatten().skip(from);
        let first = waiting.next()?;
        let mut plan = Plan {
            count: 1,
            size: first.request.batch_size,
            deadline: first.deadline,
            oldest: first.since,
            closed: None,
        };
        for next in waiting {
            plan.closed = self.keeps_out(&plan, first, next, start);
            if plan.closed.is_some() {
                break;
            }
            plan.count += 1;
            plan.size += next.request.batch_size;
            plan.deadline = plan.deadline.min(next.deadline);
            plan.oldest = plan.oldest.min(next.since);
        }
        if plan.size >= self.limits.max_batch_size {
            plan.closed = Some(Closed::Full);
        }
        Some(plan)
    }

    /// Why a request does not join a batch.
    fn keeps_out(
        &self,
        plan: &Plan,
        first: &Waiting,
        next: &Waiting,
        start: Instant,
    ) -> Option<Closed> {
        let size = plan.size + next.request.batch_size;
        if size > self.limits.max_batch_size {
            return Some(Closed::Full);
        }
        if !self.limits.joins(&first.request, &next.request) {
            return Some(Closed::Shape);
        }
        let end = start + self.forecast.of(size);
        (end > plan.deadline.min(next.deadline)).then_some(Closed::Deadline)
    }

    /// Decides what runs next. `places` says how many batches each instance takes now.
    pub fn step(&mut self, now: Instant, places: &[usize]) -> Step {
        let timeout = self.expire(now);
        match self.decide(now, places) {
            Step::WaitUntil(moment) => wait(earlier(Some(moment), timeout)),
            step => step,
        }
    }

    fn decide(&mut self, now: Instant, places: &[usize]) -> Step {
        let instance = freest(places);
        let start = match instance {
            Some(_) => now,
            None => self.staying().flatten().map(|r| r.until).min().unwrap_or(now).max(now),
        };
        self.refuse_late(start, now);
        if instance.is_some() {
            self.refuse_for_others(now);
        }
        let Some(plan) = self.plan(0, start) else { return Step::Idle };
        let latest = plan.deadline.checked_sub(self.forecast.of(plan.size)).unwrap_or(now);
        let Some(instance) = instance else {
            // By then it is clear that the most urgent one is late.
            return Step::WaitUntil(latest.max(now + Duration::from_millis(1)));
        };
        let delayed = plan.oldest + self.max_queue_delay;
        let over = match now {
            now if now < delayed.min(latest) => None,
            _ if self.max_queue_delay.is_zero() => Some(Closed::IdleInstance),
            now if now >= delayed => Some(Closed::Delay),
            _ => Some(Closed::Deadline),
        };
        match plan.closed.or(over) {
            None => Step::WaitUntil(delayed.min(latest)),
            closed => self.dispatch(instance, &plan, closed, now),
        }
    }

    fn dispatch(
        &mut self,
        instance: usize,
        plan: &Plan,
        closed: Option<Closed>,
        now: Instant,
    ) -> Step {
        let mut requests = Vec::with_capacity(plan.count);
        for level in self.levels.values_mut() {
            let count = (plan.count - requests.len()).min(level.len());
            requests.extend(level.drain(..count).map(|waiting| waiting.request));
        }
        let until = now + self.forecast.of(plan.size);
        if let Some(running) = self.running.get_mut(instance) {
            *running = Some(Running { size: plan.size, since: now, until });
        }
        Step::Dispatch(Dispatch { instance, requests, closed, ..Dispatch::default() })
    }

    /// Refuses those who would be late even if they ran next, alone.
    fn refuse_late(&mut self, start: Instant, now: Instant) {
        let idle = self.running.iter().all(Option::is_none);
        let mut numbers: Vec<u64> = self.levels.keys().copied().collect();
        while let Some(number) = numbers.pop() {
            while let Some(first) = self.levels.get(&number).and_then(VecDeque::front) {
                let end = start + self.forecast.of(first.request.batch_size);
                let last = idle && self.len() == 1 && first.deadline > now;
                if end <= first.deadline || last {
                    break;
                }
                let Some(late) = self.levels.get_mut(&number).and_then(VecDeque::pop_front) else {
                    break;
                };
                self.refuse(late, end, now);
            }
        }
    }

    /// Gives up the most urgent requests where that lets more others run than it costs.
    fn refuse_for_others(&mut self, now: Instant) {
        let gain = |skipped: usize| self.plan(skipped, now)?.count.checked_sub(skipped);
        let Some(plan) = self.plan(0, now).filter(|plan| plan.closed == Some(Closed::Deadline))
        else {
            return;
        };
        let best = (1..=plan.count.min(MOST_GIVEN_UP))
            .max_by_key(|&skipped| (gain(skipped), Reverse(skipped)));
        let Some(skipped) = best.filter(|&skipped| gain(skipped) > Some(plan.count)) else {
            return;
        };
        let end = now + self.forecast.of(plan.size + 1);
        for _ in 0..skipped {
            let mut levels = self.levels.values_mut();
            if let Some(late) = levels.find_map(VecDeque::pop_front) {
                self.refuse(late, end, now);
            }
        }
    }

    fn refuse(&mut self, late: Waiting, end: Instant, now: Instant) {
        let ms = |moment: Instant| moment.saturating_duration_since(now).as_secs_f64() * 1000.0;
        let message = format!(
            "{}Request would miss its latency target: {:.1} ms are left, an answer takes {:.1} ms",
            log_prefix(&late.request.id),
            ms(late.deadline),
            ms(end),
        );
        self.rejected.push(Rejected { request: late.request, error: Error::unavailable(message) });
    }

    /// The instance is done with its batch.
    pub fn batch_done(&mut self, instance: usize, rescheduled: Vec<Request>, now: Instant) {
        self.rejected.extend(rescheduled.into_iter().map(Rejected::not_iterative));
        if let Some(ran) = self.running.get_mut(instance).and_then(Option::take) {
            self.forecast.record(ran.size, now - ran.since);
        }
    }

    /// Rejects the requests whose clients are gone. Cheap when there are none.
    pub fn reject_cancelled(&mut self) {
        if !self.cancelled.search() {
            return;
        }
        for level in self.levels.values_mut() {
            let (gone, left): (VecDeque<_>, _) = std::mem::take(level)
                .into_iter()
                .partition(|waiting| waiting.request.cancellation.is_cancelled());
            *level = left;
            let gone = gone.into_iter().map(|waiting| waiting.request);
            self.rejected
                .extend(gone.map(|request| Rejected { request, error: Error::cancelled() }));
        }
    }

    /// What was rejected since the last call.
    pub fn take_rejected(&mut self) -> Vec<Rejected> {
        std::mem::take(&mut self.rejected)
    }
}

/// Where the request that arrived as the given one still waits in time.
fn in_time(level: &VecDeque<Waiting>, number: u64) -> Option<usize> {
    level.iter().position(|waiting| waiting.number == number && !waiting.delayed)
}

#[cfg(test)]
#[path = "deadlines_tests.rs"]
mod tests;
