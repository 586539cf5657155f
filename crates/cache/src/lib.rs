//! The response cache: answers that are given again instead of computed again.
//!
//! A [`Key`] says what was asked, an [`Entry`] what the answer was. Where entries are kept is one
//! of several [`ResponseCache`]s; which models use it, and what is counted, is not decided here.
#![forbid(unsafe_code)]

#[cfg(feature = "redis")]
mod encoding;
mod entry;
mod key;
mod local;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_client;
mod settings;
mod store;

pub use entry::Entry;
pub use key::Key;
pub use local::{Local, LocalStatistics};
pub use settings::Settings;
pub use store::ResponseCache;
