//! The sequence batcher: requests of a sequence go to one instance, in order, one at a time.
//!
//! Each instance has slots, and a sequence keeps the slot that it was given until it ends; those
//! that find none wait in the backlog. A strategy decides which slots run together. An instance
//! must not be offered as free before all that it was given is answered: then a sequence never has
//! two requests in flight.

mod direct;
mod oldest;
mod settings;
mod slots;
mod stream;

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use nereid_inference::{CorrelationId, Error, Request, Result, SEQUENCE_END, SEQUENCE_START};

pub use settings::{SequenceBatching, Strategy};

use crate::cancelled::Cancelled;
use crate::fit::Limits;
use crate::step::{Dispatch, Rejected, Step, earlier, wait};
use slots::{Place, Slots};
use stream::{Stream, Waiting};

/// All sequences of a model.
pub struct Sequences {
    settings: SequenceBatching,
    limits: Limits,
    /// By a key that counts up, since a sequence that has ended may still wait for an instance
    /// when another one begins under its correlation ID.
    streams: HashMap<u64, Stream>,
    /// The sequences that take further requests.
    open: HashMap<CorrelationId, u64>,
    slots: Slots,
    /// The sequences without a slot, the oldest first.
    backlog: BTreeSet<u64>,
    /// The sequences that have a request on each instance.
    running: Vec<Vec<u64>>,
    /// When sequences end unless something happens before.
    timers: BTreeSet<(Instant, u64)>,
    /// Counts sequences.
    begun: u64,
    /// Counts requests.
    arrivals: u64,
    /// Counts the correlation IDs that were made up here.
    ids_given: u64,
    rejected: Vec<Rejected>,
    cancelled: Cancelled,
    lost: Vec<u64>,
}

/// What a strategy decides for one free instance.
enum Plan {
    /// Run the front requests of these slots. Slots between them get idle rows if `rows` is set.
    Run {
        slots: Vec<usize>,
        rows: bool,
    },
    WaitUntil(Option<Instant>),
}

impl Sequences {
    pub fn new(settings: SequenceBatching, instances: usize) -> Self {
        let preferred_batch_sizes = match &settings.strategy {
            Strategy::Oldest { preferred_batch_sizes, .. } => preferred_batch_sizes.clone(),
            Strategy::Direct { .. } => Vec::new(),
        };
        let limits = Limits {
            max_batch_size: settings.max_batch_size,
            preferred_batch_sizes,
            ragged_inputs: settings.ragged_inputs.clone(),
        };
        let mut sequences = Self {
            slots: Slots::new(settings.slots.max(1)),
            running: Vec::new(),
            settings,
            limits,
            streams: HashMap::new(),
            open: HashMap::new(),
            backlog: BTreeSet::new(),
            timers: BTreeSet::new(),
            begun: 0,
            arrivals: 0,
            ids_given: 0,
            rejected: Vec::new(),
            cancelled: Cancelled::default(),
            lost: Vec::new(),
        };
        (0..instances).for_each(|instance| sequences.add_instance(instance));
        sequences
    }

    /// Adds an instance, in the place of one that was retired and is vacant, or behind all. Those
    /// who wait for a slot move up.
    pub fn add_instance(&mut self, instance: usize) {
        self.slots.add(instance);
        self.running.resize(self.running.len().max(instance + 1), Vec::new());
        while self.move_up() {}
    }

    /// Lets an instance have no further sequences; those that it has stay with it to their ends.
    pub fn retire_instance(&mut self, instance: usize) {
        self.slots.retire(instance);
    }

    /// Whether no sequence is at the instance.
    pub fn is_vacant(&self, instance: usize) -> bool {
        self.slots.is_vacant(instance)
    }

    /// Takes a request in, or rejects it if it belongs to no sequence.
    pub fn push(&mut self, mut request: Request, now: Instant) {
        if self.settings.iterative && request.correlation == CorrelationId::None {
            request.correlation = self.unused_id();
            request.flags = SEQUENCE_START;
        }
        match self.key_of(&request) {
            Ok(key) => self.append(key, request, now),
            Err(error) => self.rejected.push(Rejected::refused(request, error)),
        }
    }

