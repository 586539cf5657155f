//! Runs ONNX models: on ONNX Runtime where its library is installed, else on an engine in pure
//! Rust that is part of the server.
//!
//! The way of a load: `backend` reads the `graph` of the file, `complete`s the configuration from
//! it and `validate`s the two against each other, then makes a `model` on one of two engines:
//! `session` (ONNX Runtime, found by `discover`, opened by `runtime`) or `embedded` (rten).
//! `unsafe` is confined to `ffi`.
#![deny(unsafe_code)]

mod backend;
mod check;
mod complete;
mod datatypes;
mod discover;
mod embedded;
#[allow(unsafe_code)]
mod ffi;
mod graph;
mod model;
mod options;
mod runtime;
mod session;
mod validate;

pub use backend::OnnxRuntimeBackend;
