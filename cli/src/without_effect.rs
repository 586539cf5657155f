//! Flags about threads and pools that Nereid does not have, about gRPC's own library, about what GPUs
//! are used for elsewhere and about where libraries are that are built in here: there is nothing to
//! set, so they are taken and do nothing. Who asks for another library than there is hears it then.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct WithoutEffect {
    #[arg(long, hide = true)]
    _http_thread_count: Option<String>,
    #[arg(long, hide = true)]
    _sagemaker_thread_count: Option<String>,
    #[arg(long, hide = true)]
    _vertex_ai_thread_count: Option<String>,
    #[arg(long, hide = true)]
    _grpc_infer_thread_count: Option<String>,
    #[arg(long, hide = true)]
    _grpc_infer_allocation_pool_size: Option<String>,
    #[arg(long, hide = true)]
    _grpc_max_response_pool_size: Option<String>,
    #[arg(long, hide = true)]
    _grpc_keepalive_permit_without_calls: Option<String>,
    #[arg(long, hide = true)]
    _grpc_http2_max_pings_without_data: Option<String>,
    #[arg(long, hide = true)]
    _grpc_http2_min_recv_ping_interval_without_data: Option<String>,
    #[arg(long, hide = true)]
    _grpc_http2_max_ping_strikes: Option<String>,
    #[arg(long, hide = true)]
    _buffer_manager_thread_count: Option<String>,
    #[arg(long, hide = true)]
    _pinned_memory_pool_byte_size: Option<String>,
    /// For each GPU, as the next one.
    #[arg(long, hide = true)]
    _cuda_memory_pool_byte_size: Vec<String>,
    #[arg(long, hide = true)]
    _cuda_virtual_address_size: Vec<String>,
    #[arg(long, hide = true)]
    _min_supported_compute_capability: Option<String>,
    #[arg(long, hide = true)]
    _enable_peer_access: Option<String>,
    #[arg(long, hide = true)]
    _cache_directory: Option<String>,
    #[arg(long, hide = true)]
    _repoagent_directory: Option<String>,
}
