//! Inputs that a worker reads where clients have put them, in regions of their own.
//!
//! A worker maps a region privately, so that what a model writes to an input stays the model's, and
//! looks after every request whether it did. It is asked to map a region when the first input in it
//! comes. Until it says that it has, and once it has said that its model writes to inputs or holds
//! on to them, inputs are copied into the arena, as are those over the same pages as another input
//! that is read at the same time.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nereid_arena::{ARENA_THRESHOLD, Arena, ClientRegion, region_of};
use nereid_backend::Batch;
use nereid_inference::Buffer;

use super::{Link, Phase, State, is_nested};
use crate::frame::{MAP, UNMAP, begin_frame, end_frame};
use crate::tensors::is_shared;

/// What one worker knows of the regions of clients.
pub(super) struct InPlace {
    refused: bool,
    /// The worker runs one batch after the other.
    sequential: bool,
    /// By location.
    regions: HashMap<u64, Known>,
}

/// How far a worker is with a region.
enum Known {
    /// It has been asked to map it. Until it answers the region is held: its descriptor must not
    /// become that of something else.
    Asked {
        _region: Arc<ClientRegion>,
    },
    Mapped,
    Failed,
}

impl InPlace {
    /// `refused`: there is to be nothing in place. A decoupled model may go on with its inputs when
    /// the client has had all answers.
    pub(crate) fn new(refused: bool, sequential: bool) -> Self {
        Self { refused, sequential, regions: HashMap::new() }
    }

    /// Whether the worker is to hear of a region now.
    pub(crate) fn offer(&mut self, region: &Arc<ClientRegion>) -> bool {
        let asked = Known::Asked { _region: region.clone() };
        self.regions.insert(region.file().location, asked).is_none()
    }

    pub(crate) fn answered(&mut self, location: u64, mapped: bool) {
        if let Some(known) = self.regions.get_mut(&location) {
            *known = if mapped { Known::Mapped } else { Known::Failed };
        }
    }

    pub(crate) fn forget(&mut self, location: u64) {
        self.regions.remove(&location);
    }

    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }
}

impl State {
    pub(super) fn plan(&self, arena: &Arena, batch: &Batch) -> Plan {
        let ready = matches!(self.phase, Phase::Ready);
        let in_place = self.worker.as_ref().filter(|_| ready).map(|worker| &worker.in_place);
        // What a batch leaves behind has been cleared away before the next one begins.
        let alone = in_place.is_some_and(|in_place| in_place.sequential) && !is_nested(batch);
        let running = || {
            let others = self.executing.values().filter(move |_| !alone);
            others.flat_map(|running| running.shared_inputs(arena))
        };
        Plan::of(arena, batch, in_place, running)
    }
}

impl Link {
    /// Asks the worker to map a region, and tells it when that has gone.
    pub(super) fn offer(self: &Arc<Self>, state: &mut State, region: &Arc<ClientRegion>) {
        if !state.worker.as_mut().is_some_and(|worker| worker.in_place.offer(region)) {
            return;
        }
        let file = region.file();
        self.send(state, |out| {
            let start = begin_frame(out, MAP, 0, file.location);
            for number in [file.len as u64, file.descriptor as u64, file.offset as u64] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            end_frame(out, start);
        });
        let (link, reactor) = (Arc::downgrade(self), self.host.reactor.clone());
        // The last slice may be dropped anywhere, even where the lock is held.
        region.watch(move || {
            reactor.spawn(async move {
                if let Some(link) = link.upgrade() {
                    link.region_gone(file.location);
                }
            });
        });
    }

    fn region_gone(&self, location: u64) {
        if let Some(worker) = &mut self.lock().worker {
            worker.in_place.forget(location);
        }
        self.send_note(UNMAP, 0, location);
    }

    /// What the worker says to [`Self::offer`].
    pub(crate) fn region_mapped(&self, location: u64, mapped: bool) {
        if let Some(worker) = &mut self.lock().worker {
            worker.in_place.answered(location, mapped);
        }
    }

    /// The model needs inputs of its own.
    pub(crate) fn copy_inputs(&self) {
        if let Some(worker) = &mut self.lock().worker {
            worker.in_place.refuse();
        }
    }
}

/// What must happen before a worker can have a batch.
#[derive(Default)]
pub(super) struct Plan {
    /// The inputs that must be copied into the arena: which of which request.
    pub(crate) copies: Vec<(usize, usize)>,
    /// Regions that the worker should map for the next time.
    pub(crate) unknown: Vec<Arc<ClientRegion>>,
}

impl Plan {
    /// `running`: the shared memory of what the worker runs at the same time. `in_place` is `None`
    /// where no worker is ready.
    pub(crate) fn of<'a, I: Iterator<Item = &'a Bytes>>(
        arena: &Arena,
        batch: &Batch,
        in_place: Option<&InPlace>,
        running: impl Fn() -> I,
    ) -> Self {
        let mut plan = Self::default();
        let mut taken: Option<Vec<Range<u64>>> = None;
        for (request, inputs) in batch.requests.iter().map(|request| &request.inputs).enumerate() {
            for (input, data) in inputs.iter().map(|tensor| &tensor.data).enumerate() {
                if data.len() < ARENA_THRESHOLD || is_shared(arena, data) {
                    continue;
                }
                let pages = plan.pages(data, in_place).filter(|pages| {
                    // A model that writes to one of two inputs over the same pages would change
                    // the other.
                    let taken =
                        taken.get_or_insert_with(|| running().filter_map(pages_of).collect());
                    let free = taken.iter().all(|t| t.end <= pages.start || pages.end <= t.start);
                    taken.push(pages.clone());
                    free
                });
                if pages.is_none() {
                    plan.copies.push((request, input));
                }
            }
        }
        plan
    }

    /// The pages of an input that can be read in place.
    fn pages(&mut self, data: &Buffer, in_place: Option<&InPlace>) -> Option<Range<u64>> {
        let (Buffer::One(bytes), Some(in_place)) = (data, in_place) else { return None };
        let (region, location) = region_of(bytes).filter(|_| !in_place.refused)?;
        match in_place.regions.get(&region.file().location) {
            Some(Known::Mapped) => Some(pages_at(location, bytes.len())),
            Some(Known::Asked { .. } | Known::Failed) => None,
            None => {
                self.unknown.push(region);
                None
            }
        }
    }
}

/// The pages over which bytes lie in a client's region, if they do, by location.
fn pages_of(bytes: &Bytes) -> Option<Range<u64>> {
    region_of(bytes).map(|(_, location)| pages_at(location, bytes.len()))
}

fn pages_at(location: u64, len: usize) -> Range<u64> {
    let page = rustix::param::page_size() as u64;
    location - location % page..(location + len as u64).next_multiple_of(page)
}
