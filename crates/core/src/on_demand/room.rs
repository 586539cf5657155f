//! The room that models have: what each of them takes, and who leaves when it is used up.
//!
//! A load reserves what it will probably take before it begins, so that several may run at the same
//! time. What they really took is how much this process and its workers grew from the moment when
//! nobody loaded to the next such moment, shared by the size of the models' files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nereid_inference::{Error, Result};

use super::{PATIENCE, declared_bytes};
use crate::catalog::{Catalog, ModelState};
use crate::lifecycle::{Found, Job, Lifecycle};
use crate::memory;

pub(super) struct Room {
    budget: Option<u64>,
    /// Held by whoever is finding room; the others get theirs in turn.
    finding: Mutex<()>,
    state: Mutex<State>,
    /// A load has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes of every model that was loaded once.
    costs: BTreeMap<String, u64>,
    /// When a model was loaded.
    loaded: BTreeMap<String, Instant>,
    pinned: BTreeSet<String>,
    /// What the loads that run have reserved.
    reserved: BTreeMap<String, u64>,
    measuring: Measuring,
}

/// From a moment when nobody loads to the next.
#[derive(Default)]
struct Measuring {
    /// What was held when it began.
    held: u64,
    /// What models took that have left since.
    left: u64,
    /// The models that were loaded meanwhile, and those that are being loaded.
    models: BTreeMap<String, Size>,
}

/// What is known of a model's size without loading it.
#[derive(Clone, Copy)]
struct Size {
    files: u64,
    declared: Option<u64>,
}

/// Room for one load, until it is dropped. To be given to [`Lifecycle::settle`].
pub(crate) struct Reserved<'a> {
    room: &'a Room,
    name: String,
    /// What served before the load.
    serving: BTreeSet<String>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.room.state().reserved.remove(&self.name);
        self.room.ended.notify_all();
    }
}

/// What there is to be done so that something fits.
enum Fit {
    Fits,
    /// This model may go.
    Remove(String),
    /// None may go before a load has ended.
    Wait,
    /// None may go: so many bytes are taken.
    Never(u64),
}

impl Room {
    pub(super) fn new(budget: Option<u64>) -> Self {
        Self { budget, finding: Mutex::default(), state: Mutex::default(), ended: Condvar::new() }
    }

    pub(super) fn pin(&self, name: &str) {
        self.state().pinned.insert(name.to_owned());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fit(&self, budget: u64, bytes: u64, catalog: &Catalog, keep: &BTreeSet<String>) -> Fit {
        let state = self.state();
        let used = state.used(catalog);
        if used.saturating_add(bytes) <= budget {
            return Fit::Fits;
        }
        match state.oldest(catalog, keep) {
            Some(oldest) => Fit::Remove(oldest),
            None if state.reserved.is_empty() => Fit::Never(used),
            None => Fit::Wait,
        }
    }

    /// Comes back when a load has ended, or soon.
    fn wait(&self) {
        let soon = Duration::from_millis(200);
        drop(self.ended.wait_timeout(self.state(), soon));
    }
}

impl State {
    /// What models take, and will take that are being loaded.
    fn used(&self, catalog: &Catalog) -> u64 {
        let serving = catalog
            .models
            .iter()
            .filter(|(name, model)| model.serves() && !self.reserved.contains_key(*name));
        let taken: u64 = serving.filter_map(|(name, _)| self.costs.get(name)).sum();
        taken + self.reserved.values().sum::<u64>()
    }

    /// The model that was used least recently, of those that may go.
    fn oldest(&self, catalog: &Catalog, keep: &BTreeSet<String>) -> Option<String> {
        let may_go = |name: &String, model: &ModelState| {
            let stays = [keep, &self.pinned].iter().any(|names| names.contains(name));
            model.serves() && !stays && !self.reserved.contains_key(name)
        };
        let last_used = |name: &String, model: &ModelState| {
            let used = model.ready().filter_map(|version| version.recorder.last_used());
            used.chain(self.loaded.get(name).copied()).max()
        };
        let models = catalog.models.iter().filter(|(name, model)| may_go(name, model));
        models.min_by_key(|(name, model)| last_used(name, model)).map(|(name, _)| name.clone())
    }

    fn begin(&mut self, name: &str, bytes: u64, size: Size) {
        if self.reserved.is_empty() {
            self.measuring = Measuring { held: memory::held(), ..Measuring::default() };
        }
        self.reserved.insert(name.to_owned(), bytes);
        self.measuring.models.insert(name.to_owned(), size);
    }

