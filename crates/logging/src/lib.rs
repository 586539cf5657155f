//! The log: which messages are written, in what form, and where to. Everything but the file can be
//! changed while the server runs.
//!
//! Messages come through `tracing`. What is turned off costs a look at a flag beside the call.
#![forbid(unsafe_code)]

mod clock;
mod line;
mod settings;
mod subscriber;

pub use settings::{Change, Format, Settings};
pub use subscriber::{ACCESS, Log};
