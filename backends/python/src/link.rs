//! The server's end of one worker: what is in it, and the frames that go there.
//!
//! Any thread may send: frames are written straight into the worker's pipe under a short lock, and
//! only what the pipe does not take at once is left to the reactor. No request is answered and no
//! batch dropped under that lock, since both lead back into the scheduler and from there to here.

mod calling;
mod devices;
mod in_place;
mod readiness;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nereid_backend::{Batch, Host, ModelSource, Placement};
use nereid_inference::{Cancellation, DeviceBuffer, Error};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::executing::Executing;
use crate::extras;
use crate::frame::{
    CANCEL, EXECUTE, EXECUTE_NESTED, FINALIZE, INIT, RELEASE_CHUNKS, ROOM, WATCHED, begin_frame,
    end_frame, write_block,
};
use crate::peers::Peers;
use crate::span::Span;
use crate::tensors::{move_to_arena, outgoing};
use in_place::InPlace;
use readiness::ReadyAnswer;

pub(crate) use calling::Part;

/// Lines of a worker's error output that are kept for the message about its death.
const LAST_WORDS: usize = 24;

pub(crate) struct Link {
    /// Of the instance.
    pub(crate) name: String,
    pub(crate) model: String,
    /// The outputs that its configuration names.
    outputs: Vec<String>,
    /// The outputs that are the states of sequences.
    states: Vec<String>,
    decoupled: bool,
    /// Among the instances of the model.
    pub(crate) index: usize,
    pub(crate) host: Host,
    pub(crate) peers: Arc<Peers>,
    state: Mutex<State>,
    /// Something is left for the reactor to write.
    pub(crate) unsent: Notify,
    /// The instance is gone: the worker should be too.
    pub(crate) stopped: Notify,
    /// The server is stopping and does not wait for what the worker does.
    pub(crate) given_up: Notify,
    last_words: Mutex<VecDeque<String>>,
}

struct State {
    phase: Phase,
    worker: Option<Worker>,
    executing: HashMap<u64, Executing>,
    /// Batches that came while the worker was being started again.
    parked: Vec<Batch>,
    next_id: u64,
    /// Frames are put together here; kept for its memory.
    scratch: Vec<u8>,
}

/// A running process. Answers to its calls that come after its death have nowhere to go.
struct Worker {
    generation: u64,
    pipe: Arc<AsyncFd<OwnedFd>>,
    span: Arc<Span>,
    unsent: Vec<u8>,
    /// Where the worker reads inputs that clients have put into their own memory.
    in_place: InPlace,
    /// Tensors in shared memory that the worker may still look at, by the call whose answer they are.
    lent: HashMap<u64, Vec<Bytes>>,
    /// Tensors in the memory of GPUs that it may still look at, each by a number of its own.
    lent_devices: HashMap<u64, DeviceBuffer>,
    /// Calls that the model may cancel.
    open_calls: HashMap<u64, Cancellation>,
    /// The models that it has called and that have not answered.
    waits_for: Vec<String>,
    /// The model has a say in its readiness.
    says_ready: bool,
    /// Who wants to know whether it is ready.
    ready_asks: HashMap<u64, ReadyAnswer>,
}

enum Phase {
    /// Batches are parked until the worker is ready.
    Starting,
    Ready,
    /// It could not be started again; batches are refused until it can.
    Down(Error),
    Stopping,
}

impl Link {
    pub(crate) fn new(
        source: &ModelSource,
        placement: &Placement,
        host: Host,
        peers: Arc<Peers>,
    ) -> Self {
        Self {
            name: placement.name.clone(),
            model: source.name.clone(),
            outputs: source.config.output.iter().map(|output| output.name.clone()).collect(),
            states: source.config.hidden_states().map(|state| state.output_name.clone()).collect(),
            decoupled: source.config.decoupled(),
            index: placement.index,
            host,
            peers,
            state: Mutex::new(State {
                phase: Phase::Starting,
                worker: None,
                executing: HashMap::new(),
                parked: Vec::new(),
                next_id: 1,
                scratch: Vec::new(),
            }),
            unsent: Notify::new(),
            stopped: Notify::new(),
            given_up: Notify::new(),
            last_words: Mutex::default(),
        }
    }

    /// Whether the model's configuration knows an output.
    pub(crate) fn knows(&self, output: &str) -> bool {
        self.outputs.iter().chain(&self.states).any(|known| known == output)
    }

