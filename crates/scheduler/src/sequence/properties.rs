//! The sequence batcher under random scripts of clients, with what must hold whatever happens.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use nereid_inference::{Code, CorrelationId, Request, SEQUENCE_END, SEQUENCE_START};

use super::{SequenceBatching, Sequences, Strategy};
use crate::testing::{Census, Random, number, us};
use crate::{Dispatch, Hold, Rejected, Step};

/// What the script knows about a request that it sent.
struct Sent {
    /// Which sequence it belongs to; a restarted one counts on.
    sequence: usize,
    since: Instant,
    columns: i64,
    timeout_us: u64,
}

/// A client that sends one sequence after another, without waiting for answers.
#[derive(Default)]
struct Client {
    sequence: usize,
    left: u64,
    next: Option<Instant>,
}

struct World {
    settings: SequenceBatching,
    sequences: Sequences,
    census: Census,
    clients: Vec<Client>,
    begun: usize,
    sent: HashMap<usize, Sent>,
    /// Requests on each instance, and when it will be done with them.
    busy: Vec<Option<(Instant, Vec<Request>)>>,
    now: Instant,
    /// The requests of each sequence that are neither rejected nor running.
    waiting: BTreeMap<usize, Vec<usize>>,
    instance_of: HashMap<usize, usize>,
    runs: usize,
}

fn settings(random: &mut Random) -> SequenceBatching {
    let slots = random.pick(&[1, 2, 4]);
    let max_queue_delay = us(random.pick(&[0, 0, 200]));
    let (strategy, max_batch_size) = if random.once_in(2) {
        let minimum_slot_utilization = random.pick(&[0.0, 0.5, 1.0]);
        (Strategy::Direct { max_queue_delay, minimum_slot_utilization }, slots)
    } else {
        let preferred_batch_sizes = random.pick(&[&[][..], &[2]]).to_vec();
        (Strategy::Oldest { preferred_batch_sizes, max_queue_delay }, random.pick(&[1, 2, 8]))
    };
    let max_sequence_idle = us(random.pick(&[50, 1000]));
    let (ragged_inputs, iterative) = (vec![], random.once_in(3));
    SequenceBatching {
        strategy,
        slots,
        max_batch_size,
        max_sequence_idle,
        ragged_inputs,
        iterative,
        hold: Hold::default(),
    }
}

impl World {
    fn new(random: &mut Random) -> Self {
        let settings = settings(random);
        let instances = random.pick(&[1, 2]);
        let now = Instant::now();
        let client = || Client { next: Some(now), ..Client::default() };
        Self {
            sequences: Sequences::new(settings.clone(), instances),
            settings,
            census: Census::default(),
            clients: (0..6).map(|_| client()).collect(),
            begun: 0,
            sent: HashMap::new(),
            busy: (0..instances).map(|_| None).collect(),
            now,
            waiting: BTreeMap::new(),
            instance_of: HashMap::new(),
            runs: 0,
        }
    }

    fn send(&mut self, random: &mut Random, client: usize) {
        let columns = random.pick(&[4, 4, 4, 5]);
        let mut request = self.census.request(1, columns);
        let state = &mut self.clients[client];
        request.correlation = match client {
            0 => CorrelationId::Text("zero".into()),
            client => CorrelationId::Number(client as u64),
        };
        request.timeout_us = random.pick(&[0, 0, 100]);
        if random.once_in(60) {
            request.cancellation.cancel();
        }
        if state.left == 0 || random.once_in(40) {
            // Now and then without having ended the one before.
            let goes_on = state.left > 0 && self.sequences.open.contains_key(&request.correlation);
            if !goes_on {
                state.sequence = self.begun;
                self.begun += 1;
            }
            state.left = 1 + random.below(5);
            request.flags |= SEQUENCE_START;
        }
        state.left -= 1;
        if state.left == 0 {
            request.flags |= SEQUENCE_END;
        }
        if self.settings.iterative {
            // Clients of such a model know of no sequences; each request is one.
            (request.correlation, request.flags) = (CorrelationId::None, 0);
            (state.sequence, state.left) = (self.begun, 0);
            self.begun += 1;
        }
        state.next = (self.begun < 40).then(|| self.now + us(random.pick(&[1, 10, 100, 2000])));
        let sequence = state.sequence;
        let timeout_us = request.timeout_us;
        let number = number(&request);
        self.sent.insert(number, Sent { sequence, since: self.now, columns, timeout_us });
        self.waiting.entry(sequence).or_default().push(number);
        self.sequences.push(request, self.now);
    }

    /// What a pool does: hands out batches until there is nothing to do. Returns when to come again.
    fn pump(&mut self, random: &mut Random) -> Option<Instant> {
        self.sequences.reject_cancelled();
        loop {
            let places: Vec<usize> =
                self.busy.iter().map(|busy| usize::from(busy.is_none())).collect();
            let step = self.sequences.step(self.now, &places);
            for rejected in self.sequences.take_rejected() {
                self.check_rejected(rejected);
            }
            match step {
                Step::Dispatch(dispatch) => self.check_dispatch(dispatch, random),
                Step::WaitUntil(until) => {
                    assert!(until > self.now, "waiting for the past");
                    return Some(until);
                }
                Step::Idle => return None,
            }
        }
    }

