//! One number, or one histogram.

use std::sync::atomic::{AtomicU64, Ordering};

use nereid_inference::{Error, Result};

use crate::labels::Labels;
use crate::page::{Buckets, Samples};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by upper bounds.
    Histogram,
}

impl Kind {
    /// Triton's name for it in error messages.
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "TRITONSERVER_METRIC_KIND_COUNTER",
            Self::Gauge => "TRITONSERVER_METRIC_KIND_GAUGE",
            Self::Histogram => "TRITONSERVER_METRIC_KIND_HISTOGRAM",
        }
    }
}

/// A number that several threads may change.
#[derive(Debug)]
pub struct Metric {
    kind: Kind,
    pub(crate) labels: Labels,
    /// The value; of a histogram the sum of all observations.
    value: Number,
    /// Of a histogram: its bounds, and how many observations fell between them and beyond.
    bounds: Vec<f64>,
    counts: Vec<AtomicU64>,
}

impl Metric {
    pub(crate) fn new(kind: Kind, labels: Labels, buckets: &[f64]) -> Result<Self> {
        if kind != Kind::Histogram && !buckets.is_empty() {
            let message = format!("metrics of kind {} have no buckets", kind.as_str());
            return Err(Error::invalid_arg(message));
        }
        if !buckets.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(Error::invalid_arg("the buckets of a histogram must be ascending"));
        }
        let counts = match kind {
            Kind::Histogram => (0..=buckets.len()).map(|_| AtomicU64::new(0)).collect(),
            Kind::Counter | Kind::Gauge => Vec::new(),
        };
        Ok(Self { kind, labels, value: Number::default(), bounds: buckets.to_vec(), counts })
    }

    /// Adds to a counter, which never takes less than zero, or to a gauge.
    pub fn increment(&self, by: f64) -> Result<()> {
        match self.kind {
            Kind::Counter if by.is_nan() || by < 0.0 => Err(Error::invalid_arg(
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by \
                 non-negative values.",
            )),
            Kind::Counter | Kind::Gauge => {
                self.value.add(by);
                Ok(())
            }
            Kind::Histogram => self.refuse("Increment"),
        }
    }

    /// Gives a gauge a new value.
    pub fn set(&self, value: f64) -> Result<()> {
        match self.kind {
            Kind::Gauge => {
                self.value.set(value);
                Ok(())
            }
            Kind::Counter | Kind::Histogram => self.refuse("Set"),
        }
    }

    /// Adds an observation to a histogram.
    pub fn observe(&self, value: f64) -> Result<()> {
        match self.kind {
            Kind::Histogram => {
                let bucket = self.bounds.partition_point(|bound| *bound < value);
                self.counts[bucket].fetch_add(1, Ordering::Relaxed);
                self.value.add(value);
                Ok(())
            }
            Kind::Counter | Kind::Gauge => self.refuse("Observe"),
        }
    }

    /// The value of a counter or a gauge.
    pub fn value(&self) -> Result<f64> {
        match self.kind {
            Kind::Counter | Kind::Gauge => Ok(self.value.get()),
            Kind::Histogram => self.refuse("Value"),
        }
    }

    pub(crate) fn write(&self, samples: &mut Samples<'_>) {
        match self.kind {
            Kind::Counter | Kind::Gauge => samples.add(&self.labels, self.value.get()),
            Kind::Histogram => {
                let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
                let (bounds, sum) = (&self.bounds, self.value.get());
                samples.add_histogram(
                    &self.labels,
                    &Buckets { bounds, counts: &counts.collect::<Vec<_>>(), sum },
                );
            }
        }
    }

    fn refuse<T>(&self, call: &str) -> Result<T> {
        let kind = self.kind.as_str();
        Err(Error::unsupported(format!("{kind} does not support {call}")))
    }
}

/// A floating point number in an atomic.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn add(&self, by: f64) {
        let sum = |bits| Some((f64::from_bits(bits) + by).to_bits());
        // Only refused if the closure refuses.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }
}
