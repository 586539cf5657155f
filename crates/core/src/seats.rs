//! The instances of a pool, which may change while it runs.

use std::sync::Arc;

use nereid_backend::Placement;

use crate::instances::{Instances, Placed};
use crate::seat::Runner;

/// Instances by the numbers that the scheduler knows them by. A seat that somebody has left is taken
/// by the next who comes.
pub(crate) struct Seats {
    seats: Vec<Seat>,
    /// Instances that never get a request; they live as long as the others.
    passive: Vec<Placed>,
    /// How many batches an instance may be given before it is done with the first.
    ahead: usize,
}

struct Seat {
    placement: Placement,
    /// `None`: vacant.
    runner: Option<Arc<Runner>>,
    /// Batches that it has.
    given: usize,
    /// It goes when it is done.
    leaving: bool,
}

impl Seats {
    pub(crate) fn new(instances: Instances, ahead: usize) -> Self {
        let mut seats = Self { seats: Vec::new(), passive: instances.passive, ahead };
        for placed in instances.active {
            seats.add(placed);
        }
        seats
    }

    /// Whether nobody gets requests.
    pub(crate) fn is_empty(&self) -> bool {
        self.seats.iter().all(|seat| seat.leaving || seat.runner.is_none())
    }

    pub(crate) fn runner(&self, seat: usize) -> Option<Arc<Runner>> {
        self.seats.get(seat)?.runner.clone()
    }

    /// The instance of this index in its model.
    pub(crate) fn runner_of(&self, index: usize) -> Option<Arc<Runner>> {
        self.seats.iter().find(|seat| seat.placement.index == index)?.runner.clone()
    }

    /// How many more batches an instance takes.
    fn open(&self, seat: usize) -> usize {
        let Seat { runner: Some(runner), given, .. } = &self.seats[seat] else { return 0 };
        runner.depth().min(self.ahead).saturating_sub(*given)
    }

    /// How many more batches each instance takes. Those that go take none, unless they `finish`
    /// something that nobody else can.
    pub(crate) fn places(&self, finishes: impl Fn(usize) -> bool) -> Vec<usize> {
        let open = |seat: usize| match self.seats[seat].leaving && !finishes(seat) {
            true => 0,
            false => self.open(seat),
        };
        (0..self.seats.len()).map(open).collect()
    }

    pub(crate) fn give(&mut self, seat: usize) {
        self.seats[seat].given += 1;
    }

    pub(crate) fn take_back(&mut self, seat: usize) {
        self.seats[seat].given -= 1;
    }

    /// How many batches wait at instances behind the ones that these run.
    pub(crate) fn waiting(&self) -> usize {
        self.seats.iter().map(|seat| seat.given.saturating_sub(1)).sum()
    }

    /// The planned instances that there are not, each with an index that no other one has.
    pub(crate) fn missing(&self, planned: &[(Placement, bool)]) -> Vec<(Placement, bool)> {
        let is = |have: &Placement, (wanted, _): &(Placement, bool)| is_same(have, wanted);
        let has = |plan: &(Placement, bool)| match plan.1 {
            true => self.passive.iter().any(|placed| is(&placed.placement, plan)),
            false => self.staying().any(|(_, seat)| is(&seat.placement, plan)),
        };
        let seated = self.seats.iter().filter(|seat| seat.runner.is_some());
        let taken = seated.map(|seat| &seat.placement);
        let mut taken: Vec<usize> = taken
            .chain(self.passive.iter().map(|placed| &placed.placement))
            .map(|placement| placement.index)
            .collect();
        let mut missing: Vec<_> = planned.iter().filter(|plan| !has(plan)).cloned().collect();
        for (placement, _) in &mut missing {
            placement.index = (0..).find(|index| !taken.contains(index)).unwrap_or_default();
            taken.push(placement.index);
        }
        missing
    }

    /// The seats of instances that are not planned.
    pub(crate) fn unplanned(&self, planned: &[(Placement, bool)]) -> Vec<usize> {
        let unplanned = self.staying().filter(|(_, seat)| {
            !planned.iter().any(|(wanted, passive)| !passive && is_same(&seat.placement, wanted))
        });
        unplanned.map(|(index, _)| index).collect()
    }

    /// Replaces the passive instances; those that go come back.
    pub(crate) fn regroup_passive(
        &mut self,
        planned: &[(Placement, bool)],
        new: Vec<Placed>,
    ) -> Vec<Placed> {
        let is_planned = |placed: &Placed| {
            planned.iter().any(|(wanted, passive)| *passive && is_same(&placed.placement, wanted))
        };
        let (stay, gone) = std::mem::take(&mut self.passive).into_iter().partition(is_planned);
        self.passive = stay;
        self.passive.extend(new);
        gone
    }

    pub(crate) fn retire(&mut self, seat: usize) {
        self.seats[seat].leaving = true;
    }

    /// Seats an instance, and says where.
    pub(crate) fn add(&mut self, Placed { placement, runner }: Placed) -> usize {
        let taken = Seat { placement, runner: Some(runner), given: 0, leaving: false };
        match self.seats.iter().position(|seat| seat.runner.is_none()) {
            Some(vacant) => {
                self.seats[vacant] = taken;
                vacant
            }
            None => {
                self.seats.push(taken);
                self.seats.len() - 1
            }
        }
    }

    /// The seats of those who are to go and have nothing to run.
    pub(crate) fn idle_leavers(&self) -> Vec<usize> {
        let idle = |seat: &Seat| seat.leaving && seat.given == 0 && seat.runner.is_some();
        (0..self.seats.len()).filter(|&index| idle(&self.seats[index])).collect()
    }

    pub(crate) fn has_leavers(&self) -> bool {
        self.seats.iter().any(|seat| seat.leaving && seat.runner.is_some())
    }

    pub(crate) fn vacate(&mut self, seat: usize) -> Option<Arc<Runner>> {
        self.seats[seat].runner.take()
    }

    fn staying(&self) -> impl Iterator<Item = (usize, &Seat)> {
        let seats = self.seats.iter().enumerate();
        seats.filter(|(_, seat)| !seat.leaving && seat.runner.is_some())
    }
}

/// Whether an instance can stay where another one is planned: its index is nobody's concern.
fn is_same(have: &Placement, wanted: &Placement) -> bool {
    (&have.name, have.kind, have.device_id) == (&wanted.name, wanted.kind, wanted.device_id)
}