    /// Shares what the loads took among the models that they brought. While others go on this is a
    /// guess, which the last of them corrects.
    fn end(&mut self, name: &str, brought: Vec<(String, Size)>) {
        self.reserved.remove(name);
        for (model, size) in brought {
            self.loaded.insert(model.clone(), Instant::now());
            self.costs.insert(model.clone(), size.declared.unwrap_or(size.files));
            self.measuring.models.insert(model, size);
        }
        let Measuring { held, left, models } = &self.measuring;
        let declared: u64 = models.values().filter_map(|size| size.declared).sum();
        let grown =
            memory::held().saturating_add(*left).saturating_sub(*held).saturating_sub(declared);
        let measured = || models.iter().filter(|(_, size)| size.declared.is_none());
        let all: u64 = measured().map(|(_, size)| size.files).sum();
        for (name, Size { files, .. }) in measured() {
            let share = u128::from(grown) * u128::from(*files) / u128::from(all.max(1));
            if let Some(cost) = self.costs.get_mut(name)
                && !self.reserved.contains_key(name)
            {
                *cost = u64::try_from(share).unwrap_or(u64::MAX).max(*files);
            }
        }
    }
}

impl Lifecycle {
    /// Finds room for a model that is about to be loaded, but not by removing those of `keep`.
    pub(crate) fn reserve(
        &self,
        name: &str,
        job: &Job,
        keep: &BTreeSet<String>,
    ) -> Result<Reserved<'_>> {
        let room = &self.on_demand.room;
        let known = room.state().costs.get(name).copied();
        let bytes = known.unwrap_or_else(|| job.expected_bytes());
        if let Some(budget) = room.budget.filter(|budget| bytes > *budget) {
            return Err(Error::unavailable(format!(
                "{} needs {bytes} bytes, --model-memory-budget is {budget}",
                keep.iter().cloned().collect::<Vec<_>>().join(", ")
            )));
        }
        let _finding = room.finding.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room(keep, bytes);
        let size = Size { files: job.file_bytes(), declared: job.declared_bytes() };
        room.state().begin(name, bytes, size);
        Ok(Reserved { room, name: name.to_owned(), serving: self.serving() })
    }

    /// Takes models out until `bytes` more fit.
    fn make_room(&self, keep: &BTreeSet<String>, bytes: u64) {
        let room = &self.on_demand.room;
        let Some(budget) = room.budget else { return };
        let deadline = Instant::now() + PATIENCE;
        // Models that somebody is loading or unloading, or what they are made of.
        let mut busy = BTreeSet::new();
        loop {
            let stay = keep.union(&busy).cloned().collect();
            match room.fit(budget, bytes, &self.server.catalog(), &stay) {
                Fit::Fits => return,
                Fit::Remove(oldest) => {
                    if !self.remove_idle(&oldest) {
                        busy.insert(oldest);
                    }
                }
                Fit::Never(used) if busy.is_empty() => {
                    tracing::warn!("models take {used} bytes of {budget}, and none of them may go");
                    return;
                }
                Fit::Wait | Fit::Never(_) if Instant::now() < deadline => {
                    room.wait();
                    busy.clear();
                }
                Fit::Wait | Fit::Never(_) => return,
            }
        }
    }

    /// Takes a model out that nobody is loading or unloading; says whether that was so.
    fn remove_idle(&self, name: &str) -> bool {
        let Ok(_claim) = self.claim(name) else { return false };
        tracing::info!("'{name}' makes room");
        let before = self.serving();
        self.remove(name, true);
        let after = self.serving();
        let mut state = self.on_demand.room.state();
        let left: u64 = before.difference(&after).filter_map(|name| state.costs.get(name)).sum();
        state.measuring.left += left;
        true
    }

    /// Notes what a load took, and takes models out if that was more than expected.
    pub(crate) fn settle(
        &self,
        name: &str,
        reserved: Reserved<'_>,
        found: &Found,
        keep: &BTreeSet<String>,
    ) {
        let brought = self
            .with_needed(name)
            .into_iter()
            .filter(|name| !reserved.serving.contains(name))
            .filter_map(|name| self.brought(name, found))
            .collect();
        let room = &self.on_demand.room;
        room.state().end(name, brought);
        drop(reserved);
        // Whoever is finding room for another one finds it for all.
        if let Ok(_finding) = room.finding.try_lock() {
            self.make_room(keep, 0);
        }
    }

    /// `None` where the model does not serve.
    fn brought(&self, name: String, found: &Found) -> Option<(String, Size)> {
        let model = self.server.model(&name, None).ok()?;
        let folder = found.get(&name).and_then(|folders| folders.first());
        let files = folder.map_or(0, |folder| folder.bytes());
        Some((name, Size { files, declared: declared_bytes(&model.config) }))
    }

    fn serving(&self) -> BTreeSet<String> {
        let catalog = self.server.catalog();
        let serving = catalog.models.iter().filter(|(_, model)| model.serves());
        serving.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(files: u64, declared: Option<u64>) -> Size {
        Size { files, declared }
    }

    fn load(state: &mut State, name: &str, size: Size) {
        state.end(name, vec![(name.to_owned(), size)]);
    }

    #[test]
    fn what_is_declared_counts_and_files_are_the_least() {
        let mut state = State::default();
        let (a, b) = (size(1000, Some(7)), size(1 << 40, None));
        state.begin("a", 10, a);
        state.begin("b", 10, b);
        load(&mut state, "a", a);
        load(&mut state, "b", b);
        assert_eq!(state.costs["a"], 7);
        assert_eq!(state.costs["b"], 1 << 40);
        assert!(state.reserved.is_empty());
    }

    #[test]
    fn what_is_reserved_is_used() {
        let mut state = State::default();
        state.begin("a", 300, size(1, None));
        assert_eq!(state.used(&Catalog::default()), 300);
        state.end("a", Vec::new());
        assert_eq!(state.used(&Catalog::default()), 0);
    }

    #[test]
    fn growth_is_shared_by_the_size_of_files() {
        let mut state = State::default();
        let (a, b) = (size(1 << 20, None), size(3 << 20, None));
        state.begin("a", 0, a);
        state.begin("b", 0, b);
        let taken = std::hint::black_box(vec![1_u8; 128 << 20]);
        load(&mut state, "a", a);
        load(&mut state, "b", b);
        assert!(state.costs["a"] > 16 << 20, "{:?}", state.costs);
        assert!(state.costs["b"] > 2 * state.costs["a"], "{:?}", state.costs);
        drop(taken);
    }
}