    /// Seventh stop of a request, on its way into a worker.
    pub(crate) fn execute(self: &Arc<Self>, mut batch: Batch) {
        let arena = &self.host.arena;
        let mut state = loop {
            let mut state = self.lock();
            let plan = state.plan(arena, &batch);
            if plan.copies.is_empty() {
                break state;
            }
            plan.unknown.iter().for_each(|region| self.offer(&mut state, region));
            drop(state);
            // Meanwhile the worker may have become another one: hence the loop.
            for (request, input) in plan.copies {
                let inputs = &mut batch.requests[request].inputs;
                if let Err(error) = move_to_arena(arena, [&mut inputs[input]]) {
                    return batch.fail(&error);
                }
            }
        };
        match &state.phase {
            Phase::Ready => self.send_batch(&mut state, batch),
            Phase::Starting => state.parked.push(batch),
            Phase::Down(error) => {
                let error = error.clone();
                drop(state);
                batch.fail(&error);
            }
            Phase::Stopping => {
                drop(state);
                batch.fail(&Error::unavailable("the model is being unloaded"));
            }
        }
    }

    fn send_batch(self: &Arc<Self>, state: &mut State, batch: Batch) {
        let id = state.next_id;
        state.next_id += 1;
        let nested = is_nested(&batch);
        let kind = if nested { EXECUTE_NESTED } else { EXECUTE };
        let mut lease = state.lend_devices(batch.requests.iter().flat_map(|one| &one.inputs));
        self.send(state, |out| {
            let start = begin_frame(out, kind, batch.requests.len(), id);
            for request in &batch.requests {
                let tensors = outgoing(&self.host.arena, &request.inputs, &mut lease);
                write_block(out, &extras::of_request(request, &self.outputs), &tensors);
            }
            end_frame(out, start);
        });
        for (index, request) in batch.requests.iter().enumerate() {
            if let Some(window) = &request.window {
                let link = Arc::downgrade(self);
                window.tell(move || {
                    if let Some(link) = link.upgrade() {
                        link.send_note(ROOM, index, id);
                    }
                });
            }
        }
        state.executing.insert(id, Executing::new(batch, nested));
    }

    /// Writes what `build` puts together; what the pipe does not take is written by the reactor.
    fn send(&self, state: &mut State, build: impl FnOnce(&mut Vec<u8>)) {
        let State { worker: Some(worker), scratch, .. } = state else { return };
        scratch.clear();
        let released = worker.span.take_released();
        if !released.is_empty() {
            let start = begin_frame(scratch, RELEASE_CHUNKS, 0, 0);
            released.iter().for_each(|offset| scratch.extend_from_slice(&offset.to_le_bytes()));
            end_frame(scratch, start);
        }
        build(scratch);
        let written = if worker.unsent.is_empty() { write_now(&worker.pipe, scratch) } else { 0 };
        if written < scratch.len() {
            worker.unsent.extend_from_slice(&scratch[written..]);
            self.unsent.notify_one();
        }
    }

    /// Writes what was left, as far as the pipe takes it now. True when nothing is left.
    pub(crate) fn write_unsent(&self) -> bool {
        let mut state = self.lock();
        let Some(worker) = &mut state.worker else { return true };
        let written = write_now(&worker.pipe, &worker.unsent);
        worker.unsent.drain(..written);
        worker.unsent.is_empty()
    }

