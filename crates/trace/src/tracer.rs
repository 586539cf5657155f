//! Decides which requests are traced, and brings traces where they go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nereid_inference::{Error, Result};

use crate::clock::Clock;
use crate::context::SpanContext;
use crate::file::File;
use crate::otlp::Exporter;
use crate::record::{Protocol, Record, RequestTrace};
use crate::settings::{Change, Level, Mode, Settings, TraceConfig};
use crate::span::{Family, spans};

/// Traces requests. Copies are the same tracer.
#[derive(Clone)]
pub struct Tracer(Arc<Shared>);

pub(crate) struct Shared {
    /// Whether anything is traced at all: what a request that is not traced pays.
    on: AtomicBool,
    mode: Mode,
    clock: Clock,
    ids: AtomicU64,
    rules: Mutex<Rules>,
    output: Mutex<Output>,
}

enum Output {
    File(File),
    Spans(Exporter),
}

struct Rules {
    at_start: Settings,
    all: Rule,
    /// Of models that have settings of their own.
    models: HashMap<String, (Change, Rule)>,
}

/// Settings and how far they have been used.
struct Rule {
    settings: Settings,
    seen: u64,
}

/// Settings as they are shown.
#[derive(Clone, Debug)]
pub struct View {
    pub settings: Settings,
    pub mode: Mode,
}

impl Tracer {
    pub fn new(config: &TraceConfig) -> Result<Self> {
        let output = match &config.mode {
            Mode::Triton { file } => Output::File(File::new(file)),
            Mode::OpenTelemetry(settings) => {
                let started = Exporter::start(settings.clone());
                let problem = |error| Error::internal(format!("no thread for traces: {error}"));
                Output::Spans(started.map_err(problem)?)
            }
        };
        Ok(Self(Arc::new(Shared {
            on: AtomicBool::new(!config.settings.level.is_off()),
            mode: config.mode.clone(),
            clock: Clock::now(),
            ids: AtomicU64::new(0),
            rules: Mutex::new(Rules {
                at_start: config.settings,
                all: Rule { settings: config.settings, seen: 0 },
                models: HashMap::new(),
            }),
            output: Mutex::new(output),
        })))
    }

    /// Nothing is traced until somebody asks for it.
    pub fn off() -> Result<Self> {
        let mode = Mode::Triton { file: String::new() };
        Self::new(&TraceConfig { settings: Settings::default(), mode })
    }

    pub fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    /// The moment at which a request began to come; `None` if nobody will ask for it.
    pub fn began(&self) -> Option<Instant> {
        self.is_on().then(Instant::now)
    }

    /// A trace for a request to `model` that has been received, if it is its turn. `parent`: the
    /// `traceparent` header that it came with; who sends one is always traced.
    pub fn start(
        &self,
        began: Option<Instant>,
        protocol: Protocol,
        model: &str,
        parent: Option<&str>,
    ) -> Option<Arc<RequestTrace>> {
        let trace = self.sample(model, parent)?;
        trace.received(protocol, began?);
        Some(trace)
    }

    fn sample(&self, model: &str, parent: Option<&str>) -> Option<Arc<RequestTrace>> {
        if !self.is_on() {
            return None;
        }
        let parent = parent.filter(|_| self.0.follows_spans()).and_then(SpanContext::parse);
        let mut rules = lock(&self.0.rules);
        let rule = rules.of_model(model);
        if rule.settings.level.is_off() || (parent.is_none() && !rule.is_due()) {
            return None;
        }
        let Settings { level, log_frequency, .. } = rule.settings;
        drop(rules);
        let request = parent.map_or_else(SpanContext::root, SpanContext::another);
        let family = Family {
            request,
            model: request.another(),
            parent: parent.map_or(0, |parent| parent.span),
            is_root: true,
        };
        Some(Arc::new(RequestTrace::new(self.0.clone(), (level, log_frequency), family, None)))
    }

    /// The settings of a model, or those of all.
    pub fn view(&self, model: Option<&str>) -> View {
        let mut rules = lock(&self.0.rules);
        let settings = match model {
            Some(model) => rules.of_model(model).settings,
            None => rules.all.settings,
        };
        View { settings, mode: self.0.mode.clone() }
    }

