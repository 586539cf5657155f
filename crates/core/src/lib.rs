//! The server between the protocols and the backends: which models there are, who may run, and
//! what it cost. Knows no transport, no JSON and no backend by name.
#![forbid(unsafe_code)]

mod admit;
mod agents;
mod caching;
mod call;
mod catalog;
mod check;
mod controls;
mod ensemble;
mod index;
mod initial_state;
mod instances;
mod labels;
mod latencies;
mod latency;
mod latency_target;
mod lifecycle;
mod limits;
mod load_order;
mod loading;
mod memory;
mod metrics;
mod model;
mod namespaces;
mod on_demand;
mod ordering;
mod overrides;
mod own;
mod parallel;
mod pool;
mod precise;
mod regions;
mod registered;
mod regroup;
mod reshape;
mod scheduling;
mod seat;
mod seats;
mod sequencing;
mod server;
mod states;
mod statistics;
#[cfg(test)]
mod timelines;
mod warmup;

pub use call::{Call, OnlyResponse, Outcome};
pub use catalog::{Catalog, ModelState, VersionState};
pub use check::{CheckReport, ModelFinding};
pub use index::IndexEntry;
pub use latencies::LatencySettings;
pub use lifecycle::{ControlMode, Lifecycle};
pub use limits::Limiter;
pub use loading::Repositories;
pub use model::ModelVersion;
pub use nereid_repository::{Remote, Repository};
pub use nereid_scheduler::Supply;
pub use on_demand::AutoSettings;
pub use overrides::Override;
pub use regions::{CudaStatus, OutputPlace, RegionStatus, Regions};
pub use registered::Registered;
pub use server::{Server, ServerMetadata};
pub use statistics::{
    BatchStatistics, Duration, FailureReason, InferStatistics, ModelStatistics, ResponseStatistics,
};
