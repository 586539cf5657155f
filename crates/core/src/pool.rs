//! The instances of one model version and the scheduler in front of them.
//!
//! There is no task that watches the scheduler. Whoever brings an event (a request, a finished batch,
//! a timer) asks the scheduler what to do and does it, so that a request wakes no thread but the
//! one that runs its model.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nereid_backend::{Batch, BatchOwner, BatchReport, Model, Placement};
use nereid_inference::{Error, Request};
use nereid_scheduler::{Closed, Dispatch, Rejected, Scheduler, Step, Urgent, earlier};
use tokio::runtime::Handle;

use crate::instances::Instances;
use crate::limits::Limits;
use crate::ordering::Ordering;
use crate::precise;
use crate::scheduling::Scheduling;
use crate::seat::Runner;
use crate::seats::Seats;
use crate::sequencing::Sequencing;
use crate::statistics::Recorder;

pub(crate) struct Pool {
    /// What the instances are instances of.
    model: Arc<dyn Model>,
    state: Mutex<State>,
    /// Where answers must keep the order of their requests.
    ordering: Option<Ordering>,
    /// Where the model has sequences.
    sequencing: Option<Sequencing>,
    /// Where the instances have a share in the rate limiter.
    limits: Option<Limits>,
    recorder: Arc<Recorder>,
    reactor: Handle,
}

struct State {
    scheduler: Scheduler,
    seats: Seats,
    /// How many more batches each instance takes.
    places: Vec<usize>,
    /// Somebody is handing out batches; who brings another event only leaves a note.
    pumping: bool,
    noted: bool,
    /// When the timer that is set will fire.
    timer: Option<Instant>,
    /// Batches by why the dynamic batcher let them go, as in [`Closed::ALL`].
    closed: [u64; Closed::ALL.len()],
    /// How many of the requests that wait a model has made; counted only under the rate limiter.
    called: usize,
}

impl Pool {
    pub(crate) fn new(
        instances: Instances,
        scheduling: Scheduling,
        limits: Option<Limits>,
        recorder: Arc<Recorder>,
        reactor: Handle,
    ) -> Arc<Self> {
        let Scheduling { scheduler, mut ahead, ordering, sequencing } = scheduling;
        if limits.is_some() {
            ahead = 1; // What an instance holds, it holds for one batch.
        }
        let model = instances.model.clone();
        let seats = Seats::new(instances, ahead);
        let state = State {
            scheduler,
            places: seats.places(|_| true),
            seats,
            pumping: false,
            noted: false,
            timer: None,
            closed: Default::default(),
            called: 0,
        };
        let pool = Arc::new(Self {
            model,
            state: Mutex::new(state),
            ordering,
            sequencing,
            limits,
            recorder,
            reactor,
        });
        if let Some(limits) = &pool.limits {
            limits.attach(&pool);
        }
        pool
    }

    /// Fifth stop of a request: into the scheduler, and on if an instance is free.
    pub(crate) fn submit(self: &Arc<Self>, request: Request) {
        let mut state = self.lock();
        if state.seats.is_empty() {
            drop(state);
            return request.responder.answer(Err(Error::unavailable(format!(
                "all instances of model '{}' are passive",
                request.model
            ))));
        }
        if let Some(index) = request.nesting.within.filter(|_| self.sequencing.is_none())
            && let Some(runner) = state.seats.runner_of(index)
        {
            drop(state);
            return self.run_within(&runner, index, request);
        }
        if self.limits.is_some() {
            state.called += usize::from(request.nesting.called);
        }
        state.scheduler.push(request, Instant::now());
        drop(state);
        self.pump();
    }

    /// Runs a request in the middle of the batch that waits for it: no place is free for it, and
    /// none becomes free before it has been answered.
    fn run_within(&self, runner: &Runner, index: usize, request: Request) {
        let owner = Arc::new(Within(self.recorder.clone()));
        runner.run(Batch::new(vec![request], owner, index));
    }

    /// Says whether the model would execute a request.
    pub(crate) fn is_ready(&self, answer: Box<dyn FnOnce(bool) + Send>) {
        self.model.is_ready(answer);
    }

    /// Whether inputs may lie in the memory of a GPU.
    pub(crate) fn takes_devices(&self) -> bool {
        self.model.takes_devices()
    }

