//! Serves the services on the connections of a listener.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;

use crate::accept::Accept;
use crate::health::Readiness;
use crate::proto::DESCRIPTORS;
use crate::proto::grpc_inference_service_server::GrpcInferenceServiceServer;
use crate::service::{App, InferenceService};
use crate::status::MAX_MESSAGE;

/// Bytes on their way to the server that a client need not have confirmed: enough that tensors do
/// not wait for confirmations.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Large pieces cost less than many small ones.
const FRAME_SIZE: u32 = 1 << 20;
/// Requests at the same time on one connection. What a server can take is its queues' business.
const CONCURRENT_STREAMS: u32 = 1 << 16;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How connections are treated.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A connection on which nothing happens is probed this often, and closed if the client does
    /// not answer the probe in time.
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    /// Compress responses for clients that can read that.
    pub compress: bool,
}

/// Serves until `shutdown`, then accepts nothing new and returns when every request that runs has
/// been answered.
pub async fn serve(
    listener: TcpListener,
    app: App,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let (stop, stopping) = watch::channel(false);
    let shutdown = async move {
        shutdown.await;
        // Streams that wait for another request would wait forever.
        let _ = stop.send(true);
    };
    let health =
        HealthServer::new(Readiness { server: app.server.clone(), stopping: stopping.clone() });
    let mut inference = GrpcInferenceServiceServer::new(InferenceService::new(app, stopping))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    if options.compress {
        inference = inference.send_compressed(CompressionEncoding::Gzip);
    }
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .http2_keepalive_interval(Some(options.keepalive_time))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
        .add_service(inference)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(Accept::new(listener), shutdown)
        .await?;
    Ok(())
}

fn reflection<'a>() -> Reflection<'a> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
