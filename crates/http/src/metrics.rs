//! The metrics service, on a port of its own.

use hyper::{Method, Request, StatusCode};
use nereid_frontend::ConnectionOptions;
use nereid_metrics::Registry;
use tokio::net::TcpListener;

use crate::connections::serve_with;
use crate::reply::{Reply, TEXT, reply, status_reply};

const PAGE: &str = "text/plain; charset=utf-8";

/// Serves the page until `shutdown`.
pub async fn serve_metrics(
    listener: TcpListener,
    registry: Registry,
    shutdown: impl Future<Output = ()>,
) {
    let handle = move |_, request: Request<_>| {
        let reply = answer(request.method(), request.uri().path(), &registry);
        async move { reply }
    };
    serve_with(listener, handle, ConnectionOptions::default(), shutdown).await;
}

fn answer(method: &Method, path: &str, registry: &Registry) -> Reply {
    if method != Method::GET {
        return status_reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed");
    }
    match path {
        "/metrics" | "/metrics/" => metrics_page(registry),
        // As Triton: probes that ask for anything at all rely on it.
        _ => reply(StatusCode::OK, PAGE, bytes::Bytes::new()),
    }
}

pub(crate) fn metrics_page(registry: &Registry) -> Reply {
    reply(StatusCode::OK, PAGE, registry.text().into())
}
