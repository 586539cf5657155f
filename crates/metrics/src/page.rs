//! The text that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use crate::labels::{Labels, escape};
use crate::metric::Kind;

/// A page of metrics being written. Whoever writes to a family that is there already adds to it.
#[derive(Default)]
pub struct Page {
    families: BTreeMap<String, Section>,
}

struct Section {
    help: String,
    word: &'static str,
    samples: String,
}

/// The samples of one family.
pub struct Samples<'a> {
    name: &'a str,
    text: &'a mut String,
}

/// What a histogram has counted.
#[derive(Debug)]
pub struct Buckets<'a> {
    /// Upper bounds, ascending.
    pub bounds: &'a [f64],
    /// Observations up to each bound and above the one before; one more count for the rest.
    pub counts: &'a [u64],
    pub sum: f64,
}

impl Page {
    pub fn family<'a>(&'a mut self, name: &'a str, help: &str, kind: Kind) -> Samples<'a> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.section(name, help, word)
    }

    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Samples<'a> {
        self.family(name, help, Kind::Counter)
    }

    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Samples<'a> {
        self.family(name, help, Kind::Gauge)
    }

    pub fn histogram<'a>(&'a mut self, name: &'a str, help: &str) -> Samples<'a> {
        self.family(name, help, Kind::Histogram)
    }

    pub fn summary<'a>(&'a mut self, name: &'a str, help: &str) -> Samples<'a> {
        self.section(name, help, "summary")
    }

    fn section<'a>(&'a mut self, name: &'a str, help: &str, word: &'static str) -> Samples<'a> {
        let section = self.families.entry(name.to_owned()).or_insert_with(|| Section {
            help: help.to_owned(),
            word,
            samples: String::new(),
        });
        Samples { name, text: &mut section.samples }
    }

    /// Families by name; those without samples are left out.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, Section { help, word, samples }) in &self.families {
            if !samples.is_empty() {
                // Writing to memory does not fail.
                let _ = write!(text, "# HELP {name} ");
                escape(&mut text, help, false);
                let _ = writeln!(text, "\n# TYPE {name} {word}");
                text.push_str(samples);
            }
        }
        text
    }
}

impl Samples<'_> {
    /// One number.
    pub fn add(&mut self, labels: &Labels, value: impl Display) {
        self.line("", labels, None, value);
    }

    pub fn add_histogram(&mut self, labels: &Labels, buckets: &Buckets<'_>) {
        let bounds = buckets.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut count = 0;
        for (bound, more) in bounds.zip(buckets.counts) {
            count += more;
            self.line("_bucket", labels, Some(("le", &bound)), count);
        }
        self.line("_sum", labels, None, buckets.sum);
        self.line("_count", labels, None, count);
    }

    /// `quantiles`: of each one its rank and its value; NaN where nothing was observed.
    pub fn add_summary(
        &mut self,
        labels: &Labels,
        quantiles: &[(f64, f64)],
        sum: impl Display,
        count: u64,
    ) {
        for (rank, value) in quantiles {
            self.line("", labels, Some(("quantile", &rank.to_string())), value);
        }
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &Labels,
        extra: Option<(&str, &str)>,
        value: impl Display,
    ) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        labels.write(self.text, extra);
        let _ = writeln!(self.text, " {value}");
    }
}
