//! The rate limiter: which instances may run, where they need more resources together than there
//! are, and whose turn it is.
//!
//! An instance claims what it needs, and is granted all of it or waits. Turns are counted by
//! priority: an instance of priority 2 gets half as many as one of priority 1. Who waits is served
//! in the order of turns, and may be overtaken, but not by anybody who needs a resource that it
//! waits for: so an instance with large needs does not starve among many with small ones.
//!
//! **Calls of models by models.** An execution may wait for another model (BLS) while it holds
//! resources. Were whatever it waits for to wait for them, neither would ever end; and it waits not
//! only for the model that it called, but also for those whose requests are before its own. So
//! while anybody who holds resources waits for a call, urgent claims do not wait: those of models
//! with a request in their queue that a model has made. They are granted what they need even where
//! that is more than there is, and everybody else waits until enough has been given back. Models
//! whose calls hold nothing meanwhile, as those that only lead others, leave the limits intact.

use std::collections::BTreeMap;

use nereid_inference::{Error, Result};

/// What an instance needs of one resource while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub resource: String,
    /// Shared by all devices; otherwise each device has a supply of its own.
    pub global: bool,
    pub count: u32,
}

/// What the server was told that there is of a resource, on one device or on each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supply {
    pub resource: String,
    pub count: u32,
    pub device: Option<i32>,
}

/// An instance, as the rate limiter knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claimant(u64);

/// A resource of one device; no device: a global one.
type Place = (Option<i32>, String);

pub struct RateLimiter {
    /// If there are any, nothing else is supplied; else there is of each resource what the
    /// instance that needs most of it needs.
    supplies: Vec<Supply>,
    members: BTreeMap<Claimant, Member>,
    in_use: BTreeMap<Place, u64>,
    /// Of the turn that was granted last. Who comes later starts from here, not from 0.
    turn: u64,
    claims: u64,
    joined: u64,
    /// Calls that somebody waits for who holds resources.
    calls: usize,
    granted: Vec<Claimant>,
}

struct Member {
    needs: Vec<(Place, u64)>,
    /// What a turn costs.
    priority: u64,
    turn: u64,
    state: State,
}

/// Whether a model calls for the batch that is claimed: it must not wait for one that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Urgent(pub bool);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Waiting { claim: u64, urgent: bool },
    Holding,
}

impl RateLimiter {
    pub fn new(supplies: Vec<Supply>) -> Self {
        Self {
            supplies,
            members: BTreeMap::new(),
            in_use: BTreeMap::new(),
            turn: 0,
            claims: 0,
            joined: 0,
            calls: 0,
            granted: Vec::new(),
        }
    }

    /// Takes in an instance on `device`. Priority 0 counts as 1.
    ///
    /// # Errors
    /// Triton's, where it could never run.
    pub fn join(&mut self, needs: &[Need], device: i32, priority: u32) -> Result<Claimant> {
        let mut places: BTreeMap<Place, u64> = BTreeMap::new();
        for need in needs {
            let place = (if need.global { None } else { Some(device) }, need.resource.clone());
            let count = places.entry(place).or_default();
            *count = (*count).max(u64::from(need.count));
        }
        for (place, &count) in &places {
            self.check(place, count, places.keys())?;
        }
        self.joined += 1;
        let claimant = Claimant(self.joined);
        let needs = places.into_iter().collect();
        let priority = u64::from(priority.max(1));
        self.members
            .insert(claimant, Member { needs, priority, turn: self.turn, state: State::Idle });
        Ok(claimant)
    }

