//! The sequence batcher driven by hand, with a clock that only moves when told to.

use std::time::Instant;

use nereid_inference::{CorrelationId, Request, SEQUENCE_END, SEQUENCE_START};

use super::{SequenceBatching, Sequences, Strategy};
use crate::testing::{request, us};
use crate::{Hold, Step};

const START: u32 = SEQUENCE_START;
const END: u32 = SEQUENCE_END;

fn direct(slots: usize, delay_us: u64, utilization: f32) -> SequenceBatching {
    let strategy =
        Strategy::Direct { max_queue_delay: us(delay_us), minimum_slot_utilization: utilization };
    settings(strategy, slots, slots)
}

fn oldest(candidates: usize, max_batch_size: usize, delay_us: u64) -> SequenceBatching {
    let strategy = Strategy::Oldest {
        preferred_batch_sizes: vec![max_batch_size],
        max_queue_delay: us(delay_us),
    };
    settings(strategy, candidates, max_batch_size)
}

fn settings(strategy: Strategy, slots: usize, max_batch_size: usize) -> SequenceBatching {
    let max_sequence_idle = us(1000);
    SequenceBatching {
        strategy,
        slots,
        max_batch_size,
        max_sequence_idle,
        ragged_inputs: vec![],
        iterative: false,
        hold: Hold::default(),
    }
}

/// A request whose id is its sequence and what it is called there, such as `7a`.
fn of(sequence: u64, name: &str, flags: u32) -> Request {
    let mut request = request(1, 4);
    request.id = format!("{sequence}{name}");
    request.correlation = CorrelationId::Number(sequence);
    request.flags = flags;
    request
}

/// What runs next: `instance: ids`, with `-` for idle rows.
fn decide(sequences: &mut Sequences, now: Instant, places: &[usize]) -> String {
    match sequences.step(now, places) {
        Step::Dispatch(dispatch) => {
            assert_eq!(dispatch.sequences.len(), dispatch.requests.len());
            let mut ids: Vec<String> = dispatch.requests.iter().map(|r| r.id.clone()).collect();
            dispatch.idle_rows.iter().for_each(|&row| ids.insert(row, "-".into()));
            format!("{}: {}", dispatch.instance, ids.join(" "))
        }
        Step::WaitUntil(until) => format!("wait {} us", (until - now).as_micros()),
        Step::Idle => "idle".into(),
    }
}

fn rejected(sequences: &mut Sequences) -> Vec<String> {
    let rejected = sequences.take_rejected();
    rejected.iter().map(|rejected| rejected.error.to_string()).collect()
}

#[test]
fn a_sequence_keeps_its_row() {
    let now = Instant::now();
    let mut sequences = Sequences::new(direct(3, 0, 0.0), 1);
    for sequence in [7, 8, 9] {
        sequences.push(of(sequence, "a", START), now);
    }
    assert_eq!(decide(&mut sequences, now, &[1]), "0: 7a 8a 9a");
    sequences.push(of(8, "b", 0), now);
    assert_eq!(decide(&mut sequences, now, &[0]), "idle", "one at a time");
    sequences.batch_done(0, vec![], now);
    assert_eq!(decide(&mut sequences, now, &[1]), "0: - 8b", "rows after the last are left out");
    sequences.batch_done(0, vec![], now);
    sequences.push(of(9, "b", END), now);
    sequences.push(of(7, "b", 0), now);
    assert_eq!(decide(&mut sequences, now, &[1]), "0: 7b - 9b");
}

#[test]
fn sequences_spread_over_the_instances_and_stay_there() {
    let now = Instant::now();
    let mut sequences = Sequences::new(direct(2, 0, 0.0), 2);
    for sequence in [1, 2, 3] {
        sequences.push(of(sequence, "a", START), now);
    }
    assert_eq!(decide(&mut sequences, now, &[1, 1]), "0: 1a 3a");
    assert_eq!(decide(&mut sequences, now, &[0, 1]), "1: 2a");
    sequences.push(of(2, "b", END), now);
    sequences.batch_done(0, vec![], now);
    assert_eq!(decide(&mut sequences, now, &[1, 0]), "wait 1000 us", "only until one is silent");
    sequences.batch_done(1, vec![], now);
    assert_eq!(decide(&mut sequences, now, &[1, 1]), "1: 2b");
}

