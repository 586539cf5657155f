//! Runs `model.py` files written for Triton, each instance in an ordinary Python process.
//!
//! The worker is the interpreter that the user has, running a small pure-Python package which this
//! crate carries; nothing is compiled for it and nothing is installed. Requests and answers travel
//! as frames over two pipes, large tensors by their place in the shared arena. No thread of the
//! server belongs to an instance: whoever brings a request writes its frame, and the reactor reads
//! the answers.

mod ask;
mod backend;
mod calls;
mod check;
mod complete;
mod control;
mod custom_metrics;
mod devices;
mod environment;
mod executing;
mod extras;
mod frame;
mod launch;
mod limits;
mod link;
mod options;
mod peers;
mod span;
mod supervise;
mod tensors;
mod worker_files;

pub use backend::{PythonBackend, PythonBased};
