//! The gRPC frontend: the v2 inference service, health and reflection. Models are `nereid-core`'s;
//! what a request may say beyond the shape of its messages is `nereid-protocol`'s.
#![forbid(unsafe_code)]

mod connections;
mod contents;
mod decode;
mod describe;
mod encode;
mod gate;
mod health;
mod infer;
mod logging;
mod order;
mod parameters;
mod repository;
mod service;
mod shared_memory;
mod status;
mod stream;
mod trace;

/// Generated from `grpc_service.proto`.
pub mod proto {
    #![allow(clippy::all, unreachable_pub)]
    tonic::include_proto!("inference");

    /// The service and everything it uses, for those who ask what there is.
    pub(crate) const DESCRIPTORS: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

pub use connections::{Options, serve};
pub use service::App;
