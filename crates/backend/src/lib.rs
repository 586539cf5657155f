//! The contract between the server and whatever runs a model.
//!
//! Three traits: a [`Backend`] loads models, a [`Model`] makes instances, an [`Instance`] runs one
//! batch at a time. There is no unload, no finalize: dropping a value ends it. A backend sees this
//! crate, the nouns of `nereid-inference`, the model's configuration and the arena, and nothing
//! else of the server.
#![forbid(unsafe_code)]

mod batch;
mod cache;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod finding;
mod gather;
mod host;
mod layout;
mod python_packages;
mod scatter;

pub use batch::{Batch, BatchOwner, BatchReport};
pub use cache::cache_folder;
pub use contract::{Backend, Instance, InstanceKind, Model, ModelSource, Placement, Seat};
pub use finding::{Finding, Severity};
pub use gather::GatheredInput;
pub use host::{Host, ModelChange, Pulse, Service};
pub use layout::BatchLayout;
pub use nereid_metrics as metrics;
pub use python_packages::{environment_packages, python_packages};
