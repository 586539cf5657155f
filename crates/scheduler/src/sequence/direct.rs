//! The direct strategy: a sequence has a row of the batch to itself.

use std::time::{Duration, Instant};

use super::{Plan, Sequences};

impl Sequences {
    /// Runs every slot that has something to run, at its row, once enough of them have.
    pub(super) fn plan_direct(
        &self,
        instance: usize,
        now: Instant,
        delay: Duration,
        utilization: f32,
    ) -> Plan {
        let ready = self.slots.ready(instance);
        let oldest = ready.first().and_then(|&(_, slot)| self.front(instance, slot));
        let Some(oldest) = oldest else { return Plan::WaitUntil(None) };
        let share = ready.len() as f32 / self.slots.per_instance() as f32;
        if share < utilization {
            let deadline = oldest.since.checked_add(delay);
            if deadline.is_none_or(|deadline| now < deadline) {
                return Plan::WaitUntil(deadline);
            }
        }
        // What does not fit the shapes of the oldest waits; it will be the oldest soon.
        let joins = |slot: &usize| {
            self.front(instance, *slot)
                .is_some_and(|front| self.limits.joins(&oldest.request, &front.request))
        };
        let mut slots: Vec<usize> = ready.iter().map(|&(_, slot)| slot).filter(joins).collect();
        slots.sort_unstable();
        Plan::Run { slots, rows: true }
    }
}
