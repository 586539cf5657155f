//! Metrics for Prometheus: what models and parts of the server count, and the text it is read as.
//!
//! Two ways lead onto the page. A *collector* writes what somebody counts anyway (statistics,
//! queues) at the moment when the page is asked for, so that a request pays nothing more. A
//! *metric* of a family is a number of its own, for those who have none: models in Python, say.
//! It is on the page for as long as somebody holds it.
#![forbid(unsafe_code)]

mod cpu;
mod family;
mod labels;
mod metric;
mod page;
mod registry;

pub use cpu::Cpu;
pub use family::Family;
pub use labels::Labels;
pub use metric::{Kind, Metric};
pub use page::{Buckets, Page, Samples};
pub use registry::Registry;
