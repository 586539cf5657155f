//! `grpc.health.v1`: what load balancers and orchestrators ask.

use std::pin::Pin;
use std::sync::Arc;

use nereid_core::Server;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Answers for the server as a whole, whatever service is asked about.
pub(crate) struct Readiness {
    pub(crate) server: Arc<Server>,
    /// Becomes true when the server stops, which ends the watching.
    pub(crate) stopping: watch::Receiver<bool>,
}

#[async_trait]
impl Health for Readiness {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(readiness(&self.server)))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, statuses) = mpsc::channel(1);
        tokio::spawn(tell(self.server.clone(), self.stopping.clone(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(statuses))))
    }
}

/// Tells a client the status, and again whenever it is another, until the client or the server goes.
async fn tell(
    server: Arc<Server>,
    mut stopping: watch::Receiver<bool>,
    client: mpsc::Sender<Result<HealthCheckResponse, Status>>,
) {
    let mut changes = server.changes();
    let mut told = None;
    loop {
        let stopped = *stopping.borrow_and_update();
        let status = readiness(&server);
        if told.as_ref() != Some(&status) && client.send(Ok(status)).await.is_err() || stopped {
            return;
        }
        told = Some(status);
        tokio::select! {
            _ = changes.changed() => {}
            _ = stopping.changed() => {}
            () = client.closed() => return,
        }
    }
}

fn readiness(server: &Server) -> HealthCheckResponse {
    let ready = server.is_ready();
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}
