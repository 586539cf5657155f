//! Inputs that a worker reads where clients have put them, in regions of their own.
//!
//! A worker is asked to map a region when the first input in it comes. Until it says that it has,
//! inputs are copied into the arena. What a model writes stays its own: that is the worker's affair.

use std::collections::HashMap;
use std::sync::Arc;

use nereid_arena::{ARENA_THRESHOLD, Arena, ClientRegion, region_of};
use nereid_backend::Batch;
use nereid_inference::Buffer;

use super::{Link, Phase, State};
use crate::frame::{MAP, UNMAP, begin_frame, end_frame};
use crate::tensors::is_shared;

/// What one worker knows of the regions of clients.
pub(super) struct InPlace {
    /// There is to be nothing in place.
    refused: bool,
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
    /// A decoupled model may go on with its inputs when the client has had all answers.
    pub(crate) fn new(decoupled: bool) -> Self {
        Self { refused: decoupled, regions: HashMap::new() }
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
}

impl State {
    pub(super) fn plan(&self, arena: &Arena, batch: &Batch) -> Plan {
        let ready = matches!(self.phase, Phase::Ready);
        let in_place = self.worker.as_ref().filter(|_| ready).map(|worker| &worker.in_place);
        Plan::of(arena, batch, in_place)
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
    /// `in_place` is `None` where no worker is ready.
    fn of(arena: &Arena, batch: &Batch, in_place: Option<&InPlace>) -> Self {
        let mut plan = Self::default();
        for (request, inputs) in batch.requests.iter().map(|request| &request.inputs).enumerate() {
            for (input, data) in inputs.iter().map(|tensor| &tensor.data).enumerate() {
                let stays = data.len() < ARENA_THRESHOLD || is_shared(arena, data);
                if !stays && !plan.is_in_place(data, in_place) {
                    plan.copies.push((request, input));
                }
            }
        }
        plan
    }

    /// Whether the worker sees an input in its client's region.
    fn is_in_place(&mut self, data: &Buffer, in_place: Option<&InPlace>) -> bool {
        let (Buffer::One(bytes), Some(in_place)) = (data, in_place) else { return false };
        let Some((region, _)) = region_of(bytes).filter(|_| !in_place.refused) else {
            return false;
        };
        match in_place.regions.get(&region.file().location) {
            Some(Known::Mapped) => true,
            Some(Known::Asked { .. } | Known::Failed) => false,
            None => {
                self.unknown.push(region);
                false
            }
        }
    }
}
