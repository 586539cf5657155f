//! Serves HTTP on the connections of a listener.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use nereid_frontend::{ConnectionOptions, Peer};
use tokio::net::TcpListener;

use crate::app::App;
use crate::cloud::Service;
use crate::reply::Reply;

/// Serves until `shutdown`, then accepts nothing new and returns when every request that runs has
/// been answered.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    service: Service,
    options: ConnectionOptions,
    shutdown: impl Future<Output = ()>,
) {
    let service = Arc::new(service);
    let handle = move |peer, request| {
        let (app, service) = (app.clone(), service.clone());
        async move { app.handle(&service, peer, request).await }
    };
    serve_with(listener, handle, options, shutdown).await;
}

/// The same for whatever answers requests.
pub(crate) async fn serve_with<H, F>(
    listener: TcpListener,
    handle: H,
    options: ConnectionOptions,
    shutdown: impl Future<Output = ()>,
) where
    H: Fn(Peer, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let service = |peer| {
        let handle = handle.clone();
        service_fn(move |request| {
            let reply = handle(peer, request);
            async move { Ok::<_, Infallible>(reply.await) }
        })
    };
    nereid_frontend::serve(listener, options, service, shutdown).await;
}
