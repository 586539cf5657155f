//! `grpc.health.v1`: what load balancers and orchestrators ask.

use std::sync::Arc;

use nereid_core::Server;
use tokio_stream::Empty;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Answers for the server as a whole, whatever service is asked about.
pub(crate) struct Readiness(pub(crate) Arc<Server>);

#[async_trait]
impl Health for Readiness {
    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status =
            if self.0.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("watching health is not supported: use Check"))
    }
}
