//! The wire format of the v2 protocol with Triton's extensions: bytes to requests, responses to
//! bytes. The only crate that knows it; sockets are the transports' business.
#![forbid(unsafe_code)]

mod classification;
mod generate;
mod infer_request;
mod infer_response;
mod json;
mod logging;
mod metadata;
mod parameters;
mod raw_request;
mod repository;
mod shared_memory;
mod statistics;
mod status;
mod trace;
mod version;

pub use classification::classify;
pub use generate::{parse_generate_request, write_generate_response};
pub use infer_request::{
    InferRequest, ListedOutput, OutputForm, OutputFormat, parse_infer_request, unknown_datatype,
};
pub use infer_response::{InferResponse, write_infer_response};
pub use logging::{log_file_is_fixed, log_settings, parse_log_change};
pub use metadata::{
    ModelDescription, TensorDescription, describe_model, model_metadata, server_metadata,
};
pub use parameters::{ParameterKey, correlation_text};
pub use raw_request::raw_infer_request;
pub use repository::{
    IndexRow, LoadParameters, parse_index_request, parse_load_request, parse_unload_request,
    repository_index,
};
pub use shared_memory::{
    CudaRegisterRequest, RegionRow, RegisterRequest, cuda_region_status,
    parse_cuda_register_request, parse_register_request, region_status,
};
pub use statistics::{StatisticsRow, TimeRow, statistics};
pub use status::{error_body, http_status};
pub use trace::{
    TraceSettings, parse_trace_change, trace_change, trace_settings, trace_settings_json,
};
pub use version::parse_version;