    /// A process has been started: the first frame goes out. False if it is not wanted any more.
    pub(crate) fn start_worker(
        &self,
        generation: u64,
        pipe: Arc<AsyncFd<OwnedFd>>,
        span: Arc<Span>,
        init: &[u8],
    ) -> bool {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Stopping) {
            return false;
        }
        state.phase = Phase::Starting;
        state.worker = Some(Worker {
            generation,
            pipe,
            span,
            unsent: Vec::new(),
            in_place: InPlace::new(self.decoupled),
            lent: HashMap::new(),
            lent_devices: HashMap::new(),
            open_calls: HashMap::new(),
            waits_for: Vec::new(),
            says_ready: false,
            ready_asks: HashMap::new(),
        });
        self.send(&mut state, |out| {
            let start = begin_frame(out, INIT, 1, 0);
            write_block(out, init, &[]);
            end_frame(out, start);
        });
        true
    }

    /// `initialize` has returned: what was parked goes out.
    pub(crate) fn worker_ready(self: &Arc<Self>, says_ready: bool) {
        let mut state = self.lock();
        if let Some(worker) = &mut state.worker {
            worker.says_ready = says_ready;
        }
        if matches!(state.phase, Phase::Starting) {
            state.phase = Phase::Ready;
            for batch in std::mem::take(&mut state.parked) {
                self.send_batch(&mut state, batch);
            }
        }
    }

    /// The process has ended. Everything in it is answered with `error`; if it will not be
    /// started again at once, so is everything that comes until it is.
    pub(crate) fn worker_ended(&self, error: &Error, starts_again: bool) {
        let mut state = self.lock();
        let worker = state.worker.take();
        let executing = std::mem::take(&mut state.executing);
        let mut parked = Vec::new();
        if !matches!(state.phase, Phase::Stopping) {
            state.phase = if starts_again {
                Phase::Starting
            } else {
                parked = std::mem::take(&mut state.parked);
                Phase::Down(error.clone())
            };
        }
        drop(state);
        if let Some(worker) = worker {
            worker.open_calls.values().for_each(Cancellation::cancel);
            worker.ready_asks.into_values().for_each(|answer| answer(false));
        }
        executing.into_values().for_each(|executing| executing.fail(error));
        parked.into_iter().for_each(|batch| batch.fail(error));
    }

    /// Takes out a batch that the worker has answered.
    pub(crate) fn take_executing(&self, id: u64) -> Option<Executing> {
        self.lock().executing.remove(&id)
    }

    /// Puts it back because more is to come.
    pub(crate) fn put_executing(&self, id: u64, executing: Executing) {
        self.lock().executing.insert(id, executing);
    }

    /// The model asks whether a request was cancelled: answered now, and told later.
    pub(crate) fn watch(self: &Arc<Self>, id: u64, index: usize) {
        let cancellation = {
            let state = self.lock();
            state.executing.get(&id).and_then(|executing| executing.cancellation(index).cloned())
        };
        if let Some(cancellation) = cancellation {
            let link = Arc::downgrade(self);
            let watch = cancellation.watch(move || {
                if let Some(link) = link.upgrade() {
                    link.send_note(CANCEL, index, id);
                }
            });
            if let Some(executing) = self.lock().executing.get_mut(&id) {
                executing.keep(watch);
            }
        }
        self.send_note(WATCHED, index, id);
    }

    /// Sends a frame that is only a head.
    fn send_note(&self, kind: u16, count: usize, id: u64) {
        self.send(&mut self.lock(), |out| {
            let start = begin_frame(out, kind, count, id);
            end_frame(out, start);
        });
    }

    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.phase = Phase::Stopping;
        self.send(&mut state, |out| {
            let start = begin_frame(out, FINALIZE, 0, 0);
            end_frame(out, start);
        });
        drop(state);
        self.stopped.notify_one();
    }

    /// The server is stopping: a worker that does not wait for requests is not waited for.
    pub(crate) fn give_up(&self) {
        let state = self.lock();
        if !state.executing.is_empty() || matches!(state.phase, Phase::Starting) {
            self.given_up.notify_one();
        }
    }

    /// The batches that the worker executes now, if it executes `count` at a time: the oldest that
    /// have not come back.
    pub(crate) fn running(&self, count: usize) -> Vec<u64> {
        let state = self.lock();
        let in_execute = state.executing.iter().filter(|(_, executing)| executing.has_place());
        let mut ids: Vec<u64> = in_execute.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.truncate(count);
        ids
    }

    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.lock().phase, Phase::Starting)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.lock().phase, Phase::Stopping)
    }

    pub(crate) fn remember(&self, line: String) {
        let mut words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == LAST_WORDS {
            words.pop_front();
        }
        words.push_back(line);
    }

    /// What the worker wrote last, and forgets it.
    pub(crate) fn take_last_words(&self) -> Vec<String> {
        let mut words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        words.drain(..).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a batch is run in the middle of another one.
fn is_nested(batch: &Batch) -> bool {
    batch.requests.iter().any(|request| request.nesting.within.is_some())
}

/// Writes until the pipe is full; how much it took. A broken pipe takes everything: the reader of
/// the answers sees the worker's end and answers what was on its way.
fn write_now(pipe: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> usize {
    let whole = bytes.len();
    while !bytes.is_empty() {
        match rustix::io::write(pipe.get_ref(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return whole - bytes.len(),
            Err(_) => return whole,
        }
    }
    whole
}
