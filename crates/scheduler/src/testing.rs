//! What the tests of all schedulers share: requests without clients, and scripts from a seed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nereid_inference::{Answer, Buffer, DataType, Request, Responder, ResponseSink, Tensor, Times};

use crate::{Dispatch, Step};

struct Ignore;

impl ResponseSink for Ignore {
    fn deliver(&mut self, _: Answer, _: &Times) {}
}

/// A request for some rows of some columns.
pub(crate) fn request(rows: i64, columns: i64) -> Request {
    watched(rows, columns, Ignore)
}

fn watched(rows: i64, columns: i64, sink: impl ResponseSink + 'static) -> Request {
    let mut request = Request::new("m", None, Responder::new(Box::new(sink)));
    request.batch_size = rows as usize;
    request.inputs.push(Tensor {
        name: "IN".into(),
        datatype: DataType::Fp32,
        shape: vec![rows, columns],
        data: Buffer::empty(),
    });
    request
}

/// Counts the answers that each of its requests got.
#[derive(Clone, Default)]
pub(crate) struct Census(Arc<Mutex<Vec<Arc<AtomicUsize>>>>);

struct Counting(Arc<AtomicUsize>);

impl ResponseSink for Counting {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        self.0.fetch_add(usize::from(answer.last), Ordering::Relaxed);
    }
}

impl Census {
    /// A request whose `id` is its number.
    pub(crate) fn request(&self, rows: i64, columns: i64) -> Request {
        let mut counts = self.0.lock().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        counts.push(count.clone());
        let mut request = watched(rows, columns, Counting(count));
        request.id = (counts.len() - 1).to_string();
        request
    }

    pub(crate) fn assert_all_answered_once(&self) {
        for (number, count) in self.0.lock().unwrap().iter().enumerate() {
            assert_eq!(count.load(Ordering::Relaxed), 1, "answers to request {number}");
        }
    }
}

/// The number that a census gave a request.
pub(crate) fn number(request: &Request) -> usize {
    request.id.parse().unwrap()
}

/// Prints what a scheduler decides: sizes of the requests dispatched, or how long it waits.
pub(crate) fn show(step: &Step, now: Instant) -> String {
    match step {
        Step::Dispatch(Dispatch { requests, .. }) => {
            let sizes: Vec<usize> = requests.iter().map(|request| request.batch_size).collect();
            format!("run {sizes:?}")
        }
        Step::WaitUntil(until) => format!("wait {} us", (*until - now).as_micros()),
        Step::Idle => "idle".into(),
    }
}

/// Numbers that look random and are the same for the same seed (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

pub(crate) fn us(microseconds: u64) -> Duration {
    Duration::from_micros(microseconds)
}
