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
mod unary;

/// Generated from `grpc_service.proto`.
pub mod proto {
    #![allow(clippy::all, unreachable_pub)]
    tonic::include_proto!("inference");

    /// The service and everything it uses, for those who ask what there is.
    pub(crate) const DESCRIPTORS: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// For the fuzzer: whether `message` is a request to the model of `config`.
#[cfg(fuzzing)]
pub fn decode_message(
    config: &nereid_model_config::ModelConfig,
    message: bytes::Bytes,
) -> Result<(), String> {
    let message = prost::Message::decode(message).map_err(|error| format!("{error}"))?;
    decode::decode(config, message).map(drop).map_err(|error| error.message().to_owned())
}

pub use connections::{Options, serve};
pub use service::App;
