//! Which of the requests that wait can form a batch.

use std::time::Instant;

use nereid_inference::Request;

use crate::Closed;

/// What makes a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) max_batch_size: usize,
    /// Sizes worth waiting for, ascending.
    pub(crate) preferred_batch_sizes: Vec<usize>,
    /// Inputs whose shapes may differ between the requests of a batch.
    pub(crate) ragged_inputs: Vec<String>,
}

/// The longest run of requests at the front that may form a batch.
pub(crate) struct Fit {
    /// In requests.
    count: usize,
    size: usize,
    /// The largest part of it whose size is a preferred one, in requests.
    preferred: Option<usize>,
    /// Why nothing that may still come can make it better, if so.
    pub(crate) closed: Option<Closed>,
    /// When the first of its requests arrived.
    pub(crate) oldest: Instant,
}

impl Fit {
    /// How many requests to take.
    pub(crate) fn take(&self) -> usize {
        self.preferred.unwrap_or(self.count)
    }
}

impl Limits {
    /// Looks at the requests that wait, in the order in which they would run. `None`: there are
    /// none.
    pub(crate) fn fit<'a>(
        &self,
        mut waiting: impl Iterator<Item = (&'a Request, Instant)>,
    ) -> Option<Fit> {
        let (first, since) = waiting.next()?;
        let mut fit = Fit { count: 0, size: 0, preferred: None, closed: None, oldest: since };
        self.add(&mut fit, first, since);
        for (request, since) in waiting {
            if fit.closed.is_none() {
                fit.closed = self.keeps_out(&fit, first, request);
            }
            if fit.closed.is_some() {
                break;
            }
            self.add(&mut fit, request, since);
        }
        // As in Triton, who has a size worth waiting for does not wait for a larger one.
        fit.closed = fit.closed.or(fit.preferred.map(|_| Closed::Preferred));
        Some(fit)
    }

    /// Why a request cannot be of a batch.
    fn keeps_out(&self, fit: &Fit, first: &Request, request: &Request) -> Option<Closed> {
        if fit.size + request.batch_size > self.max_batch_size {
            Some(Closed::Full)
        } else if self.joins(first, request) {
            None
        } else {
            Some(Closed::Shape)
        }
    }

    fn add(&self, fit: &mut Fit, request: &Request, since: Instant) {
        fit.count += 1;
        fit.size += request.batch_size;
        fit.oldest = fit.oldest.min(since);
        if self.preferred_batch_sizes.contains(&fit.size) {
            fit.preferred = Some(fit.count);
        }
        let best = self.preferred_batch_sizes.last() == Some(&fit.size);
        fit.closed = match fit.size >= self.max_batch_size {
            true => Some(Closed::Full),
            false => best.then_some(Closed::Preferred),
        };
    }

    /// Whether two requests differ in nothing but their first dimension and their ragged inputs.
    pub(crate) fn joins(&self, first: &Request, other: &Request) -> bool {
        fn rest(shape: &[i64]) -> &[i64] {
            shape.get(1..).unwrap_or_default()
        }
        first.inputs.len() == other.inputs.len()
            && first.inputs.iter().all(|input| {
                other.input(&input.name).is_some_and(|same| {
                    input.datatype == same.datatype
                        && (rest(&input.shape) == rest(&same.shape)
                            || self.ragged_inputs.contains(&input.name))
                })
            })
    }
}
