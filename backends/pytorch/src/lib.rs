//! Runs TorchScript models on the libtorch that the machine has.
//!
//! libtorch has no stable C interface, so a small shim is compiled against the installation that
//! is found, once for each, and opened at run time: the server itself needs no libtorch. Where
//! there is no compiler, the server may offer another way (see [`PytorchBackend::with_fallback`]).
//!
//! The way of a load: `backend` → `runtime` (`discover`, `compile`, `cuda`, `ffi`) → `model`.
//! `unsafe` is confined to `ffi`.
#![deny(unsafe_code)]

mod archive;
mod backend;
mod check;
mod compile;
mod complete;
mod cuda;
mod datatypes;
mod discover;
mod fallback;
#[allow(unsafe_code)]
mod ffi;
mod mapping;
mod model;
mod outputs;
mod parameters;
mod runtime;
mod warmup;

pub use backend::PytorchBackend;
pub use fallback::{Fallback, model_py};
