//! Models that call each other under a rate limiter, in random worlds: every execution ends,
//! whatever they need and whoever calls whom.

use std::collections::BTreeMap;

use super::{Claimant, Need, Place, RateLimiter, State, Supply, Urgent};
use crate::testing::Random;

/// Of one resource, by any instance.
const MOST_NEEDED: u32 = 4;

/// A model with its instances; it calls others, one after another, all with a higher number.
struct Model {
    calls: Vec<usize>,
    instances: Vec<Claimant>,
    /// Requests that wait: who called, if anybody.
    queue: Vec<Option<usize>>,
}

/// An execution; it ends when all that it calls has ended.
struct Execution {
    model: usize,
    instance: Claimant,
    calls_left: Vec<usize>,
    caller: Option<usize>,
    waits_for_call: bool,
    holds: bool,
}

struct World {
    limiter: RateLimiter,
    models: Vec<Model>,
    executions: BTreeMap<usize, Execution>,
    started: usize,
    ended: usize,
}

impl World {
    fn new(random: &mut Random) -> Self {
        // Nothing said, or at least what the neediest instance needs.
        let supply =
            |resource: &str, count| Supply { resource: resource.into(), count, device: None };
        let more = random.below(4) as u32;
        let supplies = match random.once_in(2) {
            true => Vec::new(),
            false => vec![supply("A", MOST_NEEDED + more), supply("B", MOST_NEEDED)],
        };
        let mut limiter = RateLimiter::new(supplies);
        let count = 2 + random.below(5) as usize;
        let models = (0..count)
            .map(|number| {
                let later: Vec<usize> = (number + 1..count).collect();
                let calls = match later.is_empty() {
                    true => Vec::new(),
                    false => (0..random.below(3)).map(|_| random.pick(&later)).collect(),
                };
                let needs: Vec<Need> = (0..random.below(3))
                    .map(|_| {
                        let resource = random.pick(&["A", "B"]);
                        let count = 1 + random.below(MOST_NEEDED.into()) as u32;
                        Need { resource: resource.into(), global: resource == "B", count }
                    })
                    .collect();
                let priority = random.below(4) as u32;
                let instances = (0..1 + random.below(2))
                    .map(|device| limiter.join(&needs, device as i32, priority).unwrap())
                    .collect();
                Model { calls, instances, queue: Vec::new() }
            })
            .collect();
        Self { limiter, models, executions: BTreeMap::new(), started: 0, ended: 0 }
    }

    fn is_free(&self, instance: Claimant) -> bool {
        self.executions.values().all(|execution| execution.instance != instance)
    }

    /// Starts what may start: the front of a queue, urgently if anybody in it must not wait.
    fn start(&mut self) -> bool {
        self.give_back_unneeded();
        for number in 0..self.models.len() {
            let model = &self.models[number];
            if model.queue.is_empty() {
                continue;
            }
            let urgent = Urgent(model.queue.iter().any(Option::is_some));
            for instance in model.instances.clone() {
                if !self.is_free(instance) || !self.claim(instance, urgent) {
                    continue;
                }
                let caller = self.models[number].queue.remove(0);
                let holds = !self.limiter.members[&instance].needs.is_empty();
                let calls_left = self.models[number].calls.clone();
                let execution = Execution {
                    model: number,
                    instance,
                    calls_left,
                    caller,
                    waits_for_call: false,
                    holds,
                };
                self.executions.insert(self.started, execution);
                self.started += 1;
                return true;
            }
        }
        false
    }

    /// An instance may be granted what it waited for after another one took its request.
    fn give_back_unneeded(&mut self) {
        let idle = |world: &Self| {
            let idle = world.models.iter().filter(|model| model.queue.is_empty());
            let mut instances = idle.flat_map(|model| model.instances.iter().copied());
            let holds = |i: &Claimant| world.limiter.members[i].state == State::Holding;
            instances.find(|instance| world.is_free(*instance) && holds(instance))
        };
        while let Some(instance) = idle(self) {
            self.limiter.give_back(instance);
        }
    }

    /// Claims, and checks that nobody but the urgent gets what there is not.
    fn claim(&mut self, instance: Claimant, urgent: Urgent) -> bool {
        let held = self.limiter.members[&instance].state == State::Holding;
        let granted = self.limiter.claim(instance, urgent);
        if granted && urgent == Urgent(false) && !held {
            let member = &self.limiter.members[&instance];
            let fits =
                |(place, _): &(Place, u64)| self.limiter.in_use[place] <= self.limiter.total(place);
            assert!(member.needs.iter().all(fits));
        }
        granted
    }

    /// Lets one execution go on: make its next call, or end.
    fn go_on(&mut self, random: &mut Random) -> bool {
        let free: Vec<usize> = self
            .executions
            .iter()
            .filter(|(_, execution)| !execution.waits_for_call)
            .map(|(&number, _)| number)
            .collect();
        if free.is_empty() {
            return false;
        }
        let number = random.pick(&free);
        let Some(execution) = self.executions.get_mut(&number) else { return false };
        if let Some(called) = execution.calls_left.pop() {
            execution.waits_for_call = true;
            if execution.holds {
                self.limiter.call_begins();
            }
            self.models[called].queue.push(Some(number));
            return true;
        }
        let Some(execution) = self.executions.remove(&number) else { return false };
        let more = !self.models[execution.model].queue.is_empty();
        self.limiter.done(execution.instance, (more && random.once_in(2)).then_some(Urgent(false)));
        self.ended += 1;
        if let Some(caller) = execution.caller.and_then(|c| self.executions.get_mut(&c)) {
            caller.waits_for_call = false;
            if caller.holds {
                self.limiter.call_ends();
            }
        }
        true
    }
}

#[test]
fn no_set_of_models_that_call_each_other_dead_locks() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let mut world = World::new(&mut random);
        for _ in 0..30 {
            let number = random.below(world.models.len() as u64) as usize;
            world.models[number].queue.push(None);
            for _ in 0..random.below(6) {
                world.start();
                world.go_on(&mut random);
            }
        }
        while world.start() || world.go_on(&mut random) {}
        let waiting: usize = world.models.iter().map(|model| model.queue.len()).sum();
        assert_eq!((waiting, world.executions.len()), (0, 0), "dead-lock with seed {seed}");
        assert_eq!(world.started, world.ended);
        assert!(world.limiter.in_use.values().all(|&count| count == 0));
    }
}
