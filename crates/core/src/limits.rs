//! The rate limiter of a server, and the part of a model's instances in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use nereid_inference::{Answer, Request, ResponseSink, Result, Times};
use nereid_model_config::{ModelConfig, ModelRateLimiter};
use nereid_scheduler::{Claimant, Need, RateLimiter, Supply, Urgent};

use crate::pool::Pool;

/// Shared by all models. Present only where `--rate-limit=execution_count` asks for it.
pub struct Limiter(Mutex<Inner>);

struct Inner {
    core: RateLimiter,
    pools: HashMap<Claimant, Weak<Pool>>,
    /// Somebody is waking those who were granted something.
    waking: bool,
}

impl Limiter {
    pub fn new(supplies: Vec<Supply>) -> Arc<Self> {
        let core = RateLimiter::new(supplies);
        Arc::new(Self(Mutex::new(Inner { core, pools: HashMap::new(), waking: false })))
    }

    /// Watches a request that somebody waits for who holds resources.
    pub(crate) fn watch_call(self: &Arc<Self>, request: &mut Request) {
        self.lock().core.call_begins();
        let limiter = self.clone();
        request.responder.wrap(|inner| CallWatch { inner, limiter });
        self.wake();
    }

    /// Lets everybody run who was granted what it waited for. To be called with no lock held.
    fn wake(&self) {
        let mut inner = self.lock();
        // Those who run may end at once and come back here; whoever is here already goes on.
        if std::mem::replace(&mut inner.waking, true) {
            return;
        }
        loop {
            let granted = inner.core.take_granted();
            if granted.is_empty() {
                break;
            }
            let pools: Vec<_> = granted
                .iter()
                .filter_map(|claimant| inner.pools.get(claimant)?.upgrade())
                .collect();
            drop(inner);
            // Each let go of before the lock is taken again: a pool that ends comes back here.
            pools.into_iter().for_each(|pool| pool.pump());
            inner = self.lock();
        }
        inner.waking = false;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees the end of a call.
struct CallWatch {
    inner: Box<dyn ResponseSink>,
    limiter: Arc<Limiter>,
}

impl ResponseSink for CallWatch {
    fn deliver(&mut self, answer: Answer, times: &Times) {
        if answer.last {
            self.limiter.lock().core.call_ends();
        }
        self.inner.deliver(answer, times);
    }

    fn takes_devices(&self) -> bool {
        self.inner.takes_devices()
    }
}

/// The claims of the instances of one pool.
pub(crate) struct Limits {
    limiter: Arc<Limiter>,
    instances: Vec<Member>,
}

struct Member {
    claimant: Claimant,
    needs_any: bool,
}

impl Limits {
    /// `None` where none of the model's instances has a share in the rate limiter.
    pub(crate) fn new(
        config: &ModelConfig,
        limiter: Option<&Arc<Limiter>>,
    ) -> Result<Option<Self>> {
        let groups = || config.instance_group.iter().filter(|group| !group.passive);
        let Some(limiter) = limiter.filter(|_| groups().any(|group| group.rate_limiter.is_some()))
        else {
            return Ok(None);
        };
        let mut limits = Self { limiter: limiter.clone(), instances: Vec::new() };
        for group in groups() {
            let share = group.rate_limiter.clone().unwrap_or_default();
            let needs = needs(&share);
            for _ in 0..group.count {
                // All instances are on the CPU, which is device 0.
                let claimant = limiter.lock().core.join(&needs, 0, share.priority)?;
                limits.instances.push(Member { claimant, needs_any: !needs.is_empty() });
            }
        }
        Ok(Some(limits))
    }

    /// From here on `pool` is told of what it waited for.
    pub(crate) fn attach(&self, pool: &Arc<Pool>) {
        let pools = self.instances.iter().map(|member| (member.claimant, Arc::downgrade(pool)));
        self.limiter.lock().pools.extend(pools);
    }

    /// The instances that have a place, those first whose turn it is.
    pub(crate) fn by_turn(&self, places: &[usize]) -> Vec<usize> {
        let inner = self.limiter.lock();
        let mut free: Vec<usize> = (0..places.len()).filter(|&index| places[index] > 0).collect();
        free.sort_by_key(|&index| inner.core.turn(self.instances[index].claimant));
        free
    }

    pub(crate) fn claim(&self, instance: usize, urgent: Urgent) -> bool {
        self.limiter.lock().core.claim(self.instances[instance].claimant, urgent)
    }

    pub(crate) fn give_back(&self, instance: usize) {
        self.limiter.lock().core.give_back(self.instances[instance].claimant);
    }

    pub(crate) fn done(&self, instance: usize, again: Option<Urgent>) {
        self.limiter.lock().core.done(self.instances[instance].claimant, again);
    }

    pub(crate) fn wake(&self) {
        self.limiter.wake();
    }

    /// What the instance runs holds resources meanwhile, if the instance needs any.
    pub(crate) fn mark(&self, instance: usize, requests: &mut [Request]) {
        let holds = self.instances[instance].needs_any;
        requests.iter_mut().for_each(|request| request.nesting.holds = holds);
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        let mut inner = self.limiter.lock();
        for member in &self.instances {
            inner.core.leave(member.claimant);
            inner.pools.remove(&member.claimant);
        }
        drop(inner);
        self.limiter.wake();
    }
}

fn needs(share: &ModelRateLimiter) -> Vec<Need> {
    let need = |resource: &nereid_model_config::model_rate_limiter::Resource| Need {
        resource: resource.name.clone(),
        global: resource.global,
        count: resource.count,
    };
    share.resources.iter().map(need).collect()
}