#[test]
fn an_instance_that_is_to_go_keeps_its_sequences_to_their_ends() {
    let now = Instant::now();
    let mut sequences = Sequences::new(direct(1, 0, 0.0), 2);
    for sequence in [1, 2] {
        sequences.push(of(sequence, "a", START), now);
    }
    assert_eq!(decide(&mut sequences, now, &[1, 1]), "0: 1a");
    assert_eq!(decide(&mut sequences, now, &[0, 1]), "1: 2a");
    sequences.retire_instance(1);
    sequences.batch_done(0, vec![], now);
    sequences.batch_done(1, vec![], now);
    sequences.push(of(2, "b", END), now);
    sequences.push(of(3, "a", START | END), now);
    assert!(!sequences.is_vacant(1));
    assert_eq!(decide(&mut sequences, now, &[1, 1]), "1: 2b", "3 does not follow it there");
    assert!(sequences.is_vacant(1));
    sequences.batch_done(1, vec![], now);
    sequences.push(of(1, "b", END), now);
    assert_eq!(decide(&mut sequences, now, &[1, 0]), "0: 1b");
    sequences.batch_done(0, vec![], now);
    assert_eq!(decide(&mut sequences, now, &[1, 0]), "0: 3a");
}

#[test]
fn a_new_instance_takes_who_waits() {
    let now = Instant::now();
    let mut sequences = Sequences::new(direct(1, 0, 0.0), 1);
    for sequence in [1, 2, 3] {
        sequences.push(of(sequence, "a", START), now);
    }
    assert_eq!(decide(&mut sequences, now, &[1]), "0: 1a");
    sequences.add_instance(1);
    assert_eq!(decide(&mut sequences, now, &[0, 1]), "1: 2a");
    sequences.retire_instance(1);
    sequences.batch_done(1, vec![], now);
    sequences.push(of(2, "b", END), now);
    assert_eq!(decide(&mut sequences, now, &[0, 1]), "1: 2b");
    sequences.batch_done(1, vec![], now);
    assert!(sequences.is_vacant(1));
    sequences.add_instance(1);
    assert_eq!(decide(&mut sequences, now, &[0, 1]), "1: 3a", "in the place of the old one");
}

#[test]
fn the_backlog_moves_up_when_a_sequence_ends() {
    let now = Instant::now();
    let mut sequences = Sequences::new(direct(1, 0, 0.0), 1);
    sequences.push(of(1, "a", START), now);
    sequences.push(of(2, "a", START), now);
    sequences.push(of(2, "b", END), now);
    sequences.push(of(3, "a", START | END), now);
    sequences.push(of(1, "b", END), now);
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(decide(&mut sequences, now, &[1]));
        sequences.batch_done(0, vec![], now);
    }
    assert_eq!(order, ["0: 1a", "0: 1b", "0: 2a", "0: 2b", "0: 3a"]);
    assert_eq!(decide(&mut sequences, now, &[1]), "idle");
}

#[test]
fn a_correlation_id_can_be_used_again() {
    let now = Instant::now();
    let mut sequences = Sequences::new(direct(2, 0, 0.0), 1);
    sequences.push(of(1, "a", START | END), now);
    sequences.push(of(1, "b", START), now);
    assert_eq!(decide(&mut sequences, now, &[1]), "0: 1a 1b", "two sequences, two slots");
    sequences.batch_done(0, vec![], now);
    sequences.push(of(1, "c", START), now);
    sequences.push(of(1, "d", 0), now);
    assert_eq!(decide(&mut sequences, now, &[1]), "0: - 1c", "begun anew in its slot");
    sequences.batch_done(0, vec![], now);
    assert_eq!(decide(&mut sequences, now, &[1]), "0: - 1d");
}

#[test]
fn what_belongs_to_no_sequence_is_rejected() {
    let now = Instant::now();
    let mut sequences = Sequences::new(direct(1, 0, 0.0), 1);
    let mut large = of(1, "a", START);
    large.batch_size = 2;
    sequences.push(large, now);
    sequences.push(of(0, "a", START), now);
    sequences.push(of(5, "a", 0), now);
    let mut text = of(0, "a", 0);
    text.correlation = CorrelationId::Text("x".into());
    sequences.push(text, now);
    let start = |id| {
        format!(
            "Invalid argument: inference request for sequence {id} to model 'm' must specify the \
             START flag on the first request of the sequence"
        )
    };
    assert_eq!(
        rejected(&mut sequences),
        [
            "Invalid argument: inference request to model 'm' must specify batch-size 1 due to \
             requirements of sequence batcher"
                .to_owned(),
            "Invalid argument: inference request to model 'm' must specify a non-zero or \
             non-empty correlation ID"
                .to_owned(),
            start("5"),
            start("x"),
        ]
    );
}

