//! The configuration of a model: reading `config.pbtxt`, defaults, validation and JSON.
//!
//! The structs are generated from `model_config.proto`, whose names and numbers are Triton's. A
//! configuration goes through [`parse`], [`fill_defaults`] and [`validate`], in this order; what
//! comes out is what the servers show ([`to_json`]) and what everyone else in Nereid reads.
#![forbid(unsafe_code)]

mod accessors;
mod defaults;
mod descriptor;
mod json;
mod pbtxt;
mod platform;
mod text;
mod validate;

/// Generated from `model_config.proto`.
pub mod proto {
    #![allow(clippy::all, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

pub use accessors::{datatype, datatype_number};
pub use defaults::fill_defaults;
pub use json::{from_json, to_json};
pub use pbtxt::{to_pbtxt, to_pbtxt_with};
pub use proto::{
    BatchInput, BatchOutput, DataType as ConfigDataType, ModelConfig, ModelDynamicBatching,
    ModelEnsembling, ModelInput, ModelInstanceGroup, ModelMetrics, ModelOperations,
    ModelOptimizationPolicy, ModelOutput, ModelParameter, ModelQueuePolicy, ModelRateLimiter,
    ModelRepositoryAgents, ModelResponseCache, ModelSequenceBatching, ModelTensorReshape,
    ModelTransactionPolicy, ModelVersionPolicy, ModelWarmup,
};
pub use proto::{
    batch_input, batch_output, model_config, model_ensembling, model_input, model_instance_group,
    model_metrics, model_optimization_policy, model_queue_policy, model_rate_limiter,
    model_repository_agents, model_sequence_batching, model_version_policy, model_warmup,
};
pub use text::{Places, Problem, Spot, parse, read};
pub use validate::validate;
