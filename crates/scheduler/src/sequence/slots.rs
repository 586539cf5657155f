//! Which sequence has which slot of which instance, and which slots have something to run.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) instance: usize,
    pub(super) slot: usize,
}

pub(super) struct Slots {
    instances: Vec<Instance>,
    /// Slots of each, free or not.
    per_instance: usize,
    /// The lowest slot first, so that sequences spread over the instances. Slot, then instance.
    free: BinaryHeap<Reverse<(usize, usize)>>,
}

struct Instance {
    slots: Vec<Slot>,
    /// Its slots are given to nobody any more.
    retired: bool,
    /// The slots that have something to run, by its arrival.
    ready: BTreeSet<(u64, usize)>,
}

#[derive(Clone, Default)]
struct Slot {
    /// The sequence that has it.
    occupant: Option<u64>,
    /// Arrival of the request that it runs next.
    front: Option<u64>,
}

impl Slots {
    /// So many slots for each instance, and no instance yet.
    pub(super) fn new(slots: usize) -> Self {
        Self { instances: Vec::new(), per_instance: slots, free: BinaryHeap::new() }
    }

    /// Adds an instance, in the place of one that was retired and is vacant, or behind all.
    pub(super) fn add(&mut self, instance: usize) {
        let slots = vec![Slot::default(); self.per_instance];
        let fresh = Instance { slots, retired: false, ready: BTreeSet::new() };
        match self.instances.get_mut(instance) {
            Some(old) => *old = fresh,
            None => self.instances.push(fresh),
        }
        self.free.extend((0..self.per_instance).map(|slot| Reverse((slot, instance))));
    }

    /// From here on the slots of an instance go to nobody but those who have them.
    pub(super) fn retire(&mut self, instance: usize) {
        self.instances[instance].retired = true;
        self.free.retain(|Reverse((_, of))| *of != instance);
    }

    /// Whether nobody has a slot of the instance.
    pub(super) fn is_vacant(&self, instance: usize) -> bool {
        self.instances[instance].slots.iter().all(|slot| slot.occupant.is_none())
    }

    /// A free slot for a sequence, if there is one.
    pub(super) fn take(&mut self, sequence: u64) -> Option<Place> {
        let Reverse((slot, instance)) = self.free.pop()?;
        self.instances[instance].slots[slot].occupant = Some(sequence);
        Some(Place { instance, slot })
    }

    pub(super) fn free(&mut self, place: Place) {
        self.set_front(place, None);
        let instance = &mut self.instances[place.instance];
        instance.slots[place.slot].occupant = None;
        if !instance.retired {
            self.free.push(Reverse((place.slot, place.instance)));
        }
    }

    pub(super) fn occupant(&self, place: Place) -> Option<u64> {
        self.instances[place.instance].slots[place.slot].occupant
    }

    /// Says what the slot runs next: a request by its arrival, or nothing.
    pub(super) fn set_front(&mut self, Place { instance, slot }: Place, front: Option<u64>) {
        let instance = &mut self.instances[instance];
        let old = std::mem::replace(&mut instance.slots[slot].front, front);
        if old != front {
            if let Some(old) = old {
                instance.ready.remove(&(old, slot));
            }
            instance.ready.extend(front.map(|front| (front, slot)));
        }
    }

    /// The slots of an instance that have something to run, by its arrival.
    pub(super) fn ready(&self, instance: usize) -> &BTreeSet<(u64, usize)> {
        &self.instances[instance].ready
    }

    /// The slots of all instances that have something to run.
    pub(super) fn all_ready(&self) -> impl Iterator<Item = Place> {
        self.instances.iter().enumerate().flat_map(|(instance, Instance { ready, .. })| {
            ready.iter().map(move |&(_, slot)| Place { instance, slot })
        })
    }

    /// Slots of an instance, free or not.
    pub(super) fn per_instance(&self) -> usize {
        self.per_instance
    }
}
