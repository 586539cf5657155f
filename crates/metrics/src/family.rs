//! Metrics that share a name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use nereid_inference::{Error, Result};

use crate::labels::Labels;
use crate::metric::{Kind, Metric};
use crate::page::Page;

/// Metrics of one name, told apart by their labels.
#[derive(Debug)]
pub struct Family {
    name: String,
    help: String,
    kind: Kind,
    /// Those that somebody holds.
    metrics: Mutex<Vec<Weak<Metric>>>,
}

impl Family {
    pub(crate) fn new(name: &str, help: &str, kind: Kind) -> Result<Self> {
        if !is_name(name, true) {
            return Err(Error::invalid_arg(format!("'{name}' cannot be the name of a metric")));
        }
        let (name, help) = (name.to_owned(), help.to_owned());
        Ok(Self { name, help, kind, metrics: Mutex::default() })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The metric with these labels: the one that is there, else a new one. `buckets` are the
    /// upper bounds of a histogram; others have none.
    pub fn metric(&self, labels: Labels, buckets: &[f64]) -> Result<Arc<Metric>> {
        if let Some(name) = labels.names().find(|name| !is_name(name, false)) {
            return Err(Error::invalid_arg(format!("'{name}' cannot be the name of a label")));
        }
        let mut metrics = self.lock();
        metrics.retain(|metric| metric.strong_count() > 0);
        let known = metrics.iter().filter_map(Weak::upgrade).find(|known| known.labels == labels);
        if let Some(known) = known {
            return Ok(known);
        }
        let metric = Arc::new(Metric::new(self.kind, labels, buckets)?);
        metrics.push(Arc::downgrade(&metric));
        Ok(metric)
    }

    pub(crate) fn write(&self, page: &mut Page) {
        let metrics: Vec<Arc<Metric>> = self.lock().iter().filter_map(Weak::upgrade).collect();
        let mut samples = page.family(&self.name, &self.help, self.kind);
        metrics.iter().for_each(|metric| metric.write(&mut samples));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Metric>>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The format's names: a letter or `_`, then digits too; colons in names of metrics only.
fn is_name(name: &str, colons: bool) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    name.bytes().all(fits) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}
