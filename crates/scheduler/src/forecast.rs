//! How long a batch of some size will take, from how long others took.

use std::collections::BTreeMap;
use std::time::Duration;

/// The weight of a new measurement.
const WEIGHT: f64 = 0.2;

/// Estimates are forgotten that have not been renewed for so many batches: what was true once, and
/// keeps batches from having that size, would never be corrected.
const MEMORY: u64 = 512;

/// Estimates by batch size. Sizes between are interpolated; beyond the largest, the line through
/// the outermost two goes on.
#[derive(Debug, Default)]
pub(crate) struct Forecast {
    by_size: BTreeMap<usize, Estimate>,
    batches: u64,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    /// In seconds.
    mean: f64,
    deviation: f64,
    /// When it was renewed last, in batches.
    renewed: u64,
}

impl Estimate {
    /// What most batches stay below.
    fn high(self) -> f64 {
        self.mean + 2.0 * self.deviation
    }
}

impl Forecast {
    pub(crate) fn record(&mut self, size: usize, took: Duration) {
        self.batches += 1;
        let (took, renewed) = (took.as_secs_f64(), self.batches);
        let first = Estimate { mean: took, deviation: 0.0, renewed };
        let estimate = self.by_size.entry(size).or_insert(first);
        let off = took - estimate.mean;
        estimate.mean += WEIGHT * off;
        estimate.deviation += WEIGHT * (off.abs() - estimate.deviation);
        estimate.renewed = renewed;
        self.by_size.retain(|_, estimate| estimate.renewed + MEMORY > renewed);
    }

    /// Zero as long as nothing is known.
    pub(crate) fn of(&self, size: usize) -> Duration {
        let below = self.by_size.range(..=size).next_back();
        let above = self.by_size.range(size..).next();
        let seconds = match (below, above) {
            (Some((&a, low)), Some((&b, high))) if a < b => line((a, low), (b, high), size),
            (Some((&a, estimate)), None) => match self.by_size.range(..a).next_back() {
                Some((&b, before)) => line((b, before), (a, estimate), size).max(estimate.high()),
                None => estimate.high(),
            },
            (Some((_, estimate)), _) | (None, Some((_, estimate))) => estimate.high(),
            (None, None) => 0.0,
        };
        Duration::from_secs_f64(seconds.max(0.0))
    }
}

fn line((a, low): (usize, &Estimate), (b, high): (usize, &Estimate), size: usize) -> f64 {
    let slope = (high.high() - low.high()) / (b - a) as f64;
    low.high() + slope * (size as f64 - a as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn between_and_beyond_what_was_measured() {
        let mut forecast = Forecast::default();
        assert_eq!(forecast.of(3), Duration::ZERO);
        forecast.record(4, ms(10));
        assert_eq!([forecast.of(1), forecast.of(4), forecast.of(8)], [ms(10); 3]);
        forecast.record(8, ms(14));
        let rounded = |size| (forecast.of(size).as_secs_f64() * 1000.0).round() as u64;
        assert_eq!([rounded(1), rounded(6), rounded(8), rounded(16)], [10, 12, 14, 22]);
    }

    #[test]
    fn what_is_not_renewed_is_forgotten() {
        let mut forecast = Forecast::default();
        forecast.record(9, ms(1000));
        for _ in 0..MEMORY {
            forecast.record(8, ms(10));
        }
        assert!(forecast.of(9) < ms(11));
    }
}
