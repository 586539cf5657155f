//! Which of several answers goes out next.

use std::collections::{BTreeMap, VecDeque};

/// Puts answers into the order of their requests, except for those that have none to keep.
#[derive(Debug)]
pub(crate) struct Order<T> {
    /// The place whose answer goes out next.
    next: u64,
    /// Answers that came before their turn.
    early: BTreeMap<u64, T>,
    ready: VecDeque<T>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { next: 0, early: BTreeMap::new(), ready: VecDeque::new() }
    }
}

impl<T> Order<T> {
    /// Takes an answer in. Places count from 0 and are taken once each; without a place the answer
    /// goes out as it came.
    pub(crate) fn push(&mut self, place: Option<u64>, answer: T) {
        match place {
            Some(place) if place != self.next => {
                self.early.insert(place, answer);
            }
            Some(_) => {
                self.ready.push_back(answer);
                self.next += 1;
                while let Some(answer) = self.early.remove(&self.next) {
                    self.ready.push_back(answer);
                    self.next += 1;
                }
            }
            None => self.ready.push_back(answer),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn answers_wait_for_their_turn_unless_they_have_none() {
        let mut order = Order::default();
        let mut pushed = |place, answer| {
            order.push(place, answer);
            std::iter::from_fn(|| order.pop()).collect::<String>()
        };
        assert_eq!(pushed(Some(2), 'c'), "");
        assert_eq!(pushed(None, 'x'), "x");
        assert_eq!(pushed(Some(0), 'a'), "a");
        assert_eq!(pushed(Some(1), 'b'), "bc");
        assert_eq!(pushed(Some(3), 'd'), "d");
    }
}
