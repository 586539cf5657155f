//! The oldest strategy: a dynamic batcher over the next requests of an instance's sequences.

use std::time::{Duration, Instant};

use super::{Plan, Sequences};

impl Sequences {
    pub(super) fn plan_oldest(&self, instance: usize, now: Instant, delay: Duration) -> Plan {
        let ready = self.slots.ready(instance);
        let fronts = ready.iter().filter_map(|&(_, slot)| self.front(instance, slot));
        let fit = self.limits.fit(fronts.map(|front| (&front.request, front.since)));
        let Some(fit) = fit else { return Plan::WaitUntil(None) };
        let deadline = fit.oldest.checked_add(delay);
        // Each sequence brings one request at a time, so nobody else can come once all have.
        let complete = ready.len() == self.slots.per_instance();
        let over = deadline.is_some_and(|deadline| now >= deadline);
        if !(fit.closed.is_some() || complete || over) {
            return Plan::WaitUntil(deadline);
        }
        let slots = ready.iter().map(|&(_, slot)| slot).take(fit.take()).collect();
        Plan::Run { slots, rows: false }
    }
}
