//! Which models of this backend wait for which, to find calls that lead back to who waits for them.
//!
//! A batch that an instance can only finish once another one has been run, by that very instance,
//! would wait for ever. Such a call is run by the instance that waits, in the middle of its wait.
//! Calls are made on the reactor's thread, one after another, so the last one of a circle finds it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::link::Link;

/// How many of its own calls an instance runs within each other.
const DEEPEST: usize = 64;

/// The instances of all models of the backend.
#[derive(Default)]
pub(crate) struct Peers(Mutex<HashMap<String, Vec<Weak<Link>>>>);

/// What becomes of a call.
#[derive(Debug, PartialEq)]
pub(crate) enum Way {
    Free,
    /// This instance of the model waits for the answer, and must run the call itself.
    Within(usize),
    /// It cannot be run.
    Circle(String),
}

impl Peers {
    pub(crate) fn join(&self, link: &Arc<Link>) {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let links = models.entry(link.model.clone()).or_default();
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(link));
    }

    /// How `caller` can call the model `target`. `members` tells what an ensemble is made of.
    pub(crate) fn way(
        &self,
        caller: &Link,
        target: &str,
        members: &dyn Fn(&str) -> Vec<String>,
    ) -> Way {
        let mut seen = HashSet::new();
        if let Some(link) = self.waits_for(target, caller, &mut seen) {
            return match link.nested() < DEEPEST {
                true => Way::Within(link.index),
                false => Way::Circle(format!(
                    "model '{target}' calls itself more than {DEEPEST} times within each other"
                )),
            };
        }
        let leads_back = |member: &String| {
            self.waits_for(member, caller, &mut HashSet::from([target.to_owned()])).is_some()
        };
        match members(target).iter().find(|member| leads_back(member)) {
            Some(member) => Way::Circle(format!(
                "ensemble '{target}' needs model '{member}', which waits for this call"
            )),
            None => Way::Free,
        }
    }

    /// An instance of `model` that cannot go on before `caller` does.
    fn waits_for(
        &self,
        model: &str,
        caller: &Link,
        seen: &mut HashSet<String>,
    ) -> Option<Arc<Link>> {
        if !seen.insert(model.to_owned()) {
            return None;
        }
        let links = self.links(model);
        let own = links.iter().find(|link| std::ptr::eq(Arc::as_ptr(link), caller));
        if own.is_some() {
            return own.cloned();
        }
        links.into_iter().find(|link| {
            link.waits_for().iter().any(|other| {
                other == &caller.model || self.waits_for(other, caller, seen).is_some()
            })
        })
    }

    fn links(&self, model: &str) -> Vec<Arc<Link>> {
        let models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        models.get(model).into_iter().flatten().filter_map(Weak::upgrade).collect()
    }
}
