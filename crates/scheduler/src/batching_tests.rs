//! The queue driven by hand, with a clock that only moves when told to.

use std::time::Instant;

use super::{Batching, Dynamic, Queue};
use crate::Hold;
use crate::testing::{request, show, us};
use crate::{QueuePolicies, QueuePolicy, TimeoutAction};

fn dynamic(max_batch_size: usize, preferred: &[usize], delay_us: u64) -> Batching {
    limited(max_batch_size, preferred, delay_us, QueuePolicies::default())
}

fn limited(
    max_batch_size: usize,
    preferred: &[usize],
    delay_us: u64,
    policies: QueuePolicies,
) -> Batching {
    let dynamic = Dynamic {
        preferred_batch_sizes: preferred.to_vec(),
        max_queue_delay: us(delay_us),
        policies,
    };
    Batching { max_batch_size, dynamic: Some(dynamic), ..Batching::default() }
}

fn one_policy(policy: QueuePolicy) -> Queue {
    let policies = QueuePolicies { default_policy: policy, ..QueuePolicies::default() };
    Queue::new(limited(1, &[1], 0, policies))
}

/// What the queue decides for one free instance.
fn decide(queue: &mut Queue, now: Instant) -> String {
    show(&queue.step(now, &[1]), now)
}

/// What the queue decides while the instance is busy.
fn decide_busy(queue: &mut Queue, now: Instant) -> String {
    show(&queue.step(now, &[0]), now)
}

fn rejected(queue: &mut Queue) -> Vec<String> {
    queue.take_rejected().iter().map(|rejected| rejected.error.to_string()).collect()
}

#[test]
fn without_dynamic_batching_every_request_runs_alone() {
    let mut queue = Queue::new(Batching { max_batch_size: 8, ..Batching::default() });
    let now = Instant::now();
    queue.push(request(1, 4), now);
    queue.push(request(2, 4), now);
    assert_eq!(decide(&mut queue, now), "run [1]");
    assert_eq!(decide(&mut queue, now), "run [2]");
    assert_eq!(decide(&mut queue, now), "idle");
}

#[test]
fn a_hold_ends_for_good_when_enough_wait() {
    let now = Instant::now();
    let hold = Hold { queued: 3, backlog: 9 };
    let mut queue = Queue::new(Batching { hold, ..dynamic(8, &[], 0) });
    queue.push(request(1, 4), now);
    queue.push(request(1, 4), now);
    assert_eq!(decide(&mut queue, now), "idle");
    queue.push(request(1, 4), now);
    assert_eq!(decide(&mut queue, now), "run [1, 1, 1]");
    queue.push(request(1, 4), now);
    assert_eq!(decide(&mut queue, now), "run [1]");
}

#[test]
fn waits_for_others_no_longer_than_the_delay() {
    let mut queue = Queue::new(dynamic(8, &[8], 500));
    let start = Instant::now();
    queue.push(request(1, 4), start);
    assert_eq!(decide(&mut queue, start), "wait 500 us");
    queue.push(request(3, 4), start + us(100));
    assert_eq!(decide(&mut queue, start + us(100)), "wait 400 us");
    assert_eq!(decide(&mut queue, start + us(500)), "run [1, 3]");
}

#[test]
fn a_full_batch_does_not_wait_and_is_never_overfull() {
    let mut queue = Queue::new(dynamic(4, &[4], 500));
    let now = Instant::now();
    for rows in [3, 2, 2] {
        queue.push(request(rows, 4), now);
    }
    assert_eq!(decide(&mut queue, now), "run [3]", "3 + 2 would be too many");
    assert_eq!(decide(&mut queue, now), "run [2, 2]");
}

#[test]
fn the_largest_preferred_size_is_taken() {
    let mut queue = Queue::new(dynamic(8, &[2, 4], 500));
    let start = Instant::now();
    for _ in 0..3 {
        queue.push(request(1, 4), start);
    }
    assert_eq!(decide(&mut queue, start), "run [1, 1]", "which does not wait for 4");
    for _ in 0..4 {
        queue.push(request(1, 4), start);
    }
    assert_eq!(decide(&mut queue, start), "run [1, 1, 1, 1]");
    assert_eq!(decide(&mut queue, start), "wait 500 us");
}

