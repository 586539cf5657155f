//! What every backend must do, whatever it runs: for the tests of backends.
//!
//! [`check`] loads one model and holds it to the rules of the contract: every request is answered
//! exactly once and every batch given back exactly once, an error hurts nobody else, an unwanted
//! request does no harm, instances run side by side, memory is given back, and the end is an end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nereid_arena::{ARENA_THRESHOLD, Arena};
use nereid_inference::{
    Answer, Buffer, Error, Request, Responder, Response, ResponseSink, Result, Tensor, Times,
};

use crate::{
    Backend, Batch, BatchOwner, BatchReport, Host, Instance, InstanceKind, Model, ModelSource,
    Placement, Pulse, Seat, Service,
};

/// Longer than anything here takes; reached only where something is lost.
const LIMIT: Duration = Duration::from_secs(60);

/// The model that is put to the test: one that batches up to eight rows.
pub struct Subject<'a> {
    pub backend: &'a dyn Backend,
    pub source: ModelSource,
    /// Inputs of a request for this many rows, which succeeds; all of its tensors have less than
    /// 1 KiB per row.
    pub good: fn(rows: usize) -> Vec<Tensor>,
    /// Inputs of a request that fails in the model. `None`: nothing fails in it.
    pub bad: Option<fn() -> Vec<Tensor>>,
    /// Inputs of a request for one row with at least [`ARENA_THRESHOLD`] bytes, which succeeds.
    pub large: Option<fn() -> Vec<Tensor>>,
}

/// Puts a model through all rules.
///
/// # Panics
/// Where a rule is broken; the message says which.
pub fn check(subject: &Subject) {
    let host = TestHost::start();
    let model = subject.backend.load(&subject.source, &host.host).expect("the model loads");
    let mut bench = Bench::new(&*model, 0);
    answers_every_request(subject, &mut bench);
    answers_with_what_was_asked_for(subject, &mut bench);
    survives_errors(subject, &mut bench);
    survives_unwanted_requests(subject, &mut bench);
    gives_memory_back(subject, &mut bench, &host.host.arena);
    runs_instances_side_by_side(subject, &*model);
    ends_with_work_in_hand(subject, bench);
    drop(model);
    host.wait_for_the_end();
}

fn answers_every_request(subject: &Subject, bench: &mut Bench) {
    for rows in [&[1][..], &[2], &[1, 1], &[1, 2, 3], &[1; 8]] {
        let requests = rows.iter().map(|&rows| (subject.good)(rows)).collect();
        for response in bench.run(requests) {
            let response = response.expect("a good request succeeds");
            assert!(!response.outputs.is_empty(), "an answer has outputs");
        }
    }
}

fn answers_with_what_was_asked_for(subject: &Subject, bench: &mut Bench) {
    let all = bench.run_good(subject);
    for output in &all.outputs {
        let wanted = output.name.clone();
        let answers = bench.run_with(vec![(subject.good)(1)], |request| {
            request.requested_outputs = vec![wanted.clone()];
        });
        let response = answers.into_iter().next().expect("an answer").expect("it succeeds");
        let names: Vec<&str> = response.outputs.iter().map(|o| o.name.as_str()).collect();
        assert_eq!(names, [output.name.as_str()], "only what was asked for is answered");
    }
}

fn survives_errors(subject: &Subject, bench: &mut Bench) {
    let Some(bad) = subject.bad else { return };
    for count in [1, 3] {
        let answers = bench.run((0..count).map(|_| bad()).collect());
        assert!(answers.iter().all(Result::is_err), "a failed run is every request's error");
        bench.run_good(subject);
    }
}

fn survives_unwanted_requests(subject: &Subject, bench: &mut Bench) {
    let requests = vec![(subject.good)(1), (subject.good)(1)];
    bench.run_with(requests, |request| request.cancellation.cancel());
    bench.run_good(subject);
}

fn gives_memory_back(subject: &Subject, bench: &mut Bench, arena: &Arena) {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut in_use = Vec::new();
    for _ in 0..3 {
        for _ in 0..20 {
            let small = counted((subject.good)(2), &alive);
            bench.run(vec![small]);
            if let Some(large) = subject.large {
                let sent = counted(in_arena(large(), arena), &alive);
                let answer = bench.run(vec![sent]).pop().expect("an answer");
                answer.expect("a large request succeeds");
            }
        }
        wait_until("inputs are let go of", || alive.load(Ordering::Acquire) == 0);
        in_use.push(arena.in_use());
    }
    assert_eq!(in_use[1], in_use[2], "the arena does not fill up");
}

fn runs_instances_side_by_side(subject: &Subject, model: &dyn Model) {
    let mut benches = [Bench::new(model, 1), Bench::new(model, 2)];
    thread::scope(|scope| {
        for bench in &mut benches {
            scope.spawn(|| (0..20).for_each(|_| drop(bench.run_good(subject))));
        }
    });
}

/// What was handed over before the instance goes is answered all the same.
fn ends_with_work_in_hand(subject: &Subject, mut bench: Bench) {
    let sent: Vec<Sent> =
        (0..bench.depth).map(|_| bench.send(vec![(subject.good)(1)], |_| {})).collect();
    drop(bench);
    for sent in sent {
        sent.wait();
    }
}

/// An instance and whoever drives it.
struct Bench {
    instance: Box<dyn Instance>,
    depth: usize,
}

