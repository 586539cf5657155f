//! Accepts connections and serves a protocol on them: HTTP/1.1 or HTTP/2, with or without TLS.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{interval, sleep, timeout};

use crate::idle_resets::WithoutIdleResets;
use crate::tls::Tls;

/// How long a client may take for a TLS handshake, and to say which HTTP it speaks.
const GREETING_LIMIT: Duration = Duration::from_secs(30);
/// How long a client may take to send the head of a request. As hyper counts from the answer before
/// it, this is also how long a connection may idle: longer than load balancers keep theirs, or they
/// would send requests into connections that are just being closed.
const HEAD_LIMIT: Duration = Duration::from_secs(300);
/// Bytes of a request's head; for HTTP/1.1 hyper adds a limit of 100 headers.
const HEAD_SIZE: usize = 64 << 10;
/// Pause after a connection could not be accepted, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bytes on their way to the server that a client need not have confirmed: enough that tensors do
/// not wait for confirmations.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Large pieces cost less than many small ones.
const FRAME_SIZE: u32 = 1 << 20;
/// Requests at the same time on one connection; more wait in the client.
const CONCURRENT_STREAMS: u32 = 1 << 14;

/// A peer that is silent this long is asked for a sign of life, and given up after a few questions.
const SILENCE: Duration = Duration::from_secs(120);
const QUESTION: Duration = Duration::from_secs(15);
/// How long a client may let answers wait without taking a byte of them.
const UNREAD: Duration = Duration::from_secs(300);

/// How connections are treated.
#[derive(Clone)]
pub struct ConnectionOptions {
    /// HTTP/1.1 is served too, not only HTTP/2.
    pub http1: bool,
    pub tls: Option<Arc<Tls>>,
    /// At the same time; further ones are closed at once.
    pub max_connections: usize,
    /// An HTTP/2 connection on which nothing happens is probed this often, and closed if the client
    /// does not answer the probe in time.
    pub keepalive_time: Option<Duration>,
    pub keepalive_timeout: Duration,
    /// How old a connection may become before its client is told to make another, and how long it
    /// may finish its requests then.
    pub max_age: Option<Duration>,
    pub max_age_grace: Option<Duration>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            http1: true,
            tls: None,
            max_connections: 1 << 16,
            keepalive_time: None,
            keepalive_timeout: Duration::from_secs(20),
            max_age: None,
            max_age_grace: None,
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: IpAddr,
}

/// What serves the requests of one connection.
pub trait Serve<B>:
    Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send + 'static>
    + Send
    + 'static
{
}

impl<B, S> Serve<B> for S where
    S: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        > + Send
        + 'static
{
}

/// Serves until `shutdown`, then accepts nothing new and returns when every request that runs has
/// been answered. `service` makes what serves one connection.
pub async fn serve<S, B>(
    listener: TcpListener,
    options: ConnectionOptions,
    service: impl Fn(Peer) -> S,
    shutdown: impl Future<Output = ()>,
) where
    S: Serve<B>,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(options.max_connections));
    let (stop, stopping) = watch::channel(());
    let options = Arc::new(options);
    let mut shutdown = pin!(shutdown);
    // A timer that is set before another one goes off wakes the runtime, even from within: without
    // this one, each request would, when the time for the next one's head begins.
    let mut tick = interval(HEAD_LIMIT / 4);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tick.tick() => continue,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    tracing::debug!("closed a connection of {address}: too many are open");
                    continue;
                };
                let service = service(Peer { address: address.ip().to_canonical() });
                let connection = Connection {
                    options: options.clone(),
                    stopping: stopping.clone(),
                    _place: place,
                };
                tokio::spawn(connection.run(stream, service));
            }
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, stopping));
    stop.send_replace(());
    stop.closed().await;
}

struct Connection {
    options: Arc<ConnectionOptions>,
    /// Changes when the server stops; dropped when the connection has ended.
    stopping: watch::Receiver<()>,
    /// Given back when the connection has ended.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run<S, B>(mut self, stream: TcpStream, service: S)
    where
        S: Serve<B>,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        set_options(&stream);
        let mut stopping = self.stopping.clone();
        let greeting = async {
            match self.options.tls.clone() {
                None => {
                    let http2 = !self.options.http1 || begins_with_http2(&stream).await;
                    Ok((Stream::Plain(stream), http2))
                }
                Some(tls) => {
                    let stream = tls.accept(stream).await?;
                    let http2 = !self.options.http1
                        || stream.get_ref().1.alpn_protocol() == Some(&b"h2"[..]);
                    Ok::<_, std::io::Error>((Stream::Tls(Box::new(stream)), http2))
                }
            }
        };
        let greeted = tokio::select! {
            greeted = timeout(GREETING_LIMIT, greeting) => greeted,
            // It has not asked anything yet.
            _ = stopping.changed() => return,
        };
        let (stream, http2) = match greeted {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => return tracing::debug!("no TLS handshake: {error}"),
            Err(_) => return,
        };
        match stream {
            Stream::Plain(stream) => self.speak(stream, http2, service).await,
            Stream::Tls(stream) => self.speak(stream, http2, service).await,
        }
    }

    async fn speak<I, S, B>(&mut self, stream: I, http2: bool, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Serve<B>,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        if !http2 {
            let stream = TokioIo::new(stream);
            return self.drive(http1_builder().serve_connection(stream, service)).await;
        }
        let stream = TokioIo::new(WithoutIdleResets::new(stream));
        let connection = http2_builder(&self.options).serve_connection(stream, service);
        self.drive(connection).await;
    }

    /// Runs a connection to its end, which comes by the client, by its age, or with the server's.
    async fn drive<C>(&mut self, connection: C)
    where
        C: GracefulConnection<Error: std::fmt::Display>,
    {
        let mut connection = pin!(connection);
        let max_age = self.options.max_age;
        let mut ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = self.stopping.changed() => None,
            () = after(max_age) => None,
        };
        if ended.is_none() {
            connection.as_mut().graceful_shutdown();
            // A server that stops has its own patience.
            let grace = max_age.and(self.options.max_age_grace);
            ended = tokio::select! {
                ended = connection => Some(ended),
                () = after(grace) => None,
            };
        }
        if let Some(Err(error)) = ended {
            tracing::debug!("connection ended: {error}");
        }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// Waits this long, or forever.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

fn set_options(stream: &TcpStream) {
    // Answers are written whole: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(QUESTION);
    let _ = socket.set_tcp_keepalive(&keepalive.with_retries(4));
    let _ = socket.set_tcp_user_timeout(Some(UNREAD));
}

/// Whether a client without TLS speaks HTTP/2 at once: no request of HTTP/1.1 begins like this.
async fn begins_with_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 3];
    matches!(stream.peek(&mut start).await, Ok(3)) && start == *b"PRI"
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_header_size(HEAD_SIZE);
    builder
}

fn http2_builder(options: &ConnectionOptions) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .max_header_list_size(HEAD_SIZE as u32)
        .keep_alive_interval(options.keepalive_time)
        .keep_alive_timeout(options.keepalive_timeout);
    builder
}
