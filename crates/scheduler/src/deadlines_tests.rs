//! The batcher with latency targets, driven by hand and under load, with a clock that only moves
//! when told to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Deadlines;
use crate::testing::{Census, Random, number, request, show};
use crate::{Batching, Dispatch, Dynamic, QueuePolicies, QueuePolicy, Step, TimeoutAction};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn batcher(max_batch_size: usize, delay: Duration) -> Deadlines {
    let dynamic = Dynamic { max_queue_delay: delay, ..Dynamic::default() };
    let batching = Batching { max_batch_size, dynamic: Some(dynamic), ..Batching::default() };
    Deadlines::new(batching, 1, false)
}

/// One that knows that batches take 10 ms and 1 ms more for each row.
fn experienced(max_batch_size: usize, delay: Duration) -> Deadlines {
    let mut batcher = batcher(max_batch_size, delay);
    for size in [1, max_batch_size] {
        batcher.forecast.record(size, ms(10 + size as u64));
    }
    batcher
}

/// As [`experienced`], with one policy for all.
fn with_policy(max_batch_size: usize, policy: QueuePolicy, in_order: bool) -> Deadlines {
    let policies = QueuePolicies { default_policy: policy, ..QueuePolicies::default() };
    let dynamic = Dynamic { policies, ..Dynamic::default() };
    let batching = Batching { max_batch_size, dynamic: Some(dynamic), ..Batching::default() };
    Deadlines {
        forecast: experienced(max_batch_size, Duration::ZERO).forecast,
        ..Deadlines::new(batching, 1, in_order)
    }
}

fn push(batcher: &mut Deadlines, rows: i64, now: Instant, deadline: Instant) {
    let mut request = request(rows, 4);
    request.deadline = Some(deadline);
    batcher.push(request, now);
}

fn decide(batcher: &mut Deadlines, now: Instant) -> String {
    show(&batcher.step(now, &[1]), now)
}

fn refusals(batcher: &mut Deadlines) -> Vec<String> {
    batcher.take_rejected().iter().map(|rejected| rejected.error.message().to_owned()).collect()
}

#[test]
fn the_earliest_deadline_goes_first() {
    let now = Instant::now();
    let mut batcher = experienced(1, Duration::ZERO);
    for (rows, deadline) in [(1, 300), (2, 100), (3, 200)] {
        push(&mut batcher, rows, now, now + ms(deadline));
    }
    let mut order = Vec::new();
    for turn in 0..3 {
        order.push(decide(&mut batcher, now + ms(20 * turn)));
        batcher.batch_done(0, Vec::new(), now + ms(20 * turn + 11));
    }
    assert_eq!(order, ["run [2]", "run [3]", "run [1]"]);
}

#[test]
fn a_batch_is_no_larger_than_its_most_urgent_request_allows() {
    let now = Instant::now();
    let mut batcher = experienced(8, Duration::ZERO);
    push(&mut batcher, 1, now, now + ms(13));
    for _ in 0..4 {
        push(&mut batcher, 1, now, now + ms(100));
    }
    assert_eq!(decide(&mut batcher, now), "run [1, 1, 1]");
    batcher.batch_done(0, Vec::new(), now + ms(13));
    assert_eq!(decide(&mut batcher, now + ms(13)), "run [1, 1]");
}

#[test]
fn a_long_queue_is_reckoned() {
    let now = Instant::now();
    let mut batcher = experienced(8, Duration::ZERO);
    let taken = (0..4000).take_while(|_| {
        push(&mut batcher, 1, now, now + ms(5000));
        refusals(&mut batcher).is_empty()
    });
    // 277 batches of 8 take 18 ms each.
    assert_eq!(taken.count(), 277 * 8);
}

#[test]
fn one_is_given_up_for_many() {
    let now = Instant::now();
    let mut batcher = experienced(8, Duration::ZERO);
    push(&mut batcher, 1, now, now + ms(12));
    for _ in 0..6 {
        push(&mut batcher, 2, now, now + ms(100));
    }
    assert_eq!(decide(&mut batcher, now), "run [2, 2, 2, 2]");
    assert_eq!(refusals(&mut batcher).len(), 1);
}

#[test]
fn waits_for_others_as_long_as_the_delay_and_the_deadline_allow() {
    let now = Instant::now();
    let mut batcher = experienced(8, ms(30));
    push(&mut batcher, 1, now, now + ms(100));
    assert_eq!(decide(&mut batcher, now), "wait 30000 us");
    push(&mut batcher, 1, now + ms(1), now + ms(20));
    assert_eq!(decide(&mut batcher, now + ms(1)), "wait 7000 us", "12 ms before the deadline");
    assert_eq!(decide(&mut batcher, now + ms(8)), "run [1, 1]");
}