    /// How many batches the dynamic batcher let go, by why.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (Closed, u64)> {
        Closed::ALL.into_iter().zip(self.lock().closed)
    }

    /// Hands out batches until the scheduler wants none or no instance is free.
    ///
    /// An instance may finish inside `run` and come back here through `batch_done`; that inner
    /// call, like one from another thread, leaves a note and returns, so that no instance is ever
    /// entered twice.
    pub(crate) fn pump(self: &Arc<Self>) {
        let mut state = self.lock();
        state.noted = true;
        if state.pumping {
            return;
        }
        state.pumping = true;
        while std::mem::take(&mut state.noted) {
            state.scheduler.reject_cancelled();
            loop {
                let dispatch = self.next(&mut state);
                let rejected = state.scheduler.take_rejected();
                if self.limits.is_some() {
                    let rejected = rejected.iter().map(|rejected| &rejected.request);
                    let started = dispatch.iter().flat_map(|(dispatch, _)| &dispatch.requests);
                    state.called = state.called.saturating_sub(called(rejected.chain(started)));
                }
                if dispatch.is_none() && rejected.is_empty() {
                    break;
                }
                drop(state);
                rejected.into_iter().for_each(answer);
                if let Some((dispatch, runner)) = dispatch {
                    self.run(dispatch, &runner);
                }
                state = self.lock();
            }
        }
        state.pumping = false;
        let gone = state.take_vacant();
        drop(state);
        drop(gone);
        if let Some(limits) = &self.limits {
            limits.wake();
        }
    }

    /// Sixth stop: the scheduler's decision.
    fn next(self: &Arc<Self>, state: &mut State) -> Option<(Dispatch, Arc<Runner>)> {
        let step = match &self.limits {
            None => state.scheduler.step(Instant::now(), &state.places),
            Some(limits) => {
                let State { scheduler, places, called, .. } = state;
                limited_step(limits, scheduler, places, Urgent(*called > 0), Instant::now())
            }
        };
        if let Some(sequencing) = &self.sequencing {
            sequencing.forget(&state.scheduler.take_lost());
        }
        match step {
            Step::Dispatch(dispatch) => {
                let runner = state.seats.runner(dispatch.instance)?;
                state.seats.give(dispatch.instance);
                state.places[dispatch.instance] -= 1;
                if let Some(closed) = dispatch.closed {
                    state.closed[closed as usize] += 1;
                }
                Some((dispatch, runner))
            }
            Step::WaitUntil(until) => {
                self.set_timer(state, until);
                None
            }
            Step::Idle => None,
        }
    }

    fn run(self: &Arc<Self>, dispatch: Dispatch, runner: &Runner) {
        let Dispatch { instance, mut requests, idle_rows, sequences, .. } = dispatch;
        if let Some(sequencing) = &self.sequencing {
            sequencing.complete(&mut requests, &idle_rows, &sequences);
        }
        if let Some(ordering) = &self.ordering {
            requests.iter_mut().for_each(|request| ordering.join(request));
        }
        if let Some(limits) = &self.limits {
            limits.mark(instance, &mut requests);
        }
        runner.run(Batch::new(requests, self.clone(), instance));
    }

    /// How many requests wait: in the scheduler, or at an instance behind the batch that it runs.
    /// Batches are only given ahead where they hold a single request.
    pub(crate) fn pending(&self) -> usize {
        let state = self.lock();
        state.scheduler.waiting() + state.seats.waiting()
    }

    fn set_timer(self: &Arc<Self>, state: &mut State, until: Instant) {
        if state.timer.is_some_and(|set| set <= until) {
            return;
        }
        state.timer = Some(until);
        // Whoever still waits keeps the pool alive; a timer must not.
        let pool = Arc::downgrade(self);
        self.reactor.spawn(async move {
            precise::sleep_until(until).await;
            if let Some(pool) = pool.upgrade() {
                pool.timer_fired(until);
            }
        });
    }

    fn timer_fired(self: &Arc<Self>, at: Instant) {
        let mut state = self.lock();
        // An earlier timer has taken the place of this one; it set the next when it fired.
        if state.timer != Some(at) {
            return;
        }
        state.timer = None;
        drop(state);
        self.pump();
    }

    pub(crate) fn model(&self) -> &Arc<dyn Model> {
        &self.model
    }

    pub(crate) fn sequencing(&self) -> Option<&Sequencing> {
        self.sequencing.as_ref()
    }

    /// Whether its instances have a share in the rate limiter.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits.is_some()
    }

    /// Which of the planned instances there are not yet, each with an index of its own.
    pub(crate) fn missing(&self, planned: &[(Placement, bool)]) -> Vec<(Placement, bool)> {
        self.lock().seats.missing(planned)
    }

    /// Takes new instances in and lets those go that were not planned, once they are done with
    /// what they have. Requests that wait stay where they are.
    pub(crate) fn regroup(self: &Arc<Self>, planned: &[(Placement, bool)], new: Instances) {
        let mut state = self.lock();
        let gone = state.seats.regroup_passive(planned, new.passive);
        let State { scheduler, seats, .. } = &mut *state;
        for seat in seats.unplanned(planned) {
            seats.retire(seat);
            scheduler.retire_instance(seat);
        }
        for placed in new.active {
            scheduler.add_instance(seats.add(placed));
        }
        state.refresh_places();
        drop(state);
        drop(gone);
        self.pump();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refresh_places(&mut self) {
        let Self { scheduler, seats, places, .. } = self;
        *places = seats.places(|seat| !scheduler.is_vacant(seat));
    }

    /// The instances that were to go and have nothing left to do.
    fn take_vacant(&mut self) -> Vec<Arc<Runner>> {
        if !self.seats.has_leavers() {
            return Vec::new();
        }
        let mut gone = Vec::new();
        for seat in self.seats.idle_leavers() {
            if self.scheduler.is_vacant(seat) {
                gone.extend(self.seats.vacate(seat));
            }
        }
        self.refresh_places();
        gone
    }
}

