//! Accepts connections and serves requests on them.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};

use crate::app::App;
use crate::reply::Reply;

/// How long a client may take to send the head of a request. As hyper counts from the answer before
/// it, this is also how long a connection may idle: longer than load balancers keep theirs, or they
/// would send requests into connections that are just being closed.
const HEAD_LIMIT: Duration = Duration::from_secs(300);
/// Bytes of a request's head; hyper adds a limit of 100 headers.
const HEAD_SIZE: usize = 64 << 10;
/// Pause after a connection could not be accepted, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then accepts nothing new and returns when every request that runs has
/// been answered.
pub async fn serve(listener: TcpListener, app: App, shutdown: impl Future<Output = ()>) {
    let handle = move |request| {
        let app = app.clone();
        async move { app.handle(request).await }
    };
    serve_with(listener, handle, shutdown).await;
}

/// The same for whatever answers requests.
pub(crate) async fn serve_with<H, F>(
    listener: TcpListener,
    handle: H,
    shutdown: impl Future<Output = ()>,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => start(stream, &handle, &graceful),
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

fn start<H, F>(stream: TcpStream, handle: &H, graceful: &GracefulShutdown)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    // Answers are written whole: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let handle = handle.clone();
    let service = service_fn(move |request| {
        let reply = handle(request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_header_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service);
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            tracing::debug!("connection ended: {error}");
        }
    });
}
