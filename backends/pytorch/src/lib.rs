//! Runs TorchScript models on the libtorch that the machine has.
//!
//! libtorch has no stable C interface, so a small shim is compiled against the installation that
//! is found, once for each, and opened at run time: the server itself needs no libtorch.

mod build;
mod discover;
mod library;
mod model;

pub use model::PytorchBackend;
