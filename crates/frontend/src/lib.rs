//! What the frontends have in common, whatever protocol they speak.
#![forbid(unsafe_code)]

mod delivery;

pub use delivery::{Delivery, find_regions};
