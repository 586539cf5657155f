//! What a model repository holds on disk: model folders, version folders, and which of them a
//! version policy chooses. Says nothing about what is loaded.
#![forbid(unsafe_code)]

mod fingerprint;
mod layout;
mod version_policy;

pub use fingerprint::Fingerprint;
pub use layout::{ModelFolder, scan};
pub use version_policy::VersionPolicy;