impl Bench {
    fn new(model: &dyn Model, index: usize) -> Self {
        let kind = InstanceKind::Cpu;
        let placement = Placement { name: format!("m_0_{index}"), index, kind, device_id: 0 };
        match model.instantiate(&placement).expect("an instance is made") {
            Seat::Thread(instance) => Self { instance, depth: 1 },
            Seat::Handoff { instance, depth } => Self { instance, depth },
        }
    }

    fn run_good(&mut self, subject: &Subject) -> Response {
        let answer = self.run(vec![(subject.good)(1)]).pop().expect("an answer");
        answer.expect("a good request succeeds")
    }

    fn run(&mut self, requests: Vec<Vec<Tensor>>) -> Vec<Result<Response>> {
        self.run_with(requests, |_| {})
    }

    fn run_with(
        &mut self,
        requests: Vec<Vec<Tensor>>,
        prepare: impl Fn(&mut Request),
    ) -> Vec<Result<Response>> {
        self.send(requests, prepare).wait()
    }

    /// Hands a batch to the instance.
    fn send(&mut self, requests: Vec<Vec<Tensor>>, prepare: impl Fn(&mut Request)) -> Sent {
        let (requests, answers) =
            requests.into_iter().map(|inputs| request(inputs, &prepare)).unzip();
        let (sender, done) = mpsc::channel();
        self.instance.execute(Batch::new(requests, Arc::new(Owner(sender)), 0));
        Sent { answers, done }
    }
}

fn request(
    inputs: Vec<Tensor>,
    prepare: &impl Fn(&mut Request),
) -> (Request, mpsc::Receiver<Answer>) {
    let (sender, answers) = mpsc::channel();
    let mut request = Request::new("m", None, Responder::new(Box::new(Channel(sender))));
    request.batch_size = inputs[0].shape[0] as usize;
    request.inputs = inputs;
    prepare(&mut request);
    (request, answers)
}

/// A batch on its way.
struct Sent {
    answers: Vec<mpsc::Receiver<Answer>>,
    done: mpsc::Receiver<BatchReport>,
}

impl Sent {
    /// Waits until all of it has come back, and nothing more can come.
    fn wait(self) -> Vec<Result<Response>> {
        let report = self.done.recv_timeout(LIMIT).expect("the batch is given back");
        assert!(report.started <= report.ended);
        let again = self.done.recv_timeout(LIMIT);
        assert!(again.is_err(), "the batch is given back once");
        self.answers.into_iter().map(|answers| only(&answers)).collect()
    }
}

fn only(answers: &mpsc::Receiver<Answer>) -> Result<Response> {
    let answer = answers.recv_timeout(LIMIT).expect("every request is answered");
    assert!(answer.last, "one answer is the last answer");
    let again = answers.recv_timeout(LIMIT);
    assert!(again.is_err(), "a request is answered once");
    answer.response.expect("the answer has a response")
}

struct Channel(mpsc::Sender<Answer>);

impl ResponseSink for Channel {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        // Who does not listen any more is a client that has gone.
        let _ = self.0.send(answer);
    }
}

struct Owner(mpsc::Sender<BatchReport>);

impl BatchOwner for Owner {
    fn batch_done(self: Arc<Self>, _: usize, report: BatchReport, _: Vec<Request>) {
        let _ = self.0.send(report);
    }
}

/// The same tensors, which count in `alive` as long as anybody holds their memory.
fn counted(tensors: Vec<Tensor>, alive: &Arc<AtomicUsize>) -> Vec<Tensor> {
    struct Counted(Bytes, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::AcqRel);
        }
    }
    let count = |tensor: Tensor| {
        alive.fetch_add(1, Ordering::AcqRel);
        let data = Bytes::from_owner(Counted(tensor.data.contiguous(), alive.clone()));
        Tensor { data: Buffer::One(data), ..tensor }
    };
    tensors.into_iter().map(count).collect()
}

fn in_arena(tensors: Vec<Tensor>, arena: &Arena) -> Vec<Tensor> {
    let moved = |tensor: Tensor| {
        let data = tensor.data.contiguous();
        assert!(data.len() >= ARENA_THRESHOLD, "a large tensor is large");
        let mut chunk = arena.allocate(data.len()).expect("the arena has room");
        chunk.copy_from_slice(&data);
        Tensor { data: Buffer::One(chunk.freeze()), ..tensor }
    };
    tensors.into_iter().map(moved).collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "not so after {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A server without models, with a reactor that runs.
struct TestHost {
    host: Host,
    alive: Arc<()>,
}

impl TestHost {
    fn start() -> Self {
        let (sender, handle) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a reactor starts");
            sender.send(runtime.handle().clone()).expect("the test waits");
            runtime.block_on(std::future::pending::<()>());
        });
        let alive = Arc::new(());
        let host = Host {
            service: Arc::new(Nobody),
            arena: Arena::new().expect("an arena is made"),
            reactor: handle.recv().expect("the reactor has started"),
            pulse: Pulse::default(),
            metrics: Default::default(),
            alive: alive.clone(),
            ending: Default::default(),
        };
        Self { host, alive }
    }

    /// Everything that the model started has ended, all memory is back.
    fn wait_for_the_end(self) {
        let Self { host, alive } = self;
        let arena = host.arena.clone();
        drop(host);
        wait_until("nothing of the model is alive", || Arc::strong_count(&alive) == 1);
        wait_until("the arena is empty", || arena.in_use() == 0);
    }
}

struct Nobody;

impl Service for Nobody {
    fn infer(&self, request: Request) {
        request.responder.answer(Err(Error::not_found("there is no other model")));
    }
}
