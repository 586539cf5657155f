//! Back-pressure: how many responses of one request may be on their way at a time.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Shared by who answers a request and who uses its responses. The user takes a place for each
/// response that it gets, and gives it back when it wants another one; who answers waits while no
/// place is left.
#[derive(Clone)]
pub struct Window(Arc<Inner>);

struct Inner {
    size: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    /// How many places were given back so far.
    returned: u64,
    waits: Option<Waker>,
    /// Whoever counts for itself, far away, and is told of each place that is given back.
    told: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// Of one response; given back when it is dropped, with no lock held.
pub struct Place(Window);

impl Window {
    /// Of at least one place.
    pub fn new(size: usize) -> Self {
        Self(Arc::new(Inner { size: size.max(1), state: Mutex::default() }))
    }

    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Takes a place for a response that has come, even if there is none: it is there already.
    pub fn take(&self) -> Place {
        self.state().taken += 1;
        Place(self.clone())
    }

    /// Waits until a response may be sent.
    pub async fn room(&self) {
        poll_fn(|context| {
            let mut state = self.state();
            if state.taken < self.0.size {
                return Poll::Ready(());
            }
            state.waits = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Calls `told` for each place that is given back from now on.
    pub fn tell(&self, told: impl Fn() + Send + Sync + 'static) {
        self.state().told = Some(Arc::new(told));
    }

    /// `None` while there is room; else how many places have been given back so far, by which can be
    /// told whether anything moves.
    pub fn full_since(&self) -> Option<u64> {
        let state = self.state();
        (state.taken >= self.0.size).then_some(state.returned)
    }

    /// Gives a place back: another response may come.
    pub fn give_back(&self) {
        let mut state = self.state();
        state.taken = state.taken.saturating_sub(1);
        state.returned += 1;
        let (waits, told) = (state.waits.take(), state.told.clone());
        drop(state);
        waits.into_iter().for_each(Waker::wake);
        if let Some(told) = told {
            told();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Context;

    use super::*;

    fn has_room(window: &Window) -> bool {
        let room = std::pin::pin!(window.room());
        room.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn who_answers_waits_until_a_place_is_given_back() {
        let window = Window::new(2);
        let first = window.take();
        assert!(has_room(&window) && window.full_since().is_none());
        let second = window.take();
        assert!(!has_room(&window));
        assert_eq!(window.full_since(), Some(0));
        drop(first);
        assert!(has_room(&window));
        let _third = window.take();
        assert_eq!(window.full_since(), Some(1));
        drop(second);
        assert!(has_room(&window));
    }

    #[test]
    fn who_counts_for_itself_is_told() {
        let count = Arc::new(AtomicUsize::new(0));
        let window = Window::new(1);
        let told = count.clone();
        window.tell(move || {
            told.fetch_add(1, Ordering::Relaxed);
        });
        drop(window.take());
        window.give_back();
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
