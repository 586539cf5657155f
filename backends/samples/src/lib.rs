//! Triton's small backends for trying out schedulers, built in under their names.
//!
//! | backend | what it does |
//! |---|---|
//! | `repeat` | decoupled: answers each element of `IN` after its `DELAY` |
//! | `square` | decoupled: answers a number as many times as it says |
//! | `sequence` | adds up the inputs of the sequence in each row (direct strategy) |
//! | `dyna_sequence` | adds up the inputs of each correlation ID (oldest strategy) |
//! | `iterative_sequence` | counts down from its input, rescheduling its request |
#![forbid(unsafe_code)]

mod accumulate;
mod controls;
mod countdown;
mod decoupled;
mod repeat;
mod square;
mod total;

pub use accumulate::{DynaSequenceBackend, SequenceBackend};
pub use countdown::IterativeSequenceBackend;
pub use repeat::RepeatBackend;
pub use square::SquareBackend;
