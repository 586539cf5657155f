//! Decides which requests run together, on which instance, and when.
//!
//! A scheduler here is a plain struct driven by `push` and `step(now)`: no task, no lock, no clock
//! of its own. Whoever drives it (the pool of a model's instances) hands over what it decides and
//! answers what it rejects.
#![forbid(unsafe_code)]

mod batching;
mod cancelled;
mod closed;
mod deadlines;
mod fit;
mod forecast;
mod hold;
mod level;
mod policy;
mod rate_limiter;
mod scheduler;
mod sequence;
mod step;
mod timeouts;

pub use batching::{Batching, Dynamic, Queue};
pub use closed::Closed;
pub use deadlines::Deadlines;
pub use hold::Hold;
pub use policy::{QueuePolicies, QueuePolicy, TimeoutAction};
pub use rate_limiter::{Claimant, Need, RateLimiter, Supply, Urgent};
pub use scheduler::Scheduler;
pub use sequence::{SequenceBatching, Sequences, Strategy};
pub use step::{Dispatch, Rejected, Step, earlier};

#[cfg(test)]
mod testing;
