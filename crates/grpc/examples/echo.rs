//! What HTTP libraries alone cost: a bare hyper and a bare tonic that send back what they get. See
//! `scripts/echo_bench.py`, which holds Nereid against them.
//!
//!     echo hyper|tonic        prints its port

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tonic::codegen::Service;
use tonic::server::UnaryService;
use tonic_prost::ProstCodec;

/// Of an inference request only its tensors, which are those of the response.
#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(bytes = "bytes", repeated, tag = "7")]
    tensors: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answered {
    #[prost(bytes = "bytes", repeated, tag = "6")]
    tensors: Vec<Bytes>,
}

struct Echo;

impl UnaryService<Asked> for Echo {
    type Response = Answered;
    type Future = std::future::Ready<Result<tonic::Response<Answered>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Asked>) -> Self::Future {
        let tensors = request.into_inner().tensors;
        std::future::ready(Ok(tonic::Response::new(Answered { tensors })))
    }
}

/// The tonic service as hyper calls it.
#[derive(Clone)]
struct Tonic;

impl Service<Request<Incoming>> for Tonic {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        Box::pin(async {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Answered, Asked>::default())
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX);
            Ok(grpc.unary(Echo, request).await)
        })
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    Ok(Response::new(Full::new(request.into_body().collect().await?.to_bytes())))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let tonic = std::env::args().nth(1).is_some_and(|kind| kind == "tonic");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        tokio::spawn(async move {
            if tonic {
                // The same windows as Nereid's: what is compared is what comes on top.
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(4 << 20)
                    .initial_connection_window_size(16 << 20)
                    .max_frame_size(1 << 20)
                    .serve_connection(stream, service_fn(|request| Tonic.call(request)))
                    .await;
            } else {
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection.serve_connection(stream, service_fn(echo)).await;
            }
        });
    }
}