#[test]
fn without_a_delay_what_waits_runs_at_once() {
    let mut queue = Queue::new(dynamic(8, &[8], 0));
    let now = Instant::now();
    queue.push(request(1, 4), now);
    queue.push(request(1, 4), now);
    assert_eq!(decide(&mut queue, now), "run [1, 1]");
}

#[test]
fn other_shapes_end_a_batch() {
    let mut queue = Queue::new(dynamic(8, &[8], 500));
    let now = Instant::now();
    queue.push(request(1, 4), now);
    queue.push(request(1, 5), now);
    assert_eq!(decide(&mut queue, now), "run [1]");
    assert_eq!(decide(&mut queue, now), "wait 500 us");
}

#[test]
fn cancelled_requests_are_taken_out() {
    let mut queue = Queue::new(Batching::default());
    let now = Instant::now();
    let cancelled = request(1, 4);
    cancelled.cancellation.cancel();
    queue.push(cancelled, now);
    queue.push(request(2, 4), now);
    queue.reject_cancelled();
    assert_eq!(rejected(&mut queue), ["Cancelled: "]);
    assert_eq!(decide(&mut queue, now), "run [2]");
}

#[test]
fn the_largest_preferred_size_does_not_wait_for_more() {
    let mut queue = Queue::new(dynamic(8, &[4], 500));
    let now = Instant::now();
    for _ in 0..6 {
        queue.push(request(1, 4), now);
    }
    assert_eq!(decide(&mut queue, now), "run [1, 1, 1, 1]");
    assert_eq!(decide(&mut queue, now), "wait 500 us");
}

#[test]
fn ragged_inputs_may_differ() {
    let mut batching = dynamic(8, &[8], 0);
    batching.ragged_inputs = vec!["IN".into()];
    let mut queue = Queue::new(batching);
    let now = Instant::now();
    queue.push(request(1, 4), now);
    queue.push(request(1, 5), now);
    assert_eq!(decide(&mut queue, now), "run [1, 1]");
}

#[test]
fn a_full_queue_rejects() {
    let mut queue = one_policy(QueuePolicy { max_queue_size: 2, ..QueuePolicy::default() });
    let now = Instant::now();
    for rows in 1..=3 {
        let mut request = request(rows, 4);
        request.id = rows.to_string();
        queue.push(request, now);
    }
    assert_eq!(rejected(&mut queue), ["Unavailable: [request id: 3] Exceeds maximum queue size"]);
    assert_eq!(decide(&mut queue, now), "run [1]");
    queue.push(request(4, 4), now);
    assert!(rejected(&mut queue).is_empty(), "there is room again");
}

#[test]
fn a_timeout_rejects_on_time_though_no_instance_is_free() {
    let policy = QueuePolicy { default_timeout: us(300), ..QueuePolicy::default() };
    let mut queue = one_policy(policy);
    let start = Instant::now();
    queue.push(request(1, 4), start);
    queue.push(request(2, 4), start + us(100));
    assert_eq!(decide_busy(&mut queue, start + us(100)), "wait 200 us");
    assert_eq!(decide_busy(&mut queue, start + us(300)), "wait 100 us");
    assert_eq!(rejected(&mut queue), ["Unavailable: Request timeout expired"]);
    assert_eq!(decide(&mut queue, start + us(350)), "run [2]");
    assert_eq!(decide_busy(&mut queue, start + us(400)), "idle");
    assert!(rejected(&mut queue).is_empty());
}

