//! Everything that is on the page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use nereid_inference::{Error, Result};

use crate::family::Family;
use crate::metric::Kind;
use crate::page::Page;

type Collector = Box<dyn Fn(&mut Page) + Send + Sync>;

/// Where metrics are made and read. Copies are the same registry.
#[derive(Clone, Default)]
pub struct Registry(Arc<Shared>);

#[derive(Default)]
struct Shared {
    collectors: Mutex<Vec<Collector>>,
    /// Those that somebody holds.
    families: Mutex<BTreeMap<String, Weak<Family>>>,
}

impl Registry {
    /// Has `collector` write to every page.
    pub fn collect(&self, collector: impl Fn(&mut Page) + Send + Sync + 'static) {
        lock(&self.0.collectors).push(Box::new(collector));
    }

    /// The family of this name: the one that is there, else a new one.
    pub fn family(&self, name: &str, help: &str, kind: Kind) -> Result<Arc<Family>> {
        let mut families = lock(&self.0.families);
        families.retain(|_, family| family.strong_count() > 0);
        match families.get(name).and_then(Weak::upgrade) {
            Some(known) if known.kind() == kind => Ok(known),
            Some(_) => Err(Error::invalid_arg(format!(
                "Metric family '{name}' already exists with different kind"
            ))),
            None => {
                let family = Arc::new(Family::new(name, help, kind)?);
                families.insert(name.to_owned(), Arc::downgrade(&family));
                Ok(family)
            }
        }
    }

    /// The page, as Prometheus reads it.
    pub fn text(&self) -> String {
        let mut page = Page::default();
        lock(&self.0.collectors).iter().for_each(|collector| collector(&mut page));
        let families: Vec<_> = lock(&self.0.families).values().filter_map(Weak::upgrade).collect();
        families.iter().for_each(|family| family.write(&mut page));
        page.text()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Labels, Metric};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn families_and_collectors_share_one_page() {
        let registry = Registry::default();
        registry.collect(|page| page.gauge("used", "what \\ is\nused").add(&Labels::default(), 7));
        let family = registry.family("seen", "seen", Kind::Counter).unwrap();
        let metric = family.metric(labels(&[("b", "\"1\""), ("a", "\\\n")]), &[]).unwrap();
        metric.increment(1.5).unwrap();
        let expected = "# HELP seen seen\n# TYPE seen counter\nseen{a=\"\\\\\\n\",b=\"\\\"1\\\"\"} \
                        1.5\n# HELP used what \\\\ is\\nused\n# TYPE used gauge\nused 7\n";
        assert_eq!(registry.text(), expected);
    }

    #[test]
    fn a_metric_lives_as_long_as_somebody_holds_it() {
        let registry = Registry::default();
        let family = registry.family("f", "", Kind::Gauge).unwrap();
        let first = family.metric(Labels::default(), &[]).unwrap();
        let again = registry.family("f", "", Kind::Gauge).unwrap();
        let second = again.metric(Labels::default(), &[]).unwrap();
        first.set(3.0).unwrap();
        assert_eq!(second.value().unwrap(), 3.0, "the same labels are the same metric");
        drop((first, second));
        assert_eq!(registry.text(), "");
        assert!(registry.family("f", "", Kind::Counter).is_err(), "the family is still held");
        drop((family, again));
        registry.family("f", "", Kind::Counter).unwrap();
    }

    #[test]
    fn histograms_count_up_to_and_with_each_bound() {
        let registry = Registry::default();
        let family = registry.family("h", "", Kind::Histogram).unwrap();
        let metric = family.metric(labels(&[("m", "x")]), &[0.5, 2.0]).unwrap();
        for value in [0.5, 1.0, 99.0] {
            metric.observe(value).unwrap();
        }
        let expected = "h_bucket{m=\"x\",le=\"0.5\"} 1\nh_bucket{m=\"x\",le=\"2\"} 2\n\
                        h_bucket{m=\"x\",le=\"+Inf\"} 3\nh_sum{m=\"x\"} 100.5\nh_count{m=\"x\"} 3\n";
        assert!(registry.text().ends_with(expected), "{}", registry.text());
    }

    #[test]
    fn what_a_kind_does_not_do_is_refused() {
        let registry = Registry::default();
        let metric = |name, kind, buckets: &[f64]| -> Result<Arc<Metric>> {
            registry.family(name, "", kind)?.metric(Labels::default(), buckets)
        };
        let counter = metric("c", Kind::Counter, &[]).unwrap();
        assert!(counter.increment(-1.0).is_err() && counter.set(1.0).is_err());
        assert!(counter.observe(1.0).is_err() && counter.value().is_ok());
        let histogram = metric("h", Kind::Histogram, &[]).unwrap();
        assert!(histogram.value().is_err() && histogram.increment(1.0).is_err());
        let gauge = metric("g", Kind::Gauge, &[]).unwrap();
        assert!(gauge.observe(1.0).is_err() && gauge.increment(-1.0).is_ok());
        assert!(metric("x", Kind::Counter, &[1.0]).is_err());
        assert!(metric("y", Kind::Histogram, &[2.0, 1.0]).is_err());
        assert!(metric("bad name", Kind::Counter, &[]).is_err());
        let family = registry.family("c", "", Kind::Counter).unwrap();
        assert!(family.metric(labels(&[("bad-label", "")]), &[]).is_err());
    }
}