    fn check_dispatch(&mut self, dispatch: Dispatch, random: &mut Random) {
        let instance = dispatch.instance;
        let rows = dispatch.requests.len() + dispatch.idle_rows.len();
        assert!(!dispatch.requests.is_empty() && rows <= self.settings.max_batch_size);
        assert!(self.busy[instance].is_none(), "a busy instance");
        let columns = self.sent[&number(&dispatch.requests[0])].columns;
        for request in &dispatch.requests {
            let number = number(request);
            let Sent { sequence, columns: own, .. } = self.sent[&number];
            assert_eq!(own, columns, "shapes of a batch");
            assert!(!request.cancellation.is_cancelled());
            assert_eq!(self.waiting.get_mut(&sequence).unwrap().remove(0), number, "in order");
            let home = *self.instance_of.entry(sequence).or_insert(instance);
            assert_eq!(home, instance, "a sequence has one instance");
        }
        let numbers: Vec<usize> = dispatch.requests.iter().map(number).collect();
        let mut sequences: Vec<usize> = numbers.iter().map(|n| self.sent[n].sequence).collect();
        sequences.sort_unstable();
        sequences.dedup();
        assert_eq!(sequences.len(), numbers.len(), "a sequence runs one request at a time");
        self.busy[instance] = Some((self.now + us(1 + random.below(150)), dispatch.requests));
        self.runs += 1;
    }

    /// What an iterative model wants to see again; it goes in front of its sequence.
    fn give_back(&mut self, random: &mut Random, ran: Vec<Request>) -> Vec<Request> {
        let goes_on = self.settings.iterative;
        let again: Vec<Request> =
            ran.into_iter().filter(|_| goes_on && random.once_in(2)).collect();
        for request in &again {
            if random.once_in(10) {
                request.cancellation.cancel();
            }
            let number = number(request);
            self.waiting.entry(self.sent[&number].sequence).or_default().insert(0, number);
        }
        again
    }

    fn check_rejected(&mut self, Rejected { request, error }: Rejected) {
        let number = number(&request);
        let sent = &self.sent[&number];
        let waiting = self.waiting.get_mut(&sent.sequence).unwrap();
        match (error.code(), error.message()) {
            (Code::Cancelled, _) => {}
            (Code::Unavailable, _) => {
                let expired = self.sent.values().any(|other| {
                    other.sequence == sent.sequence
                        && other.timeout_us > 0
                        && other.since + us(other.timeout_us) == self.now
                });
                assert!(expired, "a timeout on time");
            }
            (code, _) => {
                assert_eq!(code, Code::InvalidArg);
                assert!(request.flags & SEQUENCE_START == 0 && sent.since == self.now);
            }
        }
        waiting.retain(|other| *other != number);
        request.responder.answer(Err(error));
    }

    /// Nobody who has a slot waits longer than the delay while its instance is free.
    fn check_delay(&self) {
        let (Strategy::Direct { max_queue_delay: delay, .. }
        | Strategy::Oldest { max_queue_delay: delay, .. }) = self.settings.strategy;
        for stream in self.sequences.streams.values() {
            let Some(place) = stream.place else { continue };
            let front = stream.waiting.front();
            let late = front.is_some_and(|front| self.now >= front.since + delay);
            assert!(!late || self.busy[place.instance].is_some(), "waited past its delay");
        }
    }

    /// The backlog is empty as long as slots are free, and the silent do not keep theirs.
    fn check_slots(&self) {
        let taken = self.sequences.streams.values().filter(|stream| stream.place.is_some());
        let all = self.settings.slots * self.busy.len();
        assert!(self.sequences.backlog.is_empty() || taken.count() == all);
        for stream in self.sequences.streams.values() {
            let quiet = !stream.running && stream.waiting.is_empty();
            let since = stream.last_seen.filter(|_| quiet);
            let max_idle = self.settings.max_sequence_idle;
            assert!(since.is_none_or(|since| self.now < since + max_idle), "silent for too long");
        }
    }
}

fn run(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let mut world = World::new(&mut random);
    loop {
        for client in 0..world.clients.len() {
            if world.clients[client].next == Some(world.now) {
                world.send(&mut random, client);
            }
        }
        for instance in 0..world.busy.len() {
            if let Some((_, ran)) = world.busy[instance].take_if(|(until, _)| *until == world.now) {
                let again = world.give_back(&mut random, ran);
                world.sequences.batch_done(instance, again, world.now);
            }
        }
        let timer = world.pump(&mut random);
        world.check_delay();
        world.check_slots();
        let done = world.busy.iter().flatten().map(|(until, _)| *until);
        let clients = world.clients.iter().filter_map(|client| client.next);
        let Some(next) = done.chain(clients).chain(timer).min() else { break };
        world.now = next;
    }
    assert!(world.sequences.streams.is_empty() && world.sequences.open.is_empty());
    world.census.assert_all_answered_once();
    world.runs
}

#[test]
fn every_request_is_answered_once_in_order_and_on_its_instance() {
    let runs: usize = (0..500).map(run).sum();
    assert!(runs > 10_000, "the scripts hardly run anything: {runs}");
}
