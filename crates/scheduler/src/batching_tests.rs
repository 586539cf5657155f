//! The queue driven by hand, with a clock that only moves when told to.

use std::time::{Duration, Instant};

use nereid_inference::{Answer, Buffer, DataType, Request, Responder, ResponseSink, Tensor, Times};

use super::{Batching, Dynamic, Queue, Step};

struct Ignore;

impl ResponseSink for Ignore {
    fn deliver(&mut self, _: Answer, _: &Times) {}
}

fn request(rows: i64, columns: i64) -> Request {
    let mut request = Request::new("m", None, Responder::new(Box::new(Ignore)));
    request.batch_size = rows as usize;
    request.inputs.push(Tensor {
        name: "IN".into(),
        datatype: DataType::Fp32,
        shape: vec![rows, columns],
        data: Buffer::empty(),
    });
    request
}

fn dynamic(max_batch_size: usize, preferred: &[usize], delay_us: u64) -> Batching {
    let dynamic = Dynamic {
        preferred_batch_sizes: preferred.to_vec(),
        max_queue_delay: Duration::from_micros(delay_us),
    };
    Batching { max_batch_size, dynamic: Some(dynamic) }
}

/// Prints what the queue decides: sizes of the requests dispatched, or how long it wants to wait.
fn decide(queue: &mut Queue, now: Instant) -> String {
    match queue.step(now) {
        Step::Dispatch(batch) => {
            let sizes: Vec<usize> = batch.iter().map(|request| request.batch_size).collect();
            format!("run {sizes:?}")
        }
        Step::WaitUntil(until) => format!("wait {} us", (until - now).as_micros()),
        Step::Idle => "idle".into(),
    }
}

#[test]
fn without_dynamic_batching_every_request_runs_alone() {
    let mut queue = Queue::new(Batching { max_batch_size: 8, dynamic: None });
    let now = Instant::now();
    queue.push(request(1, 4), now);
    queue.push(request(2, 4), now);
    assert_eq!(decide(&mut queue, now), "run [1]");
    assert_eq!(decide(&mut queue, now), "run [2]");
    assert_eq!(decide(&mut queue, now), "idle");
}

#[test]
fn waits_for_others_no_longer_than_the_delay() {
    let mut queue = Queue::new(dynamic(8, &[8], 500));
    let start = Instant::now();
    queue.push(request(1, 4), start);
    assert_eq!(decide(&mut queue, start), "wait 500 us");
    queue.push(request(3, 4), start + Duration::from_micros(100));
    assert_eq!(decide(&mut queue, start + Duration::from_micros(100)), "wait 400 us");
    assert_eq!(decide(&mut queue, start + Duration::from_micros(500)), "run [1, 3]");
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
    assert_eq!(decide(&mut queue, start), "wait 500 us", "4 may still be reached");
    assert_eq!(decide(&mut queue, start + Duration::from_micros(500)), "run [1, 1]");
    for _ in 0..3 {
        queue.push(request(1, 4), start);
    }
    assert_eq!(decide(&mut queue, start), "run [1, 1, 1, 1]");
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
    assert_eq!(queue.take_cancelled().len(), 1);
    assert_eq!(decide(&mut queue, now), "run [2]");
}
