//! How long requests took, as metrics show it: histograms, and summaries over the last minute.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram as Ranks;

/// Observations by upper bounds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// In the unit that is shown, and in nanoseconds.
    pub(crate) bounds: Vec<f64>,
    bounds_ns: Vec<u64>,
    pub(crate) counts: Vec<u64>,
    pub(crate) sum_ns: u64,
}

impl Histogram {
    /// `unit`: how many nanoseconds make one of the unit of the bounds.
    pub(crate) fn new(bounds: Vec<f64>, unit: f64) -> Self {
        let bounds_ns = bounds.iter().map(|bound| (bound * unit) as u64).collect();
        let counts = vec![0; bounds.len() + 1];
        Self { bounds, bounds_ns, counts, sum_ns: 0 }
    }

    pub(crate) fn observe(&mut self, ns: u64) {
        let bucket = self.bounds_ns.partition_point(|bound| *bound < ns);
        self.counts[bucket] += 1;
        self.sum_ns += ns;
    }
}

/// How long a summary remembers, and in how many steps it forgets.
const MEMORY: Duration = Duration::from_secs(60);
const STEPS: usize = 5;
/// The largest value that is told from larger ones: an hour in microseconds.
const LARGEST_US: u64 = 3_600_000_000;

/// Quantiles over the last minute; sum and count since the beginning.
///
/// Every observation goes into all windows; the oldest is the one that is read, until it is
/// emptied and becomes the youngest.
#[derive(Clone)]
pub(crate) struct Summary {
    windows: Vec<Ranks<u32>>,
    oldest: usize,
    turned: Instant,
    pub(crate) sum_us: u64,
    pub(crate) count: u64,
}

impl Summary {
    /// `None` cannot happen: the bounds are fixed and fit.
    pub(crate) fn new(now: Instant) -> Option<Self> {
        let window = Ranks::new_with_max(LARGEST_US, 2).ok()?;
        Some(Self { windows: vec![window; STEPS], oldest: 0, turned: now, sum_us: 0, count: 0 })
    }

    pub(crate) fn observe(&mut self, ns: u64, now: Instant) {
        self.turn(now);
        let us = ns / 1000;
        self.sum_us += us;
        self.count += 1;
        for window in &mut self.windows {
            window.saturating_record(us);
        }
    }

    /// NaN where nothing was observed of late.
    pub(crate) fn quantile(&mut self, rank: f64, now: Instant) -> f64 {
        self.turn(now);
        let window = &self.windows[self.oldest];
        if window.is_empty() { f64::NAN } else { window.value_at_quantile(rank) as f64 }
    }

    fn turn(&mut self, now: Instant) {
        let step = MEMORY / STEPS as u32;
        let mut turns = 0;
        while now.saturating_duration_since(self.turned) >= step {
            if turns < STEPS {
                self.windows[self.oldest].reset();
                self.oldest = (self.oldest + 1) % STEPS;
                turns += 1;
                self.turned += step;
            } else {
                // Everything has been forgotten.
                self.turned = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_bucket_below_them() {
        let mut histogram = Histogram::new(vec![1.0, 2.0], 1000.0);
        for ns in [0, 1000, 1001, 2000, 5000] {
            histogram.observe(ns);
        }
        assert_eq!((histogram.counts.as_slice(), histogram.sum_ns), ([2, 2, 1].as_slice(), 9001));
    }

    #[test]
    fn summaries_forget_after_a_minute_but_for_sum_and_count() {
        let start = Instant::now();
        let mut summary = Summary::new(start).unwrap();
        assert!(summary.quantile(0.5, start).is_nan());
        for us in 1..=100 {
            summary.observe(us * 1000, start);
        }
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(summary.quantile(0.9, at(47)), 90.0);
        summary.observe(500_000, at(50));
        // To two digits.
        assert_eq!((summary.quantile(0.999, at(61)) / 10.0).round(), 50.0);
        assert!(summary.quantile(0.5, at(500)).is_nan());
        assert_eq!((summary.sum_us, summary.count), (5050 + 500, 101));
    }
}