impl BatchOwner for Pool {
    fn batch_done(self: Arc<Self>, seat: usize, report: BatchReport, mut again: Vec<Request>) {
        self.recorder.record_batch(&report);
        if let Some(sequencing) = &self.sequencing {
            again.iter_mut().for_each(|request| sequencing.undo(request));
        }
        let mut state = self.lock();
        state.seats.take_back(seat);
        state.places[seat] += 1;
        if self.limits.is_some() {
            state.called += called(again.iter());
        }
        state.scheduler.batch_done(seat, again, Instant::now);
        if state.seats.has_leavers() {
            state.refresh_places();
        }
        if let Some(limits) = &self.limits {
            let again = state.scheduler.waiting() > 0;
            limits.done(seat, again.then_some(Urgent(state.called > 0)));
        }
        drop(state);
        self.pump();
    }
}

/// As [`Scheduler::step`], with the free instances that the rate limiter lets run. What is granted
/// and not needed goes back at once.
pub(crate) fn limited_step(
    limits: &Limits,
    scheduler: &mut Scheduler,
    places: &[usize],
    urgent: Urgent,
    now: Instant,
) -> Step {
    let mut until = None;
    let mut open = vec![0; places.len()];
    for instance in limits.by_turn(places) {
        let wanted = scheduler.waiting() > 0;
        if wanted && !limits.claim(instance, urgent) {
            continue;
        }
        if wanted {
            open[instance] = 1;
            match scheduler.step(now, &open) {
                dispatch @ Step::Dispatch(_) => return dispatch,
                Step::WaitUntil(moment) => until = earlier(until, Some(moment)),
                Step::Idle => {}
            }
            open[instance] = 0;
        }
        limits.give_back(instance);
    }
    match scheduler.step(now, &open) {
        Step::WaitUntil(moment) => until = earlier(until, Some(moment)),
        Step::Dispatch(_) | Step::Idle => {}
    }
    until.map_or(Step::Idle, Step::WaitUntil)
}

/// How many of the requests a model has made.
fn called<'a>(requests: impl Iterator<Item = &'a Request>) -> usize {
    requests.filter(|request| request.nesting.called).count()
}

/// Owns a batch that runs within another one.
struct Within(Arc<Recorder>);

impl BatchOwner for Within {
    fn batch_done(self: Arc<Self>, _: usize, report: BatchReport, rescheduled: Vec<Request>) {
        self.0.record_batch(&report);
        for request in rescheduled {
            let message = "a request that its own model waits for cannot be rescheduled";
            request.responder.answer(Err(Error::unsupported(message)));
        }
    }
}

fn answer(Rejected { request, error }: Rejected) {
    request.responder.answer(Err(error));
}