    /// The sequence that a request belongs to; it begins here if the request says so.
    fn key_of(&mut self, request: &Request) -> Result<u64> {
        let model = &request.model;
        if request.batch_size > 1 {
            return Err(Error::invalid_arg(format!(
                "inference request to model '{model}' must specify batch-size 1 due to \
                 requirements of sequence batcher"
            )));
        }
        let id = match &request.correlation {
            CorrelationId::Number(id) if *id != 0 => id.to_string(),
            CorrelationId::Text(id) if !id.is_empty() => id.clone(),
            _ => {
                return Err(Error::invalid_arg(format!(
                    "inference request to model '{model}' must specify a non-zero or non-empty \
                     correlation ID"
                )));
            }
        };
        // A start within a sequence begins it anew, in the same slot, behind what it has sent.
        if let Some(&key) = self.open.get(&request.correlation) {
            return Ok(key);
        }
        if request.flags & SEQUENCE_START == 0 {
            return Err(Error::invalid_arg(format!(
                "inference request for sequence {id} to model '{model}' must specify the START \
                 flag on the first request of the sequence"
            )));
        }
        Ok(self.begin(request.correlation.clone()))
    }

    /// A correlation ID for a request that came without one.
    fn unused_id(&mut self) -> CorrelationId {
        loop {
            self.ids_given += 1;
            let id = CorrelationId::Number(self.ids_given);
            if !self.open.contains_key(&id) {
                return id;
            }
        }
    }

    fn begin(&mut self, id: CorrelationId) -> u64 {
        let key = self.begun;
        self.begun += 1;
        self.open.insert(id.clone(), key);
        let place = self.slots.take(key);
        if place.is_none() {
            self.backlog.insert(key);
        }
        self.streams.insert(key, Stream::new(id, place));
        key
    }

