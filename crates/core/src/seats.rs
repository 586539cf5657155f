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
        let (active, _) = pair(self.staying(), planned, false);
        let (passive, _) = pair(self.idlers(), planned, true);
        let seated = self.seats.iter().filter(|seat| seat.runner.is_some());
        let placements = seated.map(|seat| &seat.placement);
        let mut taken: Vec<usize> = placements
            .chain(self.passive.iter().map(|placed| &placed.placement))
            .map(|placement| placement.index)
            .collect();
        let mut missing: Vec<_> = active.into_iter().chain(passive).cloned().collect();
        for (placement, _) in &mut missing {
            placement.index = (0..).find(|index| !taken.contains(index)).unwrap_or_default();
            taken.push(placement.index);
        }
        missing
    }

    /// The seats of instances that are not planned.
    pub(crate) fn unplanned(&self, planned: &[(Placement, bool)]) -> Vec<usize> {
        pair(self.staying(), planned, false).1
    }

    /// Replaces the passive instances; those that go come back.
    pub(crate) fn regroup_passive(
        &mut self,
        planned: &[(Placement, bool)],
        new: Vec<Placed>,
    ) -> Vec<Placed> {
        let (_, superfluous) = pair(self.idlers(), planned, true);
        let mut gone = Vec::new();
        for (index, placed) in std::mem::take(&mut self.passive).into_iter().enumerate() {
            let place = if superfluous.contains(&index) { &mut gone } else { &mut self.passive };
            place.push(placed);
        }
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

    fn staying(&self) -> Vec<(usize, &Placement)> {
        let seats = self.seats.iter().enumerate();
        let staying = seats.filter(|(_, seat)| !seat.leaving && seat.runner.is_some());
        staying.map(|(index, seat)| (index, &seat.placement)).collect()
    }

    fn idlers(&self) -> Vec<(usize, &Placement)> {
        self.passive.iter().map(|placed| &placed.placement).enumerate().collect()
    }
}

/// Pairs the planned instances, passive or not, with those that there are: by name first, and then
/// with whichever will do, since a name is nobody's concern. What is left of both.
fn pair<'a>(
    mut have: Vec<(usize, &Placement)>,
    planned: &'a [(Placement, bool)],
    passive: bool,
) -> (Vec<&'a (Placement, bool)>, Vec<usize>) {
    let mut wanted: Vec<_> = planned.iter().filter(|(_, is)| *is == passive).collect();
    for by_name in [true, false] {
        wanted.retain(|(wanted, _)| {
            let will_do = |(_, have): &(usize, &Placement)| {
                (have.kind, have.device_id) == (wanted.kind, wanted.device_id)
                    && (!by_name || have.name == wanted.name)
            };
            let found = have.iter().position(will_do);
            found.map(|index| have.remove(index)).is_none()
        });
    }
    (wanted, have.into_iter().map(|(index, _)| index).collect())
}

#[cfg(test)]
mod tests {
    use nereid_backend::InstanceKind;

    use super::*;

    fn placement(name: &str, index: usize) -> Placement {
        Placement { name: name.to_owned(), index, kind: InstanceKind::Cpu, device_id: 0 }
    }

    #[test]
    fn instances_stay_whatever_they_are_called() {
        let (one, two) = (placement("m_0", 0), placement("m_1", 1));
        let planned = [
            (placement("m_0_0", 0), false),
            (placement("m_1", 1), false),
            (placement("m_9", 2), true),
        ];
        let (missing, left) = pair(vec![(4, &one), (5, &two)], &planned, false);
        assert!(missing.is_empty() && left.is_empty());
        let (missing, left) = pair(vec![(5, &two)], &planned, false);
        assert_eq!((missing.len(), missing[0].0.name.as_str()), (1, "m_0_0"));
        assert!(left.is_empty());
        let (missing, left) = pair(vec![(4, &one), (5, &two)], &planned[1..], false);
        assert!(missing.is_empty());
        assert_eq!(left, [4], "the name decides who goes");
    }
}