#[test]
fn who_would_be_late_is_refused_at_once() {
    let now = Instant::now();
    let mut batcher = experienced(2, Duration::ZERO);
    for _ in 0..2 {
        push(&mut batcher, 1, now, now + ms(100));
    }
    assert_eq!(decide(&mut batcher, now), "run [1, 1]");
    push(&mut batcher, 1, now, now + ms(22));
    assert_eq!(
        refusals(&mut batcher),
        ["[request id: <id_unknown>] Request would miss its latency target: 22.0 ms are left, an \
          answer takes 23.0 ms"]
    );
    push(&mut batcher, 1, now, now + ms(23));
    assert!(refusals(&mut batcher).is_empty());
}

#[test]
fn who_waits_is_refused_once_it_is_clear_that_it_will_be_late() {
    let now = Instant::now();
    let mut batcher = experienced(1, Duration::ZERO);
    push(&mut batcher, 1, now, now + ms(100));
    assert_eq!(decide(&mut batcher, now), "run [1]");
    push(&mut batcher, 1, now, now + ms(25));
    assert_eq!(show(&batcher.step(now, &[0]), now), "wait 14000 us");
    assert!(refusals(&mut batcher).is_empty());
    assert_eq!(show(&batcher.step(now + ms(15), &[0]), now + ms(15)), "idle");
    assert_eq!(refusals(&mut batcher).len(), 1, "the batch before it took too long");
}

#[test]
fn a_timeout_is_on_time_while_the_instance_is_busy() {
    let now = Instant::now();
    let policy = QueuePolicy { default_timeout: ms(20), ..QueuePolicy::default() };
    let mut batcher = with_policy(1, policy, false);
    push(&mut batcher, 1, now, now + ms(1000));
    assert_eq!(decide(&mut batcher, now), "run [1]");
    push(&mut batcher, 1, now + ms(1), now + ms(1000));
    assert_eq!(show(&batcher.step(now + ms(20), &[0]), now + ms(20)), "wait 1000 us");
    assert_eq!(show(&batcher.step(now + ms(21), &[0]), now), "idle");
    assert_eq!(refusals(&mut batcher), ["Request timeout expired"]);
}

#[test]
fn who_is_delayed_goes_behind_all_others_whatever_its_deadline() {
    let now = Instant::now();
    let timeout_action = TimeoutAction::Delay;
    let policy = QueuePolicy { default_timeout: ms(5), timeout_action, ..QueuePolicy::default() };
    let mut batcher = with_policy(1, policy, false);
    push(&mut batcher, 1, now, now + ms(1000));
    assert_eq!(decide(&mut batcher, now), "run [1]");
    push(&mut batcher, 2, now, now + ms(200));
    batcher.batch_done(0, Vec::new(), now + ms(11));
    push(&mut batcher, 3, now + ms(11), now + ms(900));
    let order = [11, 22, 33].map(|at| {
        batcher.batch_done(0, Vec::new(), now + ms(at));
        decide(&mut batcher, now + ms(at))
    });
    assert_eq!(order, ["run [3]", "run [2]", "idle"]);
    assert!(refusals(&mut batcher).is_empty());
}

#[test]
fn where_answers_keep_their_order_nobody_overtakes() {
    let now = Instant::now();
    let mut batcher = with_policy(1, QueuePolicy::default(), true);
    for (rows, deadline) in [(1, 300), (2, 100), (3, 200)] {
        push(&mut batcher, rows, now, now + ms(deadline));
    }
    let order = [0, 20, 40].map(|at| {
        batcher.batch_done(0, Vec::new(), now + ms(at));
        decide(&mut batcher, now + ms(at))
    });
    assert_eq!(order, ["run [1]", "run [2]", "run [3]"]);
}

#[test]
fn a_full_queue_takes_nobody() {
    let now = Instant::now();
    let mut batcher =
        with_policy(1, QueuePolicy { max_queue_size: 1, ..Default::default() }, false);
    push(&mut batcher, 1, now, now + ms(1000));
    push(&mut batcher, 1, now, now + ms(1000));
    assert_eq!(refusals(&mut batcher), ["[request id: <id_unknown>] Exceeds maximum queue size"]);
}

#[test]
fn an_idle_model_tries_however_slow_it_was() {
    let now = Instant::now();
    let mut batcher = batcher(4, Duration::ZERO);
    batcher.forecast.record(1, ms(5000));
    for _ in 0..40 {
        push(&mut batcher, 1, now, now + ms(50));
        assert_eq!(decide(&mut batcher, now), "run [1]");
        batcher.batch_done(0, Vec::new(), now + ms(5));
    }
    push(&mut batcher, 1, now, now + ms(50));
    push(&mut batcher, 1, now, now + ms(50));
    assert_eq!(decide(&mut batcher, now), "run [1, 1]");
}