    fn append(&mut self, key: u64, request: Request, now: Instant) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        // Only its model knows when an iterative sequence ends.
        if request.flags & SEQUENCE_END != 0 && !self.settings.iterative {
            stream.ended = true;
            self.open.remove(&request.correlation);
        }
        let number = self.arrivals;
        self.arrivals += 1;
        self.cancelled.join(&request);
        stream.push(Waiting { request, since: now, number });
        self.refresh(key);
    }

    /// How many requests wait, in slots and in the backlog.
    pub fn waiting(&self) -> usize {
        self.streams.values().map(|stream| stream.waiting.len()).sum()
    }

    /// Decides what runs next. `places` says how many batches each instance takes now.
    pub fn step(&mut self, now: Instant, places: &[usize]) -> Step {
        self.expire(now);
        let mut until = self.timers.first().map(|(timer, _)| *timer);
        if self.is_held() {
            return wait(until);
        }
        for instance in (0..places.len()).filter(|&instance| places[instance] > 0) {
            if self.slots.ready(instance).is_empty() {
                continue;
            }
            match self.plan(instance, now) {
                Plan::Run { slots, rows } => return self.dispatch(instance, &slots, rows),
                Plan::WaitUntil(moment) => until = earlier(until, moment),
            }
        }
        wait(until)
    }

    fn is_held(&mut self) -> bool {
        if self.settings.hold.is_over() {
            return false;
        }
        let (mut queued, mut backlog) = (0, 0);
        for stream in self.streams.values() {
            let count = if stream.place.is_some() { &mut queued } else { &mut backlog };
            *count += stream.waiting.len();
        }
        self.settings.hold.holds(queued, backlog)
    }

    fn plan(&self, instance: usize, now: Instant) -> Plan {
        match &self.settings.strategy {
            Strategy::Direct { max_queue_delay, minimum_slot_utilization } => {
                self.plan_direct(instance, now, *max_queue_delay, *minimum_slot_utilization)
            }
            Strategy::Oldest { max_queue_delay, .. } => {
                self.plan_oldest(instance, now, *max_queue_delay)
            }
        }
    }

    /// The front request of a slot that is ready.
    fn front(&self, instance: usize, slot: usize) -> Option<&Waiting> {
        self.streams.get(&self.slots.occupant(Place { instance, slot })?)?.waiting.front()
    }

    fn dispatch(&mut self, instance: usize, slots: &[usize], rows: bool) -> Step {
        let mut dispatch = Dispatch { instance, ..Dispatch::default() };
        for &slot in slots {
            let place = Place { instance, slot };
            let Some(key) = self.slots.occupant(place) else { continue };
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            let Some(Waiting { request, .. }) = stream.pop() else { continue };
            stream.running = true;
            let over = stream.is_over();
            self.running[instance].push(key);
            dispatch.sequences.push(key);
            dispatch.requests.push(request);
            if over {
                self.remove(key);
            } else {
                self.refresh(key);
            }
        }
        if rows {
            let rows = slots.last().map_or(0, |last| last + 1);
            dispatch.idle_rows = (0..rows).filter(|row| !slots.contains(row)).collect();
        }
        Step::Dispatch(dispatch)
    }

    /// The instance has answered all that it was given, but for what is to run again.
    pub fn batch_done(&mut self, instance: usize, rescheduled: Vec<Request>, now: Instant) {
        let ran = std::mem::take(&mut self.running[instance]);
        for request in rescheduled {
            self.reschedule(request, &ran, now);
        }
        for key in ran {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            stream.running = false;
            stream.last_seen = Some(now);
            if self.settings.iterative && stream.waiting.is_empty() {
                self.remove(key);
                self.lost.push(key);
            } else {
                self.refresh(key);
            }
        }
    }

    /// Puts a request in front of those of its sequence, behind those of all others.
    fn reschedule(&mut self, mut request: Request, ran: &[u64], now: Instant) {
        let key = self.open.get(&request.correlation).filter(|key| ran.contains(key));
        let stream = key.and_then(|key| self.streams.get_mut(key));
        match stream.filter(|_| self.settings.iterative) {
            Some(stream) => {
                request.flags = 0;
                self.cancelled.join(&request);
                stream.waiting.push_front(Waiting { request, since: now, number: self.arrivals });
                self.arrivals += 1;
            }
            // Its sequence has ended meanwhile, as another request of it was cancelled.
            None if self.settings.iterative => {
                self.rejected.push(Rejected { request, error: Error::cancelled() });
            }
            None => self.rejected.push(Rejected::not_iterative(request)),
        }
    }

    /// Ends the sequences whose clients went silent, and those whose requests have waited too long
    /// for a slot.
    fn expire(&mut self, now: Instant) {
        while let Some(&(timer, key)) = self.timers.first()
            && timer <= now
        {
            self.lose(
                key,
                &Error::unavailable("timeout of the corresponding sequence has been expired"),
            );
        }
    }

    /// Ends the sequences of which a client has given up a request. Cheap when there are none.
    pub fn reject_cancelled(&mut self) {
        if !self.cancelled.search() {
            return;
        }
        let ready = self.slots.all_ready().filter_map(|place| self.slots.occupant(place));
        let cancelled: Vec<u64> = ready
            .chain(self.backlog.iter().copied())
            .filter(|key| self.streams.get(key).is_some_and(Stream::is_cancelled))
            .collect();
        for key in cancelled {
            self.lose(key, &Error::cancelled());
        }
    }

    /// Ends a sequence before its end, rejecting what it has waiting.
    fn lose(&mut self, key: u64, error: &Error) {
        let Some(stream) = self.remove(key) else { return };
        for waiting in stream.waiting {
            self.rejected.push(Rejected { request: waiting.request, error: error.clone() });
        }
        self.lost.push(key);
    }

    /// Forgets a sequence and gives its slot to the next one.
    fn remove(&mut self, key: u64) -> Option<Stream> {
        let stream = self.streams.remove(&key)?;
        if !stream.ended {
            self.open.remove(&stream.id);
        }
        if let Some(timer) = stream.timer {
            self.timers.remove(&(timer, key));
        }
        match stream.place {
            None => {
                self.backlog.remove(&key);
            }
            Some(place) => self.release(place),
        }
        Some(stream)
    }

    fn release(&mut self, place: Place) {
        self.slots.free(place);
        self.move_up();
    }

    /// Gives a free slot, if there is one, to the sequence that has waited longest.
    fn move_up(&mut self) -> bool {
        let Some(&next) = self.backlog.first() else { return false };
        let Some(place) = self.slots.take(next) else { return false };
        self.backlog.pop_first();
        if let Some(stream) = self.streams.get_mut(&next) {
            stream.place = Some(place);
        }
        self.refresh(next);
        true
    }

    /// Brings slots and timers up to date with a sequence.
    fn refresh(&mut self, key: u64) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if let Some(place) = stream.place {
            self.slots.set_front(place, stream.waiting.front().map(|waiting| waiting.number));
        }
        let timer = stream.next_timer(self.settings.max_sequence_idle);
        if timer != stream.timer {
            if let Some(old) = stream.timer {
                self.timers.remove(&(old, key));
            }
            self.timers.extend(timer.map(|timer| (timer, key)));
            stream.timer = timer;
        }
    }

    /// What was rejected since the last call.
    pub fn take_rejected(&mut self) -> Vec<Rejected> {
        std::mem::take(&mut self.rejected)
    }

    /// The sequences that ended without their last request since the last call, by the keys that
    /// [`Dispatch::sequences`] names.
    pub fn take_lost(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