#[test]
fn silence_ends_a_sequence() {
    let start = Instant::now();
    let mut sequences = Sequences::new(direct(1, 0, 0.0), 1);
    sequences.push(of(1, "a", START), start);
    sequences.push(of(2, "a", START), start);
    assert_eq!(decide(&mut sequences, start, &[1]), "0: 1a");
    let answered = start + us(5000);
    assert_eq!(decide(&mut sequences, answered, &[0]), "idle", "a slow model is not silence");
    sequences.batch_done(0, vec![], answered);
    assert_eq!(decide(&mut sequences, answered, &[1]), "wait 1000 us");
    assert_eq!(decide(&mut sequences, answered + us(1000), &[1]), "0: 2a");
    assert_eq!(sequences.take_lost().len(), 1);
    sequences.push(of(1, "b", 0), answered + us(1000));
    assert_eq!(rejected(&mut sequences).len(), 1);
}

#[test]
fn a_timeout_ends_a_sequence_in_the_backlog() {
    let start = Instant::now();
    let mut sequences = Sequences::new(direct(1, 0, 0.0), 1);
    sequences.push(of(1, "a", START), start);
    let mut hasty = of(2, "a", START);
    hasty.timeout_us = 300;
    sequences.push(hasty, start);
    sequences.push(of(2, "b", 0), start);
    assert_eq!(decide(&mut sequences, start, &[1]), "0: 1a");
    assert_eq!(decide(&mut sequences, start, &[0]), "wait 300 us");
    assert_eq!(decide(&mut sequences, start + us(300), &[0]), "idle");
    let text = "Unavailable: timeout of the corresponding sequence has been expired";
    assert_eq!(rejected(&mut sequences), [text, text]);
}

#[test]
fn a_cancelled_request_ends_its_sequence() {
    let now = Instant::now();
    let mut sequences = Sequences::new(direct(1, 0, 0.0), 1);
    let gone = of(1, "a", START);
    gone.cancellation.cancel();
    sequences.push(gone, now);
    sequences.push(of(1, "b", 0), now);
    sequences.push(of(2, "a", START), now);
    sequences.reject_cancelled();
    assert_eq!(rejected(&mut sequences), ["Cancelled: ", "Cancelled: "]);
    assert_eq!(decide(&mut sequences, now, &[1]), "0: 2a");
}

#[test]
fn direct_waits_for_enough_slots_or_for_the_delay() {
    let start = Instant::now();
    let mut sequences = Sequences::new(direct(4, 500, 0.5), 1);
    sequences.push(of(1, "a", START), start);
    assert_eq!(decide(&mut sequences, start, &[1]), "wait 500 us");
    sequences.push(of(2, "a", START), start + us(100));
    assert_eq!(decide(&mut sequences, start + us(100), &[1]), "0: 1a 2a");
    sequences.batch_done(0, vec![], start + us(100));
    sequences.push(of(2, "b", 0), start + us(200));
    assert_eq!(decide(&mut sequences, start + us(200), &[1]), "wait 500 us");
    assert_eq!(decide(&mut sequences, start + us(700), &[1]), "0: - 2b");
}

#[test]
fn direct_leaves_other_shapes_for_the_next_batch() {
    let now = Instant::now();
    let mut sequences = Sequences::new(direct(3, 0, 0.0), 1);
    for sequence in [1, 2, 3] {
        let mut request = of(sequence, "a", START);
        request.inputs[0].shape[1] = if sequence == 2 { 5 } else { 4 };
        sequences.push(request, now);
    }
    assert_eq!(decide(&mut sequences, now, &[1]), "0: 1a - 3a");
    sequences.batch_done(0, vec![], now);
    assert_eq!(decide(&mut sequences, now, &[1]), "0: - 2a");
}

#[test]
fn oldest_takes_one_request_of_each_in_order_of_arrival() {
    let now = Instant::now();
    let mut sequences = Sequences::new(oldest(4, 2, 0), 1);
    for (sequence, name, flags) in
        [(1, "a", START), (1, "b", 0), (2, "a", START), (3, "a", START), (1, "c", END)]
    {
        sequences.push(of(sequence, name, flags), now);
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(decide(&mut sequences, now, &[1]));
        sequences.batch_done(0, vec![], now);
    }
    assert_eq!(order, ["0: 1a 2a", "0: 1b 3a", "0: 1c"]);
}

