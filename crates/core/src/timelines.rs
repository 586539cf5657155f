//! Printed schedules: what becomes of scripts of requests under configurations, by a clock that the
//! test moves. `tests/timelines` has a file for each, with the schedule that is expected and what a
//! Triton server did with the same requests (recorded by `scripts/timelines.py`).
//!
//! `UPDATE_TIMELINES=1` writes the schedules anew.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nereid_inference::{
    Answer, Cancellation, DataType, Request, Responder, ResponseSink, SEQUENCE_END, SEQUENCE_START,
    Tensor, Times,
};
use nereid_scheduler::{Dispatch, Rejected, Scheduler, Step};

use crate::scheduling::Scheduling;

/// A file: text in front, then sections of indented lines.
struct Scenario {
    path: PathBuf,
    text: String,
    sections: BTreeMap<String, Vec<String>>,
}

impl Scenario {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut sections = BTreeMap::<String, Vec<String>>::new();
        let mut name = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            if let Some(line) = line.strip_prefix("    ") {
                sections.get_mut(&name).unwrap().push(line.to_owned());
            } else {
                name = line.to_owned();
                sections.insert(name.clone(), Vec::new());
            }
        }
        Self { path: path.to_owned(), text, sections }
    }

    fn section(&self, name: &str) -> &[String] {
        self.sections.get(name).map_or(&[], Vec::as_slice)
    }

    /// `2 instances, a batch takes 50 ms`
    fn instances(&self) -> (usize, u64) {
        let line = &self.section("model")[0];
        let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
        (numbers.next().unwrap() as usize, numbers.next().unwrap())
    }

    fn update(&self, schedule: &[String]) {
        let (before, rest) = self.text.split_once("\nschedule\n").unwrap();
        let old: usize =
            rest.lines().take_while(|line| !line.is_empty()).map(|l| l.len() + 1).sum();
        let after = rest.get(old..).unwrap_or_default();
        let lines: String = schedule.iter().fold(String::new(), |mut lines, line| {
            let _ = writeln!(lines, "    {line}");
            lines
        });
        std::fs::write(&self.path, format!("{before}\nschedule\n{lines}{after}")).unwrap();
    }
}

struct Ignore;

impl ResponseSink for Ignore {
    fn deliver(&mut self, _: Answer, _: &Times) {}
}

/// Something that a client does, such as `20 b rows=2 priority=1` or `30 cancel b`.
struct Event {
    at_ms: u64,
    words: Vec<String>,
}

impl Event {
    fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace().map(str::to_owned);
        Self { at_ms: words.next().unwrap().parse().unwrap(), words: words.collect() }
    }

    fn value(&self, key: &str) -> Option<u64> {
        let found = self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.map(|value| value.parse().unwrap())
    }

    fn says(&self, word: &str) -> bool {
        self.words[1..].iter().any(|other| other == word)
    }

    fn request(&self) -> Request {
        let mut request = Request::new("m", None, Responder::new(Box::new(Ignore)));
        request.id.clone_from(&self.words[0]);
        request.batch_size = self.value("rows").unwrap_or(1) as usize;
        request.priority = self.value("priority").unwrap_or(0);
        request.timeout_us = 1000 * self.value("timeout").unwrap_or(0);
        request.correlation = self.value("sequence").unwrap_or(0).into();
        let flag = |word, flag| if self.says(word) { flag } else { 0 };
        request.flags = flag("start", SEQUENCE_START) | flag("end", SEQUENCE_END);
        let columns = self.value("columns").unwrap_or(1) as i64;
        let tensor = |name: &str| Tensor {
            name: name.to_owned(),
            datatype: DataType::Int32,
            shape: vec![request.batch_size as i64, columns],
            data: vec![0; 4 * request.batch_size * columns as usize].into(),
        };
        request.inputs = vec![tensor("IN")];
        request.inputs.extend(self.says("more").then(|| tensor("MORE")));
        request
    }
}

/// A scheduler with clients and instances around it.
struct Play {
    scheduler: Scheduler,
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
    fn new(scenario: &Scenario) -> Self {
        let config = scenario.section("config").join("\n");
        let mut config = nereid_model_config::parse(&config, &scenario.path).unwrap();
        nereid_model_config::fill_defaults(&mut config, "m", None);
        let (instances, takes) = scenario.instances();
        let scheduling = Scheduling::new(&config, Path::new("."), instances).unwrap();
        let now = Instant::now();
        Self {
            scheduler: scheduling.scheduler,
            takes: Duration::from_millis(takes),
            start: now,
            now,
            busy: (0..instances).map(|_| None).collect(),
            cancellations: HashMap::new(),
            again: HashMap::new(),
            schedule: Vec::new(),
        }
    }

    fn run(mut self, events: &[String]) -> Vec<String> {
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
        let request = event.request();
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

/// What a schedule says but for times, instances and reasons, as it is recorded from Triton.
fn outcome(line: &str) -> String {
    let (_, what) = line.split_once(" ms  ").unwrap();
    if what.contains("rejected") { what } else { what.split(" on ").next().unwrap() }.to_owned()
}

fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/timelines");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .filter(|path| path.extension().is_some())
        .map(|path| Scenario::read(path))
        .collect()
}

#[test]
fn schedules_are_as_expected() {
    let update = std::env::var_os("UPDATE_TIMELINES").is_some();
    let scenarios = scenarios();
    assert!(scenarios.len() > 10, "the scenarios are not there");
    for scenario in scenarios {
        let schedule = Play::new(&scenario).run(scenario.section("requests"));
        if update {
            scenario.update(&schedule);
        } else {
            let expected = scenario.section("schedule");
            assert_eq!(schedule.join("\n"), expected.join("\n"), "{}", scenario.path.display());
        }
    }
}

#[test]
fn schedules_are_tritons_unless_their_file_says_why_not() {
    for scenario in scenarios() {
        let Some(theirs) = scenario.sections.get("triton") else { continue };
        let ours = scenario.section("schedule").iter().map(|line| outcome(line));
        // Clients know without being told.
        let ours: Vec<String> =
            ours.filter(|line| !line.ends_with("rejected: Cancelled")).collect();
        let differs = !scenario.section("differs").is_empty();
        assert_eq!(ours != *theirs, differs, "{}: {ours:?}", scenario.path.display());
    }
}
