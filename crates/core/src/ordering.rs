//! `preserve_ordering`: answers leave in the order in which their requests went to an instance.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nereid_inference::{Answer, Request, ResponseSink, Times};

/// The answers of one model version that wait for those before them.
#[derive(Clone, Default)]
pub(crate) struct Ordering(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    /// The requests that are not fully answered, and those behind them.
    open: VecDeque<Open>,
    /// How many were fully answered: the number of the first in `open`.
    done: u64,
    /// Somebody is delivering; who brings another answer only leaves it here.
    delivering: bool,
}

struct Open {
    /// `None` while an answer is on its way through it.
    sink: Option<Box<dyn ResponseSink>>,
    answers: VecDeque<(Answer, Times)>,
}

/// The place of one request in the line.
struct Place {
    ordering: Ordering,
    number: u64,
}

impl Ordering {
    /// Gives a request that is about to run the last place in the line.
    pub(crate) fn join(&self, request: &mut Request) {
        request.responder.wrap(|inner| {
            let mut line = self.lock();
            let number = line.done + line.open.len() as u64;
            line.open.push_back(Open { sink: Some(inner), answers: VecDeque::new() });
            Place { ordering: self.clone(), number }
        });
    }

    /// Delivers what may go, with no lock held: an answer may bring the next request.
    fn deliver(&self) {
        let mut line = self.lock();
        if std::mem::replace(&mut line.delivering, true) {
            return;
        }
        while let Some((mut sink, answer, times)) = line.next() {
            drop(line);
            let last = answer.last;
            sink.deliver(answer, &times);
            line = self.lock();
            if last {
                line.open.pop_front();
                line.done += 1;
            } else if let Some(open) = line.open.front_mut() {
                open.sink = Some(sink);
            }
        }
        line.delivering = false;
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn next(&mut self) -> Option<(Box<dyn ResponseSink>, Answer, Times)> {
        let first = self.open.front_mut()?;
        let (answer, times) = first.answers.pop_front()?;
        Some((first.sink.take()?, answer, times))
    }
}

impl ResponseSink for Place {
    fn deliver(&mut self, answer: Answer, times: &Times) {
        let mut line = self.ordering.lock();
        let index = usize::try_from(self.number - line.done).unwrap_or(usize::MAX);
        if let Some(open) = line.open.get_mut(index) {
            open.answers.push_back((answer, *times));
        }
        drop(line);
        self.ordering.deliver();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use nereid_inference::{Responder, Response};

    use super::*;

    struct Log(mpsc::Sender<(usize, bool)>, usize);

    impl ResponseSink for Log {
        fn deliver(&mut self, answer: Answer, _: &Times) {
            self.0.send((self.1, answer.last)).unwrap();
        }
    }

    #[test]
    fn answers_wait_for_those_before_them() {
        let (sender, log) = mpsc::channel();
        let ordering = Ordering::default();
        let mut requests: VecDeque<Request> = (0..3)
            .map(|number| {
                let sink = Log(sender.clone(), number);
                let mut request = Request::new("m", None, Responder::new(Box::new(sink)));
                ordering.join(&mut request);
                request
            })
            .collect();
        let mut first = requests.pop_front().unwrap();
        let second = requests.pop_front().unwrap();
        requests.pop_front().unwrap().responder.answer(Ok(Response::default()));
        first.responder.send(Ok(Response::default()));
        assert_eq!(log.try_iter().collect::<Vec<_>>(), [(0, false)], "parts go at once");
        drop(second); // Answers with an error, which waits as well.
        assert_eq!(log.try_iter().count(), 0);
        first.responder.finish();
        assert_eq!(log.try_iter().collect::<Vec<_>>(), [(0, true), (1, true), (2, true)]);
    }
}
