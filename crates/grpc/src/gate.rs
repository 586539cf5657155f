//! What happens to a call before its method: who may make it, and until when it is of use.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use nereid_frontend::{Access, Category, Denial, Peer, Wish};
use nereid_logging::ACCESS;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::service::Routes;
use tracing::Level;

use crate::service::App;
use crate::unary::{answer, is_plain_infer};

pub(crate) struct Gate {
    pub(crate) app: Arc<App>,
    pub(crate) routes: Routes,
    /// Responses are compressed for clients that can read that.
    pub(crate) compress: bool,
    pub(crate) access: Access,
}

impl Gate {
    pub(crate) fn answer(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + use<> {
        let wish = wish(request.uri().path());
        let granted = self.access.check(wish, peer.address, request.headers());
        let deadline = deadline(request.headers());
        let entry = tracing::enabled!(target: ACCESS, Level::INFO)
            .then(|| (Instant::now(), request.uri().path().to_owned()));
        let way = match is_plain_infer(&request, self.compress) {
            true => Way::Plain(self.app.clone()),
            false => Way::Tonic(self.routes.clone()),
        };
        async move {
            let call = async {
                match way {
                    Way::Plain(app) => answer(&app, request).await,
                    Way::Tonic(mut routes) => answered(routes.call(request).await),
                }
            };
            let reply = match granted {
                Ok(()) => in_time(call, deadline).await,
                Err(denial) => denied(&denial).into_http(),
            };
            if let Some((began, path)) = entry {
                log_access(&path, &reply, began);
            }
            reply
        }
    }
}

/// Who answers a call.
enum Way {
    Plain(Arc<App>),
    Tonic(Routes),
}

async fn in_time(
    call: impl Future<Output = Response<Body>>,
    deadline: Option<Duration>,
) -> Response<Body> {
    let Some(left) = deadline else { return call.await };
    match tokio::time::timeout(left, call).await {
        Ok(reply) => reply,
        // Dropping the call has cancelled what it had begun.
        Err(_) => Status::deadline_exceeded("Deadline Exceeded").into_http(),
    }
}

/// A call that fails has its status among the headers; one that streams is logged as it begins.
fn log_access(path: &str, reply: &Response<Body>, began: Instant) {
    let status = reply.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    tracing::info!(
        target: ACCESS,
        path,
        status = status.unwrap_or("0"),
        us = began.elapsed().as_micros() as u64,
        "gRPC"
    );
}

fn answered(reply: Result<Response<Body>, Infallible>) -> Response<Body> {
    match reply {
        Ok(reply) => reply,
        Err(never) => match never {},
    }
}

fn denied(denial: &Denial) -> Status {
    match denial {
        Denial::Restricted { header } => {
            Status::unavailable(format!("This protocol is restricted, expecting header '{header}'"))
        }
        Denial::NoKey => Status::unauthenticated(denial.message()),
        Denial::Scope(_) | Denial::Remote => Status::permission_denied(denial.message()),
    }
}

/// What a path asks for.
fn wish(path: &str) -> Wish {
    let Some(method) = path.strip_prefix("/inference.GRPCInferenceService/") else {
        let health = path.starts_with("/grpc.health.");
        return Wish::to_see(if health { Category::Health } else { Category::Metadata });
    };
    match method {
        "ModelInfer" | "ModelStreamInfer" => Wish::to_see(Category::Inference),
        "ServerLive" | "ServerReady" | "ModelReady" => Wish::to_see(Category::Health),
        "ModelConfig" => Wish::to_see(Category::ModelConfig),
        "ModelStatistics" => Wish::to_see(Category::Statistics),
        "RepositoryIndex" => Wish::to_see(Category::ModelRepository),
        "RepositoryModelLoad" | "RepositoryModelUnload" => {
            Wish::to_change(Category::ModelRepository)
        }
        "SystemSharedMemoryStatus" | "CudaSharedMemoryStatus" => {
            Wish::to_see(Category::SharedMemory)
        }
        method if method.contains("SharedMemory") => Wish::to_change(Category::SharedMemory),
        "TraceSetting" => Wish::to_change(Category::Trace),
        "LogSettings" => Wish::to_change(Category::Logging),
        _ => Wish::to_see(Category::Metadata),
    }
}

/// How long the client will wait: at most eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn deadlines() {
        for (text, left) in [
            ("2H", Some(7_200_000_000_000)),
            ("3M", Some(180_000_000_000)),
            ("5S", Some(5_000_000_000)),
            ("250m", Some(250_000_000)),
            ("7u", Some(7_000)),
            ("99999999n", Some(99_999_999)),
            ("999999999n", None),
            ("5x", None),
            ("S", None),
            ("", None),
            ("-5S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            assert_eq!(deadline(&headers), left.map(Duration::from_nanos), "{text}");
        }
    }

    #[test]
    fn what_changes_the_server_is_known() {
        for (method, category) in [
            ("RepositoryModelLoad", Category::ModelRepository),
            ("RepositoryModelUnload", Category::ModelRepository),
            ("SystemSharedMemoryRegister", Category::SharedMemory),
            ("CudaSharedMemoryUnregister", Category::SharedMemory),
            ("TraceSetting", Category::Trace),
            ("LogSettings", Category::Logging),
        ] {
            let path = format!("/inference.GRPCInferenceService/{method}");
            assert_eq!(wish(&path), Wish::to_change(category), "{method}");
        }
        assert_eq!(wish("/grpc.health.v1.Health/Check"), Wish::to_see(Category::Health));
    }
}
