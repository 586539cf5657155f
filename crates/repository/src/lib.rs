//! What a model repository holds on disk: model folders, version folders, and which of them a
//! version policy chooses. Says nothing about what is loaded.
#![forbid(unsafe_code)]

mod fingerprint;
mod layout;
mod remote;
mod version_policy;

pub use fingerprint::Fingerprint;
pub use layout::{ModelFolder, identifier, scan, split_identifier, version_number};
pub use remote::{Remote, RemoteModel, Repository};
pub use version_policy::VersionPolicy;
