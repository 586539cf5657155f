//! Inputs that a worker reads where clients have put them, in regions of their own.
//!
//! A worker maps a region privately, so that what a model writes to an input stays the model's, and
//! looks after every request whether it did. It is asked to map a region when the first input in it
//! comes. Until it says that it has, and once it has said that its model writes to inputs or holds
//! on to them, inputs are copied into the arena.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nereid_arena::{ARENA_THRESHOLD, Arena, ClientRegion, region_of};
use nereid_backend::Batch;
use nereid_inference::Buffer;

use crate::tensors::is_in_arena;

/// What one worker knows of the regions of clients.
pub(crate) struct InPlace {
    refused: bool,
    /// By location: whether the worker has said that it is mapped.
    regions: HashMap<u64, bool>,
}

impl InPlace {
    /// `refused`: there is to be nothing in place. A decoupled model may go on with its inputs when
    /// the client has had all answers.
    pub(crate) fn new(refused: bool) -> Self {
        Self { refused, regions: HashMap::new() }
    }

    /// Whether the worker is to hear of a region now.
    pub(crate) fn offer(&mut self, location: u64) -> bool {
        self.regions.insert(location, false).is_none()
    }

    pub(crate) fn answered(&mut self, location: u64, mapped: bool) {
        if let Some(known) = self.regions.get_mut(&location) {
            *known = mapped;
        }
    }

    pub(crate) fn forget(&mut self, location: u64) {
        self.regions.remove(&location);
    }

    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }
}

/// What must happen before a worker can have a batch.
#[derive(Default)]
pub(crate) struct Plan {
    /// The inputs that must be copied into the arena: which of which request.
    pub(crate) copies: Vec<(usize, usize)>,
    /// Regions that the worker should map for the next time.
    pub(crate) unknown: Vec<Arc<ClientRegion>>,
}

impl Plan {
    /// `running`: the shared memory of what the worker runs already. `in_place` is `None` where no
    /// worker is ready.
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
                if data.len() < ARENA_THRESHOLD || is_in_arena(arena, data) {
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
        let (region, _) = region_of(bytes).filter(|_| !in_place.refused)?;
        match in_place.regions.get(&region.file().location) {
            Some(true) => pages_of(bytes),
            Some(false) => None,
            None => {
                self.unknown.push(region);
                None
            }
        }
    }
}

/// The pages over which bytes lie in a client's region, by location.
fn pages_of(bytes: &Bytes) -> Option<Range<u64>> {
    let page = rustix::param::page_size() as u64;
    let (_, location) = region_of(bytes)?;
    let end = (location + bytes.len() as u64).next_multiple_of(page);
    Some(location - location % page..end)
}
