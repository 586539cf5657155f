//! Decides which requests run together and when.
//!
//! A scheduler here is a plain struct driven by `push` and `step(now)`: no task, no lock, no clock
//! of its own. Whoever drives it (the pool of a model's instances) hands over what it decides.
#![forbid(unsafe_code)]

mod batching;

pub use batching::{Batching, Dynamic, Queue, Step};
