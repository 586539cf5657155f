//! The server between the protocols and the backends: which models there are, who may run, and
//! what it cost. Knows no transport, no JSON and no backend by name.
#![forbid(unsafe_code)]

mod admit;
mod catalog;
mod controls;
mod initial_state;
mod lifecycle;
mod model;
mod ordering;
mod pool;
mod reshape;
mod scheduling;
mod seat;
mod sequencing;
mod server;
mod states;
mod statistics;

pub use catalog::{Catalog, ModelState, VersionState};
pub use lifecycle::Repositories;
pub use model::ModelVersion;
pub use server::{Server, ServerMetadata};
pub use statistics::{BatchStatistics, Duration, InferStatistics, ModelStatistics};
