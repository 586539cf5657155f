//! Serves the services on the connections of a listener.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use hyper::service::service_fn;
use nereid_frontend::{Access, ConnectionOptions};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;

use crate::gate::Gate;
use crate::health::Readiness;
use crate::proto::DESCRIPTORS;
use crate::proto::grpc_inference_service_server::GrpcInferenceServiceServer;
use crate::service::{App, InferenceService};
use crate::status::MAX_MESSAGE;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How gRPC is served.
pub struct Options {
    pub connections: ConnectionOptions,
    pub access: Access,
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
    let compress = options.compress;
    let routes = routes(app.clone(), stopping, compress)?;
    let gate = Arc::new(Gate { app: Arc::new(app), routes, compress, access: options.access });
    let service = |peer| {
        let gate = gate.clone();
        service_fn(move |request| {
            let answer = gate.answer(peer, request);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    nereid_frontend::serve(listener, options.connections, service, shutdown).await;
    Ok(())
}

fn routes(app: App, stopping: watch::Receiver<bool>, compress: bool) -> Result<Routes, Failure> {
    let health =
        HealthServer::new(Readiness { server: app.server.clone(), stopping: stopping.clone() });
    let mut inference = GrpcInferenceServiceServer::new(InferenceService::new(app, stopping))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    if compress {
        inference = inference.send_compressed(CompressionEncoding::Gzip);
    }
    let routes = Routes::new(inference)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(routes.prepare())
}

fn reflection<'a>() -> Reflection<'a> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