#[test]
fn a_request_may_only_shorten_its_timeout_and_only_where_allowed() {
    let timeout = |allow_timeout_override, default_us, asked| {
        let policy = QueuePolicy {
            allow_timeout_override,
            default_timeout: us(default_us),
            ..QueuePolicy::default()
        };
        policy.timeout(asked).map(|timeout| timeout.as_micros())
    };
    assert_eq!(timeout(true, 300, 100), Some(100));
    assert_eq!(timeout(true, 300, 900), Some(300));
    assert_eq!(timeout(true, 300, 0), Some(300));
    assert_eq!(timeout(false, 300, 100), Some(300));
    assert_eq!(timeout(true, 0, 100), None, "nothing to shorten");
}

#[test]
fn delayed_requests_run_after_the_others_of_their_level() {
    let policy = QueuePolicy {
        timeout_action: TimeoutAction::Delay,
        default_timeout: us(100),
        ..QueuePolicy::default()
    };
    let mut queue = one_policy(policy);
    let start = Instant::now();
    queue.push(request(1, 4), start);
    queue.push(request(2, 4), start + us(50));
    assert_eq!(decide(&mut queue, start + us(100)), "run [2]");
    assert_eq!(decide(&mut queue, start + us(100)), "run [1]");
    assert!(rejected(&mut queue).is_empty());
}

#[test]
fn higher_priorities_go_first() {
    let policies =
        QueuePolicies { priority_levels: 3, default_priority_level: 2, ..QueuePolicies::default() };
    let mut queue = Queue::new(limited(1, &[1], 0, policies));
    let now = Instant::now();
    for (rows, priority) in [(1, 3), (2, 0), (3, 1), (4, 9), (5, 2)] {
        let mut request = request(rows, 4);
        request.priority = priority;
        queue.push(request, now);
    }
    let order: Vec<String> = (0..5).map(|_| decide(&mut queue, now)).collect();
    assert_eq!(order, ["run [3]", "run [2]", "run [4]", "run [5]", "run [1]"]);
}

#[test]
fn a_batch_may_hold_several_priorities() {
    let policies =
        QueuePolicies { priority_levels: 2, default_priority_level: 2, ..QueuePolicies::default() };
    let mut queue = Queue::new(limited(8, &[8], 500, policies));
    let start = Instant::now();
    queue.push(request(1, 4), start);
    let mut urgent = request(2, 4);
    urgent.priority = 1;
    queue.push(urgent, start + us(200));
    assert_eq!(decide(&mut queue, start + us(200)), "wait 300 us", "the oldest counts");
    assert_eq!(decide(&mut queue, start + us(500)), "run [2, 1]");
}

#[test]
fn the_freest_instance_is_chosen() {
    let mut queue = Queue::new(Batching::default());
    let now = Instant::now();
    queue.push(request(1, 4), now);
    let crate::Step::Dispatch(dispatch) = queue.step(now, &[0, 2, 1]) else { panic!() };
    assert_eq!(dispatch.instance, 1);
}

#[test]
fn those_whose_clients_are_gone_do_not_fill_a_queue() {
    let mut queue = one_policy(QueuePolicy { max_queue_size: 1, ..QueuePolicy::default() });
    let now = Instant::now();
    let gone = request(1, 4);
    gone.cancellation.cancel();
    queue.push(gone, now);
    queue.push(request(2, 4), now);
    assert_eq!(rejected(&mut queue), ["Cancelled: "]);
    assert_eq!(decide(&mut queue, now), "run [2]");
}

#[test]
fn timeouts_of_requests_that_ran_are_forgotten() {
    let policy = QueuePolicy { default_timeout: us(1_000_000), ..QueuePolicy::default() };
    let mut queue = one_policy(policy);
    let now = Instant::now();
    queue.push(request(1, 4), now);
    for _ in 0..1000 {
        queue.push(request(2, 4), now);
        assert_ne!(decide(&mut queue, now), "idle");
    }
    assert!(queue.timeouts.len() < 100 && queue.len() == 1);
    assert_eq!(decide_busy(&mut queue, now), "wait 1000000 us");
    assert_eq!(decide_busy(&mut queue, now + us(1_000_000)), "idle");
    assert_eq!(rejected(&mut queue).len(), 1);
}
