//! Several models that play together, by a clock that the test moves: ensembles and their steps,
//! models that call others, instances with a share in the rate limiter.
//!
//! Each has a section `model NAME`: a line such as `1 instance, a batch takes 50 ms`, which may go on
//! with `, calls NAME` or `, answers 3 times` (decoupled: so often after each other), and below it
//! its configuration. The section `supply` turns the rate limiter on; it lists what there is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nereid_backend::Service;
use nereid_inference::{
    Answer, DataType, Request, Responder, Response, ResponseSink, Tensor, Times,
};
use nereid_model_config::ModelConfig;
use nereid_scheduler::{Hold, Scheduler, Step, Supply, Urgent, earlier};
use tokio::runtime::{Builder, Runtime};

use super::event::Event;
use super::{Scenario, instances};
use crate::ensemble::Ensemble;
use crate::latencies::Latencies;
use crate::limits::{Limiter, Limits};
use crate::pool::limited_step;
use crate::scheduling::Scheduling;
use crate::statistics::Recorder;

/// What somebody leaves for the play to go on with.
enum News {
    Asked(Box<Request>),
    /// The call of an instance of a model.
    Answered(String, usize),
    /// A response to a request of a client, or its end.
    Told(String),
}

#[derive(Default)]
struct Inbox(Mutex<Vec<News>>);

impl Inbox {
    fn put(&self, news: News) {
        self.0.lock().unwrap().push(news);
    }

    fn take(&self) -> Vec<News> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Service for Inbox {
    fn infer(&self, request: Request) {
        self.put(News::Asked(Box::new(request)));
    }
}

/// Whoever waits for the answer of a model's call.
struct Caller(Arc<Inbox>, String, usize);

impl ResponseSink for Caller {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        if answer.last {
            self.0.put(News::Answered(self.1.clone(), self.2));
        }
    }
}

/// A client, by the name of its request.
struct Client(Arc<Inbox>, String);

impl ResponseSink for Client {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        let what = match (&answer.response, answer.last) {
            (Some(Err(error)), _) => format!("fails: {}", error.message()),
            (_, true) => "is answered".to_owned(),
            (_, false) => "has a response".to_owned(),
        };
        self.0.put(News::Told(format!("{} {what}", self.1)));
    }
}

struct Member {
    scheduler: Scheduler,
    limits: Option<Limits>,
    takes: Duration,
    calls: Option<String>,
    /// How often it answers; `None`: it is not decoupled.
    answers: Option<usize>,
    busy: Vec<Option<Run>>,
    /// How many of the requests that wait a model has made.
    called: usize,
}

struct Run {
    /// `None` while it waits for a call.
    until: Option<Instant>,
    requests: Vec<Request>,
    answers_left: usize,
}

pub(super) struct Company {
    members: BTreeMap<String, Member>,
    ensembles: BTreeMap<String, Arc<Ensemble>>,
    limiter: Option<Arc<Limiter>>,
    inbox: Arc<Inbox>,
    start: Instant,
    now: Instant,
    schedule: Vec<String>,
    /// For the ensembles; nothing of it ever runs.
    runtime: Runtime,
}

