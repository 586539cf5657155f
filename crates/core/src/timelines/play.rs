//! One model by a clock that the test moves.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use nereid_inference::{Cancellation, Request};
use nereid_scheduler::{Dispatch, Rejected, Scheduler, Step};

use super::event::{Event, Ignore};
use super::{Scenario, instances};
use crate::latency_target::LatencyTarget;
use crate::scheduling::Scheduling;

/// A scheduler with clients and instances around it.
pub(super) struct Play {
    scheduler: Scheduler,
    latency_target: Option<LatencyTarget>,
    takes: Duration,
    start: Instant,
    now: Instant,
    /// The batch on each instance, and when it will be done.
    busy: Vec<Option<(Instant, Vec<Request>)>>,
    cancellations: HashMap<String, Cancellation>,
    /// How often requests are to be given back.
    again: HashMap<String, u64>,
    schedule: Vec<String>,
}

impl Play {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let config = scenario.section("config").join("\n");
        let mut config = nereid_model_config::parse(&config, &scenario.path).unwrap();
        nereid_model_config::fill_defaults(&mut config, "m", None, 0);
        let (instances, takes) = instances(&scenario.section("model")[0]);
        let scheduling =
            Scheduling::new(&config, Path::new("."), instances, scenario.hold()).unwrap();
        let now = Instant::now();
        Self {
            scheduler: scheduling.scheduler,
            latency_target: LatencyTarget::new(&config).unwrap(),
            takes: Duration::from_millis(takes),
            start: now,
            now,
            busy: (0..instances).map(|_| None).collect(),
            cancellations: HashMap::new(),
            again: HashMap::new(),
            schedule: Vec::new(),
        }
    }

    pub(super) fn run(mut self, events: &[String]) -> Vec<String> {
        let mut events = events.iter().map(|line| Event::parse(line)).peekable();
        loop {
            self.finish();
            while let Some(event) = events.next_if(|event| self.at(event.at_ms) <= self.now) {
                self.happen(&event);
            }
            let timer = self.pump();
            let arrival = events.peek().map(|event| self.at(event.at_ms));
            let done = self.busy.iter().flatten().map(|(until, _)| *until).min();
            match [timer, arrival, done].into_iter().flatten().min() {
                Some(next) => self.now = next,
                None => return self.schedule,
            }
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn happen(&mut self, event: &Event) {
        if event.words[0] == "cancel" {
            self.cancellations[&event.words[1]].cancel();
            return;
        }
        let mut request = event.request("m", Ignore);
        request.responder.times.arrived = self.now;
        if let Some(target) = self.latency_target {
            target.apply(&mut request);
        }
        self.cancellations.insert(request.id.clone(), request.cancellation.clone());
        self.again.insert(request.id.clone(), event.value("again").unwrap_or(0));
        self.scheduler.push(request, self.now);
    }

    /// Ends the batches whose time has come.
    fn finish(&mut self) {
        for instance in 0..self.busy.len() {
            let done = self.busy[instance].take_if(|(until, _)| *until <= self.now);
            let Some((_, requests)) = done else { continue };
            let again = requests.into_iter().filter_map(|request| {
                let left = self.again.get_mut(&request.id).filter(|left| **left > 0)?;
                *left -= 1;
                Some(request)
            });
            let (again, now) = (again.collect(), self.now);
            self.scheduler.batch_done(instance, again, || now);
        }
    }

    /// What a pool does. Returns when to come again.
    fn pump(&mut self) -> Option<Instant> {
        self.scheduler.reject_cancelled();
        loop {
            let places: Vec<usize> =
                self.busy.iter().map(|busy| usize::from(busy.is_none())).collect();
            let step = self.scheduler.step(self.now, &places);
            for Rejected { request, error } in self.scheduler.take_rejected() {
                let reason = match error.message() {
                    "" => error.code().as_str(),
                    text => text,
                };
                self.note(format!("{} rejected: {reason}", request.id));
            }
            match step {
                Step::Dispatch(dispatch) => self.start(dispatch),
                Step::WaitUntil(until) => return Some(until),
                Step::Idle => return None,
            }
        }
    }

    fn start(&mut self, dispatch: Dispatch) {
        let Dispatch { instance, requests, idle_rows, closed, .. } = dispatch;
        let mut ids: Vec<&str> = requests.iter().map(|request| request.id.as_str()).collect();
        idle_rows.iter().for_each(|&row| ids.insert(row, "-"));
        let why = closed.map_or(String::new(), |closed| format!(" ({})", closed.as_str()));
        let line = format!("{} on {instance}{why}", ids.join(" "));
        self.note(line);
        self.busy[instance] = Some((self.now + self.takes, requests));
    }

    fn note(&mut self, what: String) {
        let ms = (self.now - self.start).as_millis();
        self.schedule.push(format!("{ms:4} ms  {what}"));
    }
}
