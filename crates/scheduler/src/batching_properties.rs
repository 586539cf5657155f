//! The queue under random scripts of arrivals, with what must hold whatever happens.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nereid_inference::Code;

use super::{Batching, Dynamic, Queue};
use crate::testing::{Census, Random, number, us};
use crate::{Dispatch, QueuePolicies, QueuePolicy, Step, TimeoutAction};

/// What the script knows about a request that it sent.
struct Sent {
    since: Instant,
    level: u64,
    deadline: Option<Instant>,
    columns: i64,
}

/// A queue, instances that take their time, and what is known about both.
struct World {
    batching: Batching,
    queue: Queue,
    census: Census,
    sent: HashMap<usize, Sent>,
    /// When each instance will be done; `None`: it is free.
    busy: Vec<Option<Instant>>,
    now: Instant,
    /// Highest number dispatched per level, where order is kept.
    last: HashMap<u64, usize>,
}

fn policy(random: &mut Random) -> QueuePolicy {
    QueuePolicy {
        timeout_action: random.pick(&[TimeoutAction::Reject, TimeoutAction::Delay]),
        default_timeout: us(random.pick(&[0, 50, 400])),
        allow_timeout_override: random.once_in(2),
        max_queue_size: random.pick(&[0, 0, 1, 5]),
    }
}

fn settings(random: &mut Random) -> Batching {
    let priority_levels = random.pick(&[0, 1, 3]);
    let policies = QueuePolicies {
        priority_levels,
        default_priority_level: priority_levels.min(2),
        default_policy: policy(random),
        by_level: (2..=priority_levels).map(|level| (level, policy(random))).collect(),
    };
    let dynamic = Dynamic {
        preferred_batch_sizes: random.pick(&[&[][..], &[4], &[2, 6]]).to_vec(),
        max_queue_delay: us(random.pick(&[0, 100, 1000])),
        policies,
    };
    let dynamic = (!random.once_in(5)).then_some(dynamic);
    Batching { max_batch_size: random.pick(&[6, 8]), dynamic, ..Batching::default() }
}

impl World {
    fn new(random: &mut Random) -> Self {
        let batching = settings(random);
        Self {
            queue: Queue::new(batching.clone()),
            batching,
            census: Census::default(),
            sent: HashMap::new(),
            busy: vec![None; random.pick(&[1, 2])],
            now: Instant::now(),
            last: HashMap::new(),
        }
    }

    fn arrive(&mut self, random: &mut Random) {
        let columns = random.pick(&[4, 4, 4, 5]);
        let mut request = self.census.request(random.pick(&[1, 1, 2, 5]), columns);
        request.priority = random.below(5);
        request.timeout_us = random.pick(&[0, 20, 700]);
        if random.once_in(20) {
            request.cancellation.cancel();
        }
        let policies = self.batching.dynamic.clone().unwrap_or_default().policies;
        let level = policies.level(request.priority);
        let timeout = policies.policy(level).timeout(request.timeout_us);
        let deadline = timeout.map(|timeout| self.now + timeout);
        self.sent.insert(number(&request), Sent { since: self.now, level, deadline, columns });
        self.queue.push(request, self.now);
    }

    /// What a pool does: hands out batches until the queue wants none. Returns when to come again.
    fn pump(&mut self, random: &mut Random) -> Option<Instant> {
        self.queue.reject_cancelled();
        loop {
            let places: Vec<usize> =
                self.busy.iter().map(|busy| usize::from(busy.is_none())).collect();
            let step = self.queue.step(self.now, &places);
            self.check_rejected();
            match step {
                Step::Dispatch(dispatch) => {
                    assert_eq!(places[dispatch.instance], 1, "a busy instance");
                    self.busy[dispatch.instance] = Some(self.now + us(1 + random.below(300)));
                    self.check_dispatch(dispatch);
                }
                Step::WaitUntil(until) => {
                    assert!(until > self.now, "waiting for the past");
                    return Some(until);
                }
                Step::Idle => {
                    let free = places.contains(&1);
                    assert!(!free || self.queue.is_empty(), "idle, and requests wait");
                    return None;
                }
            }
        }
    }

    fn check_dispatch(&mut self, dispatch: Dispatch) {
        let size: usize = dispatch.requests.iter().map(|request| request.batch_size).sum();
        assert!(!dispatch.requests.is_empty() && size <= self.batching.max_batch_size);
        assert!(self.batching.dynamic.is_some() || dispatch.requests.len() == 1);
        let columns = self.sent[&number(&dispatch.requests[0])].columns;
        for request in dispatch.requests {
            let number = number(&request);
            let sent = &self.sent[&number];
            assert_eq!(sent.columns, columns, "shapes of a batch");
            if self.in_time(sent) {
                let last = self.last.insert(sent.level, number);
                assert!(last.is_none_or(|last| last < number), "order within a priority");
            } else {
                assert_eq!(self.action(sent), TimeoutAction::Delay, "ran though it had expired");
            }
        }
    }

    fn check_rejected(&mut self) {
        for rejected in self.queue.take_rejected() {
            let sent = &self.sent[&number(&rejected.request)];
            match (rejected.error.code(), rejected.error.message()) {
                (Code::Cancelled, _) => assert!(rejected.request.cancellation.is_cancelled()),
                (_, "Request timeout expired") => {
                    assert_eq!(sent.deadline, Some(self.now), "a timeout on time");
                    assert_eq!(self.action(sent), TimeoutAction::Reject);
                }
                _ => assert_eq!(sent.since, self.now, "a full queue says so at once"),
            }
            rejected.request.responder.answer(Err(rejected.error));
        }
    }

    /// Whether the request's time is not over.
    fn in_time(&self, sent: &Sent) -> bool {
        sent.deadline.is_none_or(|deadline| self.now < deadline)
    }

    fn action(&self, sent: &Sent) -> TimeoutAction {
        let policies = self.batching.dynamic.clone().unwrap_or_default().policies;
        policies.policy(sent.level).timeout_action
    }

    /// Nobody waits longer than the delay while an instance is free.
    fn check_delay(&self) {
        let delay = self.batching.dynamic.as_ref().map_or(Duration::ZERO, |d| d.max_queue_delay);
        let free = self.busy.iter().any(Option::is_none);
        for level in self.queue.levels.values() {
            for waiting in level.iter() {
                assert!(!free || self.now < waiting.since + delay, "waited past its delay");
            }
        }
    }
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let mut world = World::new(&mut random);
    let mut arrivals = 100;
    let mut next_arrival = Some(world.now);
    loop {
        if next_arrival == Some(world.now) {
            world.arrive(&mut random);
            arrivals -= 1;
            let gap = us(random.pick(&[0, 1, 10, 100, 1500]));
            next_arrival = (arrivals > 0).then(|| world.now + gap);
        }
        for busy in &mut world.busy {
            busy.take_if(|until| *until == world.now);
        }
        let timer = world.pump(&mut random);
        world.check_delay();
        let events = world.busy.iter().copied().flatten().chain(timer).chain(next_arrival);
        let Some(next) = events.min() else { break };
        world.now = next;
    }
    assert!(world.queue.is_empty());
    world.census.assert_all_answered_once();
}

#[test]
fn every_request_is_answered_once_in_order_and_in_time() {
    for seed in 0..500 {
        run(seed);
    }
}