impl Company {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let supplies = scenario
            .sections
            .get("supply")
            .map(|lines| lines.iter().map(|line| supply(line)).collect());
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let now = Instant::now();
        let mut company = Self {
            members: BTreeMap::new(),
            ensembles: BTreeMap::new(),
            limiter: supplies.map(Limiter::new),
            inbox: Arc::default(),
            start: now,
            now,
            schedule: Vec::new(),
            runtime,
        };
        let models = || {
            let sections = scenario.sections.iter();
            sections.filter_map(|(name, lines)| Some((name.strip_prefix("model ")?, lines)))
        };
        for (name, lines) in models().filter(|(_, lines)| !is_ensemble(lines)) {
            company.add_member(scenario, name, lines);
        }
        for (name, lines) in models().filter(|(_, lines)| is_ensemble(lines)) {
            company.add_ensemble(scenario, name, lines);
        }
        company
    }

    fn add_member(&mut self, scenario: &Scenario, name: &str, lines: &[String]) {
        let (manner, config) = lines.split_first().unwrap();
        let (count, takes) = instances(manner);
        let said = |what: &str| manner.split(", ").find_map(|part| part.strip_prefix(what));
        let config = read(scenario, name, config);
        let scheduling = Scheduling::new(&config, Path::new("."), count, Hold::default()).unwrap();
        let answers = said("answers ").map(|times| times.split(' ').next().unwrap());
        let member = Member {
            scheduler: scheduling.scheduler,
            limits: Limits::new(&config, self.limiter.as_ref()).unwrap(),
            takes: Duration::from_millis(takes),
            calls: said("calls ").map(str::to_owned),
            answers: answers.map(|times| times.parse().unwrap()),
            busy: (0..count).map(|_| None).collect(),
            called: 0,
        };
        self.members.insert(name.to_owned(), member);
    }

    fn add_ensemble(&mut self, scenario: &Scenario, name: &str, lines: &[String]) {
        let config = read(scenario, name, lines);
        let steps = &config.ensemble_scheduling().unwrap().step;
        let decoupled: Vec<bool> =
            steps.iter().map(|step| self.members[&step.model_name].answers.is_some()).collect();
        let recorder = Arc::new(Recorder::new(Latencies::default()));
        let service: Arc<dyn Service> = self.inbox.clone();
        let reactor = self.runtime.handle();
        let ensemble = Ensemble::new(&config, &service, reactor, &recorder, &decoupled);
        self.ensembles.insert(name.to_owned(), ensemble);
    }

    pub(super) fn run(mut self, events: &[String]) -> Vec<String> {
        let mut events = events.iter().map(|line| Event::parse(line)).peekable();
        loop {
            while let Some(event) = events.next_if(|event| self.at(event.at_ms) <= self.now) {
                let model = event.words.iter().find_map(|word| word.strip_prefix("to=")).unwrap();
                let client = Client(self.inbox.clone(), event.words[0].clone());
                self.inbox.put(News::Asked(Box::new(event.request(model, client))));
            }
            let timer = self.settle();
            let arrival = events.peek().map(|event| self.at(event.at_ms));
            match [timer, arrival].into_iter().flatten().min() {
                Some(next) => self.now = next,
                None => return self.schedule,
            }
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// All that happens at this moment. Returns when something will happen next by itself.
    fn settle(&mut self) -> Option<Instant> {
        loop {
            let news = self.inbox.take();
            let quiet = news.is_empty();
            news.into_iter().for_each(|news| self.hear(news));
            let mut next = None;
            let mut moved = false;
            let names: Vec<String> = self.members.keys().cloned().collect();
            for name in &names {
                moved |= self.go_on(name);
                let (started, until) = self.start(name);
                moved |= started;
                next = earlier(next, until);
            }
            if quiet && !moved {
                return earlier(next, self.next_end());
            }
        }
    }

    fn next_end(&self) -> Option<Instant> {
        let runs = self.members.values().flat_map(|member| member.busy.iter().flatten());
        runs.filter_map(|run| run.until).filter(|until| *until > self.now).min()
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Told(what) => self.note(what),
            News::Answered(model, instance) => {
                let member = self.members.get_mut(&model).unwrap();
                let until = self.now + member.takes;
                member.busy[instance].as_mut().unwrap().until = Some(until);
            }
            News::Asked(mut request) => {
                if let Some(ensemble) = self.ensembles.get(&request.model) {
                    return ensemble.submit(*request);
                }
                if request.nesting.caller_holds
                    && let Some(limiter) = &self.limiter
                {
                    limiter.watch_call(&mut request);
                }
                let member = self.members.get_mut(&request.model).unwrap();
                member.called += usize::from(request.nesting.called);
                member.scheduler.push(*request, self.now);
            }
        }
    }

    /// Starts what a model can start. Returns whether anything did, and when it may otherwise.
    fn start(&mut self, name: &str) -> (bool, Option<Instant>) {
        let member = self.members.get_mut(name).unwrap();
        let places: Vec<usize> = member.busy.iter().map(|run| usize::from(run.is_none())).collect();
        let step = match &member.limits {
            None => member.scheduler.step(self.now, &places),
            Some(limits) => {
                let urgent = Urgent(member.called > 0);
                limited_step(limits, &mut member.scheduler, &places, urgent, self.now)
            }
        };
        let mut dispatch = match step {
            Step::Dispatch(dispatch) => dispatch,
            Step::WaitUntil(until) => return (false, Some(until)),
            Step::Idle => return (false, None),
        };
        let instance = dispatch.instance;
        member.called -= dispatch.requests.iter().filter(|r| r.nesting.called).count();
        if let Some(limits) = &member.limits {
            limits.mark(instance, &mut dispatch.requests);
        }
        let ids: Vec<&str> = dispatch.requests.iter().map(|request| request.id.as_str()).collect();
        let mut line = format!("{} on {name}", ids.join(" "));
        if places.len() > 1 {
            line += &format!(" {instance}");
        }
        let first = &dispatch.requests[0];
        let call = member.calls.as_ref().map(|called| {
            let sink = Caller(self.inbox.clone(), name.to_owned(), instance);
            let mut call = Request::new(called, None, Responder::new(Box::new(sink)));
            call.id.clone_from(&first.id);
            call.nesting = first.nesting.call();
            call
        });
        let until = call.is_none().then(|| self.now + member.takes);
        let answers_left = member.answers.unwrap_or(1);
        member.busy[instance] = Some(Run { until, requests: dispatch.requests, answers_left });
        call.into_iter().for_each(|call| self.inbox.put(News::Asked(Box::new(call))));
        self.note(line);
        (true, None)
    }

    /// Answers what a model has done. Returns whether there was anything.
    fn go_on(&mut self, name: &str) -> bool {
        let now = self.now;
        let member = self.members.get_mut(name).unwrap();
        let mut notes = Vec::new();
        let mut moved = false;
        for (instance, busy) in member.busy.iter_mut().enumerate() {
            let Some(run) = busy.as_mut().filter(|run| run.until.is_some_and(|at| at <= now))
            else {
                continue;
            };
            if member.answers.is_some() && run.answers_left > 0 {
                let request = &mut run.requests[0];
                if request.window.as_ref().is_some_and(|window| window.full_since().is_some()) {
                    continue;
                }
                let response = response(request);
                request.responder.send(Ok(response));
                notes.push(format!("{name} sends for {}", request.id));
                run.answers_left -= 1;
                run.until = Some(now + member.takes);
                moved = true;
                continue;
            }
            let Some(run) = busy.take() else { continue };
            moved = true;
            for request in run.requests {
                match member.answers {
                    Some(_) => request.responder.finish(),
                    None => {
                        let response = response(&request);
                        request.responder.answer(Ok(response));
                    }
                }
            }
            member.scheduler.batch_done(instance, Vec::new(), || now);
            if let Some(limits) = &member.limits {
                let again = member.scheduler.waiting() > 0;
                limits.done(instance, again.then_some(Urgent(member.called > 0)));
            }
        }
        notes.into_iter().for_each(|note| self.note(note));
        moved
    }

    fn note(&mut self, what: String) {
        let ms = (self.now - self.start).as_millis();
        self.schedule.push(format!("{ms:4} ms  {what}"));
    }
}

fn is_ensemble(lines: &[String]) -> bool {
    lines.iter().any(|line| line.contains("ensemble_scheduling"))
}

fn read(scenario: &Scenario, name: &str, lines: &[String]) -> ModelConfig {
    let mut config = nereid_model_config::parse(&lines.join("\n"), &scenario.path).unwrap();
    nereid_model_config::fill_defaults(&mut config, name, None, 0);
    config
}

/// `R 2`
fn supply(line: &str) -> Supply {
    let (resource, count) = line.split_once(' ').unwrap();
    Supply { resource: resource.to_owned(), count: count.parse().unwrap(), device: None }
}

fn response(request: &Request) -> Response {
    let tensor = |name: &String| Tensor {
        name: name.clone(),
        datatype: DataType::Int32,
        shape: vec![1],
        data: vec![0; 4].into(),
    };
    Response::new(request.requested_outputs.iter().map(tensor).collect())
}