#[test]
fn oldest_waits_only_while_others_may_come() {
    let start = Instant::now();
    let mut sequences = Sequences::new(oldest(2, 4, 500), 1);
    sequences.push(of(1, "a", START), start);
    assert_eq!(decide(&mut sequences, start, &[1]), "wait 500 us");
    sequences.push(of(2, "a", START), start + us(100));
    assert_eq!(decide(&mut sequences, start + us(100), &[1]), "0: 1a 2a", "no candidate is left");
    sequences.batch_done(0, vec![], start + us(100));
    sequences.push(of(2, "b", 0), start + us(200));
    assert_eq!(decide(&mut sequences, start + us(700), &[1]), "0: 2b");
}

fn iterative(slots: usize, max_batch_size: usize) -> SequenceBatching {
    SequenceBatching { iterative: true, ..oldest(slots, max_batch_size, 0) }
}

/// A request without a sequence, as clients of iterative models send it.
fn single(name: &str) -> Request {
    let mut request = request(1, 4);
    request.id = name.into();
    request
}

/// What runs next, and which of it the model gives back.
fn run(sequences: &mut Sequences, now: Instant, again: &[&str]) -> String {
    let Step::Dispatch(dispatch) = sequences.step(now, &[1]) else { return "nothing".into() };
    let show = |r: &Request| format!("{}{}", r.id, if r.flags & START != 0 { "!" } else { "" });
    let ids: Vec<String> = dispatch.requests.iter().map(show).collect();
    let given_back = dispatch.requests.into_iter().filter(|r| again.contains(&r.id.as_str()));
    sequences.batch_done(0, given_back.collect(), now);
    ids.join(" ")
}

#[test]
fn an_iterative_request_runs_until_its_model_is_done_with_it() {
    let now = Instant::now();
    let mut sequences = Sequences::new(iterative(2, 2), 1);
    for name in ["a", "b", "c"] {
        sequences.push(single(name), now);
    }
    let mut order = vec![run(&mut sequences, now, &["a", "b"])];
    order.push(run(&mut sequences, now, &["b"]));
    assert_eq!(sequences.take_lost().len(), 1, "the states of a sequence end with it");
    order.push(run(&mut sequences, now, &["b"]));
    order.push(run(&mut sequences, now, &[]));
    assert_eq!(order, ["a! b!", "a b", "c! b", "b"], "a leaves its slot to c");
    assert_eq!(decide(&mut sequences, now, &[1]), "idle");
    assert!(sequences.streams.is_empty() && sequences.open.is_empty());
}

#[test]
fn a_rescheduled_request_waits_behind_those_of_other_sequences() {
    let now = Instant::now();
    let mut sequences = Sequences::new(iterative(2, 1), 1);
    sequences.push(single("a"), now);
    sequences.push(single("b"), now);
    let order: Vec<String> = (0..4).map(|_| run(&mut sequences, now, &["a", "b"])).collect();
    assert_eq!(order, ["a!", "b!", "a", "b"]);
}

#[test]
fn a_cancelled_request_is_not_scheduled_again() {
    let now = Instant::now();
    let mut sequences = Sequences::new(iterative(1, 1), 1);
    let gone = single("a");
    let cancellation = gone.cancellation.clone();
    sequences.push(gone, now);
    assert_eq!(run(&mut sequences, now, &["a"]), "a!");
    cancellation.cancel();
    sequences.reject_cancelled();
    assert_eq!(rejected(&mut sequences), ["Cancelled: "]);
    assert!(sequences.streams.is_empty() && sequences.open.is_empty());
}

#[test]
fn only_iterative_models_schedule_again() {
    let now = Instant::now();
    let mut sequences = Sequences::new(oldest(1, 1, 0), 1);
    sequences.push(of(1, "a", START | END), now);
    assert_eq!(run(&mut sequences, now, &["1a"]), "1a!");
    let text = rejected(&mut sequences).join("");
    assert!(text.contains("not configured to handle such a flag"), "{text}");
}

#[test]
fn a_hold_counts_the_slots_and_the_backlog() {
    let now = Instant::now();
    let hold = Hold { queued: 2, backlog: 1 };
    let mut sequences = Sequences::new(SequenceBatching { hold, ..direct(1, 0, 0.0) }, 1);
    sequences.push(of(1, "a", START), now);
    sequences.push(of(1, "b", END), now);
    assert_eq!(decide(&mut sequences, now, &[1]), "idle", "nothing in the backlog");
    sequences.push(of(2, "a", START), now);
    assert_eq!(decide(&mut sequences, now, &[1]), "0: 1a");
    sequences.batch_done(0, vec![], now);
    assert_eq!(decide(&mut sequences, now, &[1]), "0: 1b", "over for good");
}