    pub fn change(&self, model: Option<&str>, change: &Change) -> Result<()> {
        if let Mode::OpenTelemetry(_) = self.0.mode {
            let message = "trace settings can not be changed in mode opentelemetry";
            return Err(Error::unsupported(message));
        }
        let mut rules = lock(&self.0.rules);
        self.0.mode.check(rules.after(model, change))?;
        match model {
            Some(model) => rules.change_model(model, change),
            None => rules.change_all(change),
        }
        self.0.on.store(rules.want_any(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes or sends what there still is. Traces that end later are lost.
    pub fn finish(&self) {
        match &mut *lock(&self.0.output) {
            Output::File(file) => file.finish(),
            Output::Spans(exporter) => exporter.finish(),
        }
    }
}

impl Shared {
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn follows_spans(&self) -> bool {
        matches!(self.mode, Mode::OpenTelemetry(_))
    }

    pub(crate) fn write(&self, record: &Record, family: &Family, level: Level, frequency: u32) {
        match &mut *lock(&self.output) {
            Output::File(file) if file.path().is_empty() => {}
            Output::File(file) => file.add(record.elements(level, &self.clock), frequency),
            Output::Spans(exporter) => {
                spans(family, record, &self.clock).into_iter().for_each(|span| exporter.send(span));
            }
        }
    }
}

impl Rules {
    fn of_model(&mut self, model: &str) -> &mut Rule {
        match self.models.get_mut(model) {
            Some((_, rule)) => rule,
            None => &mut self.all,
        }
    }

    /// What would be set then, for a model or for all.
    fn after(&mut self, model: Option<&str>, change: &Change) -> Settings {
        let (at_start, all) = (self.at_start, self.all.settings);
        match model {
            Some(model) => self.of_model(model).settings.changed(change, all),
            None => all.changed(change, at_start),
        }
    }

    fn change_all(&mut self, change: &Change) {
        self.all.apply(change, self.at_start);
        // What models have not set themselves follows.
        for (own, rule) in self.models.values_mut() {
            rule.follow(own, self.all.settings);
        }
    }

    fn change_model(&mut self, model: &str, change: &Change) {
        let all = self.all.settings;
        let new = || (Change::default(), Rule { settings: all, seen: 0 });
        let (own, rule) = self.models.entry(model.to_owned()).or_insert_with(new);
        own.merge(change);
        rule.apply(change, all);
        if *own == Change::default() {
            self.models.remove(model);
        }
    }

    fn want_any(&self) -> bool {
        let mut all = self.models.values().map(|(_, rule)| rule).chain([&self.all]);
        all.any(|rule| !rule.settings.level.is_off())
    }
}

impl Rule {
    /// Whether it is the turn of the request that has come.
    fn is_due(&mut self) -> bool {
        let Settings { rate, count, .. } = &mut self.settings;
        if *rate == 0 || *count == 0 {
            return false;
        }
        self.seen += 1;
        if !self.seen.is_multiple_of(u64::from(*rate)) {
            return false;
        }
        if *count > 0 {
            *count -= 1;
        }
        true
    }

    fn apply(&mut self, change: &Change, wider: Settings) {
        self.settings = self.settings.changed(change, wider);
    }

    fn follow(&mut self, own: &Change, wider: Settings) {
        let follows = Change {
            level: own.level.is_none().then_some(None),
            rate: own.rate.is_none().then_some(None),
            count: own.count.is_none().then_some(None),
            log_frequency: own.log_frequency.is_none().then_some(None),
        };
        self.apply(&follows, wider);
    }
}

impl Change {
    /// Keeps what a model has set itself, forgets what it has given back.
    fn merge(&mut self, later: &Self) {
        fn one<T: Copy>(own: &mut Option<Option<T>>, later: Option<Option<T>>) {
            match later {
                Some(None) => *own = None,
                Some(Some(value)) => *own = Some(Some(value)),
                None => {}
            }
        }
        one(&mut self.level, later.level);
        one(&mut self.rate, later.rate);
        one(&mut self.count, later.count);
        one(&mut self.log_frequency, later.log_frequency);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(rate: u32, count: i64) -> Tracer {
        let level = Level::OFF.with("TIMESTAMPS");
        let settings = Settings { level, rate, count, log_frequency: 0 };
        let mode = Mode::Triton { file: "traces".to_owned() };
        Tracer::new(&TraceConfig { settings, mode }).unwrap()
    }

    fn sampled(tracer: &Tracer, model: &str) -> Vec<bool> {
        (0..4).map(|_| tracer.sample(model, None).is_some()).collect()
    }

    #[test]
    fn one_of_so_many_and_no_more_than_so_many() {
        assert_eq!(sampled(&tracer(2, -1), "m"), [false, true, false, true]);
        assert_eq!(sampled(&tracer(1, 2), "m"), [true, true, false, false]);
        assert_eq!(sampled(&tracer(0, -1), "m"), [false; 4]);
        assert!(!Tracer::off().unwrap().is_on());
    }

    #[test]
    fn models_follow_what_they_have_not_set_themselves() {
        let tracer = tracer(1, -1);
        let rate = |model| tracer.view(model).settings.rate;
        let set = |rate| Change { rate: Some(rate), ..Change::default() };
        tracer.change(Some("m"), &set(Some(3))).unwrap();
        tracer.change(None, &set(Some(5))).unwrap();
        assert_eq!((rate(None), rate(Some("m")), rate(Some("n"))), (5, 3, 5));
        let off = Change { level: Some(Some(Level::OFF)), ..Change::default() };
        tracer.change(None, &off).unwrap();
        assert!(!tracer.is_on() && tracer.view(Some("m")).settings.level.is_off());
        let on = Change { level: Some(Some(Level::OFF.with("TENSORS"))), ..Change::default() };
        tracer.change(Some("m"), &on).unwrap();
        assert_eq!(sampled(&tracer, "m"), [false, false, true, false]);
        assert_eq!(sampled(&tracer, "n"), [false; 4]);
        tracer.change(Some("m"), &set(None)).unwrap();
        assert_eq!(rate(Some("m")), 5);
        tracer.change(None, &set(None)).unwrap();
        assert_eq!((rate(None), rate(Some("m"))), (1, 1));
    }

    #[test]
    fn what_could_not_be_traced_is_refused() {
        let change = |tracer: &Tracer, change: Change| {
            tracer.change(None, &change).map_err(|error| error.message().to_owned())
        };
        let on = Some(Some(Level::OFF.with("TIMESTAMPS")));
        let on = Change { level: on, ..Change::default() };
        let refused = |what: &str| Err(format!("Attempting to set invalid trace setting :{what}"));
        let off = Tracer::off().unwrap();
        assert_eq!(change(&off, on), refused("trace file name is not given"));
        assert!(!off.is_on());
        let never = Change { rate: Some(Some(0)), ..Change::default() };
        assert_eq!(change(&tracer(1, -1), never), refused("sample rate must be non-zero"));
        assert_eq!(change(&off, never), Ok(()));
    }
}
