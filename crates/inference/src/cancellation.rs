//! The flag that a client no longer wants its answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Flags that were set so far, in the whole process.
static CANCELLED: AtomicU64 = AtomicU64::new(0);

/// Shared by everything that works for one request. Setting it stops nothing by itself: queues,
/// pipelines and backends look at it where they can stop, or ask to be told.
#[derive(Clone, Default)]
pub struct Cancellation(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    next: u64,
    callbacks: Vec<(u64, Callback)>,
}

type Callback = Box<dyn FnOnce() + Send>;

impl Cancellation {
    /// Sets the flag, and tells whoever asked to be told.
    pub fn cancel(&self) {
        let told = {
            let mut watchers = self.0.watchers();
            self.0.cancelled.store(true, Ordering::Release);
            CANCELLED.fetch_add(1, Ordering::Release);
            std::mem::take(&mut watchers.callbacks)
        };
        told.into_iter().for_each(|(_, callback)| callback());
    }

    /// How often any flag was set. As long as it stays the same, who has looked at many flags need
    /// not look again.
    pub fn count() -> u64 {
        CANCELLED.load(Ordering::Acquire)
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Calls `callback` once when the flag is set, from whatever thread sets it, or at once if it
    /// is set already. Not called any more once the [`Watch`] has been dropped.
    pub fn watch(&self, callback: impl FnOnce() + Send + 'static) -> Watch {
        let mut watchers = self.0.watchers();
        let id = watchers.next;
        watchers.next += 1;
        if self.is_cancelled() {
            drop(watchers);
            callback();
        } else {
            watchers.callbacks.push((id, Box::new(callback)));
        }
        Watch { of: Arc::downgrade(&self.0), id }
    }
}

impl std::fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cancellation").field(&self.is_cancelled()).finish()
    }
}

impl Inner {
    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits for a [`Cancellation`]; dropping it ends that.
#[must_use]
pub struct Watch {
    of: Weak<Inner>,
    id: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(of) = self.of.upgrade() else { return };
        let mut watchers = of.watchers();
        let found = watchers.callbacks.iter().position(|(id, _)| *id == self.id);
        let callback = found.map(|found| watchers.callbacks.swap_remove(found));
        drop(watchers);
        drop(callback); // What it holds may come back here.
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counted(cancellation: &Cancellation) -> (Arc<AtomicUsize>, Watch) {
        let count = Arc::new(AtomicUsize::new(0));
        let told = count.clone();
        let watch = cancellation.watch(move || {
            told.fetch_add(1, Ordering::Relaxed);
        });
        (count, watch)
    }

    #[test]
    fn who_watches_is_told_once() {
        let cancellation = Cancellation::default();
        let (first, watch) = counted(&cancellation);
        cancellation.clone().cancel();
        cancellation.cancel();
        assert_eq!(first.load(Ordering::Relaxed), 1);
        let (late, _watch) = counted(&cancellation);
        assert_eq!(late.load(Ordering::Relaxed), 1);
        drop(watch);
    }

    #[test]
    fn who_has_gone_is_not_told() {
        let cancellation = Cancellation::default();
        let (gone, watch) = counted(&cancellation);
        let (stays, _watch) = counted(&cancellation);
        drop(watch);
        cancellation.cancel();
        assert_eq!((gone.load(Ordering::Relaxed), stays.load(Ordering::Relaxed)), (0, 1));
    }
}