    fn check<'a>(
        &'a self,
        (device, resource): &Place,
        count: u64,
        own: impl Iterator<Item = &'a Place>,
    ) -> Result<()> {
        let others = self.members.values().flat_map(|member| &member.needs).map(|(place, _)| place);
        let mut same = others.chain(own).filter(|(_, other)| other == resource);
        if same.any(|(other, _)| other.is_none() != device.is_none()) {
            return Err(Error::invalid_arg(format!(
                "Resource \"{resource}\" is present as both global and device-specific resource \
                 in the model configuration."
            )));
        }
        if self.supplies.is_empty() {
            return Ok(());
        }
        let supply = self.supplied(*device, resource);
        if supply < count {
            return Err(Error::invalid_arg(format!(
                "Resource count for \"{resource}\" is limited to {supply} which will prevent \
                 scheduling of one or more model instances, the minimum required count is {count}"
            )));
        }
        Ok(())
    }

    /// The supply as the server was told: for the device, else for each; of a global resource
    /// whatever was said last.
    fn supplied(&self, device: Option<i32>, resource: &str) -> u64 {
        let mut same = self.supplies.iter().rev().filter(|supply| supply.resource == resource);
        let found = match device {
            None => same.next(),
            Some(_) => same
                .clone()
                .find(|supply| supply.device == device)
                .or_else(|| same.find(|supply| supply.device.is_none())),
        };
        found.map_or(0, |supply| u64::from(supply.count))
    }

    /// The instance is gone, whatever it held or waited for.
    pub fn leave(&mut self, claimant: Claimant) {
        let Some(member) = self.members.remove(&claimant) else { return };
        if member.state == State::Holding {
            self.subtract(&member.needs);
        }
        self.grant();
    }

    /// Its turn comes the earlier, the lower this is.
    pub fn turn(&self, claimant: Claimant) -> u64 {
        self.members.get(&claimant).map_or(0, |member| member.turn)
    }

    /// Claims what the instance needs for one batch. `false`: it waits, until
    /// [`Self::take_granted`] names it. May be repeated.
    pub fn claim(&mut self, claimant: Claimant, urgent: Urgent) -> bool {
        self.wait(claimant, urgent);
        self.grant();
        self.granted.retain(|granted| *granted != claimant);
        self.members.get(&claimant).is_some_and(|member| member.state == State::Holding)
    }

    fn wait(&mut self, claimant: Claimant, Urgent(urgent): Urgent) {
        let Some(member) = self.members.get_mut(&claimant) else { return };
        match &mut member.state {
            State::Holding => {}
            State::Waiting { urgent: known, .. } => *known = urgent,
            State::Idle => {
                member.turn = member.turn.max(self.turn);
                member.state = State::Waiting { claim: self.claims, urgent };
                self.claims += 1;
            }
        }
    }

    /// Gives back what was granted and not used.
    pub fn give_back(&mut self, claimant: Claimant) {
        if self.take_back(claimant) {
            self.grant();
        }
    }

    /// A batch has run. `again`: there is more to run, for which it waits as if it had claimed.
    pub fn done(&mut self, claimant: Claimant, again: Option<Urgent>) {
        if !self.take_back(claimant) {
            return;
        }
        if let Some(member) = self.members.get_mut(&claimant) {
            self.turn = self.turn.max(member.turn);
            member.turn += member.priority;
        }
        if let Some(urgent) = again {
            self.wait(claimant, urgent);
        }
        self.grant();
    }

    fn take_back(&mut self, claimant: Claimant) -> bool {
        let Some(member) = self.members.get_mut(&claimant) else { return false };
        if member.state != State::Holding {
            return false;
        }
        member.state = State::Idle;
        let needs = member.needs.clone();
        self.subtract(&needs);
        true
    }

    /// Somebody who holds resources waits for a call from now on.
    pub fn call_begins(&mut self) {
        self.calls += 1;
        self.grant();
    }

    pub fn call_ends(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// Who waited and has been granted what it needs since the last call.
    pub fn take_granted(&mut self) -> Vec<Claimant> {
        std::mem::take(&mut self.granted)
    }

    /// Grants what can be granted, in the order of turns.
    fn grant(&mut self) {
        let mut waiting: Vec<(u64, u64, bool, Claimant)> = self
            .members
            .iter()
            .filter_map(|(&claimant, member)| match member.state {
                State::Waiting { claim, urgent } => Some((member.turn, claim, urgent, claimant)),
                _ => None,
            })
            .collect();
        waiting.sort_unstable();
        let mut awaited: Vec<Place> = Vec::new();
        for (.., urgent, claimant) in waiting {
            let needs = &self.members[&claimant].needs;
            let must = urgent && self.calls > 0;
            let overtakes = needs.iter().any(|(place, _)| awaited.contains(place));
            let fits = needs.iter().all(|(place, count)| self.is_free(place, *count));
            if must || (fits && !overtakes) {
                self.give(claimant);
                self.granted.push(claimant);
            } else {
                awaited.extend(needs.iter().map(|(place, _)| place.clone()));
            }
        }
    }

    fn is_free(&self, place: &Place, count: u64) -> bool {
        self.in_use.get(place).copied().unwrap_or(0) + count <= self.total(place)
    }

    fn total(&self, place: &Place) -> u64 {
        if !self.supplies.is_empty() {
            return self.supplied(place.0, &place.1);
        }
        let needs = self.members.values().flat_map(|member| &member.needs);
        needs.filter(|(other, _)| other == place).map(|(_, count)| *count).max().unwrap_or(0)
    }

    fn give(&mut self, claimant: Claimant) {
        let Some(member) = self.members.get_mut(&claimant) else { return };
        member.state = State::Holding;
        for (place, count) in &member.needs {
            *self.in_use.entry(place.clone()).or_default() += count;
        }
    }

    fn subtract(&mut self, needs: &[(Place, u64)]) {
        for (place, count) in needs {
            if let Some(in_use) = self.in_use.get_mut(place) {
                *in_use -= count;
            }
        }
    }
}

#[cfg(test)]
#[path = "rate_limiter_properties.rs"]
mod properties;
#[cfg(test)]
#[path = "rate_limiter_tests.rs"]
mod tests;