#[test]
fn nothing_is_lost_and_nothing_answered_twice() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let census = Census::default();
        let mut batcher = batcher(random.pick(&[1, 4, 8]), ms(random.pick(&[0, 3])));
        batcher.in_order = random.once_in(4);
        batcher.policies.default_policy = QueuePolicy {
            timeout_action: random.pick(&[TimeoutAction::Reject, TimeoutAction::Delay]),
            default_timeout: ms(random.pick(&[0, 0, 2, 9])),
            max_queue_size: random.pick(&[0, 0, 3]),
            ..QueuePolicy::default()
        };
        let mut now = Instant::now();
        let mut busy = None;
        let mut sent = 0;
        while sent < 200 || busy.is_some() || !batcher.is_empty() {
            if sent < 200 && random.once_in(2) {
                let mut request = census.request(1, random.pick(&[4, 4, 5]));
                request.deadline = Some(now + ms(random.below(40)));
                batcher.push(request, now);
                sent += 1;
            }
            if busy.is_some_and(|done| done <= now) {
                busy = None;
                batcher.batch_done(0, Vec::new(), now);
            }
            if let Step::Dispatch(_) = batcher.step(now, &[usize::from(busy.is_none())]) {
                assert!(busy.is_none());
                busy = Some(now + ms(1 + random.below(15)));
            }
            drop(batcher.take_rejected());
            now += ms(1);
        }
        drop(batcher);
        census.assert_all_answered_once();
    }
}

/// What came of requests at some rate.
struct Load {
    /// Answered in time, per second.
    goodput: f64,
    /// Answered too late, though taken in.
    late: usize,
}

/// Ten seconds of arrivals at random, each with 50 ms; a batch takes 5 ms and 0.5 ms for each of
/// its requests, give or take a tenth.
fn load(rate: f64) -> Load {
    let mut random = Random::new(1);
    let census = Census::default();
    let mut batcher = batcher(64, Duration::ZERO);
    let start = Instant::now();
    let (mut now, end) = (start, start + ms(10_000));
    let (mut sent, mut arrival) = (BTreeMap::new(), start);
    let mut busy: Option<(Instant, Vec<usize>)> = None;
    let (mut good, mut late) = (0_usize, 0_usize);
    while now < end {
        let step = batcher.step(now, &[usize::from(busy.is_none())]);
        drop(batcher.take_rejected());
        let mut next = arrival;
        match step {
            Step::Dispatch(Dispatch { requests, .. }) => {
                let noise = 0.9 + 0.2 * random.below(1000) as f64 / 1000.0;
                let took = (5.0 + 0.5 * requests.len() as f64) / 1000.0 * noise;
                let numbers = requests.iter().map(number).collect();
                busy = Some((now + Duration::from_secs_f64(took), numbers));
                continue;
            }
            Step::WaitUntil(until) => next = next.min(until),
            Step::Idle => {}
        }
        if let Some((done, _)) = &busy {
            next = next.min(*done);
        }
        now = next.max(now);
        if busy.as_ref().is_some_and(|(done, _)| *done <= now) {
            for number in busy.take().into_iter().flat_map(|(_, numbers)| numbers) {
                *if sent[&number] >= now { &mut good } else { &mut late } += 1;
            }
            batcher.batch_done(0, Vec::new(), now);
        }
        if arrival <= now {
            let mut request = census.request(1, 4);
            request.deadline = Some(now + ms(50));
            sent.insert(number(&request), now + ms(50));
            batcher.push(request, now);
            let uniform = (1 + random.below(1_000_000)) as f64 / 1_000_001.0;
            arrival += Duration::from_secs_f64(-uniform.ln() / rate);
        }
    }
    Load { goodput: good as f64 / 10.0, late }
}

#[test]
fn goodput_does_not_fall_under_overload() {
    let capacity = 64.0 / 0.037;
    let half = load(0.5 * capacity);
    assert!(half.goodput > 0.49 * capacity * 0.97, "{}", half.goodput);
    let loads = [0.95, 1.2, 2.0, 4.0].map(|part| load(part * capacity));
    let peak = loads.iter().map(|load| load.goodput).fold(0.0, f64::max);
    assert!(peak > 0.85 * capacity, "{peak} of {capacity}");
    for Load { goodput, late } in loads {
        assert!(goodput > 0.9 * peak, "{goodput} of {peak}");
        assert!((late as f64) < 0.02 * goodput * 10.0, "{late} late");
    }
}
