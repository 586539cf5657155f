//! What every handler works with, and the choice of the handler.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use nereid_arena::Arena;
use nereid_backend::Pulse;
use nereid_core::{Duration, Lifecycle, ModelStatistics, Regions, ResponseStatistics, Server};
use nereid_frontend::{Access, Category, Denial, Forward, Peer, Wish};
use nereid_logging::{ACCESS, Log};
use nereid_metrics::Registry;
use nereid_protocol::{StatisticsRow, model_metadata, parse_version, server_metadata, statistics};
use nereid_trace::Tracer;
use tracing::Level;

use crate::body::discard;
use crate::cloud::Service;
use crate::generate::generate;
use crate::infer::infer;
use crate::logging::logging;
use crate::metrics::metrics_page;
use crate::openapi::openapi;
use crate::page::{page, wants_page};
use crate::reply::{Reply, TEXT, json_error, json_reply, reply, status_reply, text_error};
use crate::repository::repository;
use crate::routes::{Memory, ModelAction, Route, route};
use crate::shared_memory::{cuda_shared_memory, shared_memory};
use crate::trace::trace;

pub struct App {
    pub server: Arc<Server>,
    pub lifecycle: Arc<Lifecycle>,
    pub regions: Arc<Regions>,
    /// Large bodies are received here, where workers can see them too.
    pub arena: Arena,
    pub pulse: Pulse,
    pub log: Log,
    pub tracer: Tracer,
    /// Shown on the page for people; `None`: there are none.
    pub metrics: Option<Registry>,
    pub limits: Limits,
    pub access: Access,
    /// Headers that models are told.
    pub forward: Option<Forward>,
}

/// What clients may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's JSON part and of each tensor in it (`--http-max-input-size`).
    pub max_input_size: usize,
    /// Bytes of a whole body.
    pub max_body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_input_size: 64 << 20, max_body: (1 << 31) - 1 }
    }
}

impl App {
    pub(crate) async fn handle(
        &self,
        service: &Service,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Reply {
        self.pulse.beat();
        let (mut head, mut body) = request.into_parts();
        let began = tracing::enabled!(target: ACCESS, Level::INFO).then(Instant::now);
        let reply = match service {
            Service::Api => self.answer(peer, &head, &mut body).await,
            Service::Cloud(cloud) => Box::pin(cloud.answer(self, peer, &mut head, &mut body)).await,
        };
        if let Some(began) = began {
            log_access(&head, &reply, began);
        }
        discard(&mut body, &head.headers, self.limits.max_body).await;
        reply
    }

    async fn answer(&self, peer: Peer, head: &Parts, body: &mut Incoming) -> Reply {
        let Some(route) = route(head.uri.path()) else { return self.beside_the_api(peer, head) };
        if let Err(denial) = self.access.check(route.wish(), peer.address, &head.headers) {
            return denied(&denial);
        }
        if !route.allows(&head.method) {
            let method = "Method Not Allowed";
            return status_reply(StatusCode::METHOD_NOT_ALLOWED, route.error_type(), method);
        }
        self.follow(route, head, body).await
    }

    /// Answers a request to `route`, by whatever path it came.
    pub(crate) async fn follow(
        &self,
        route: Route<'_>,
        head: &Parts,
        body: &mut Incoming,
    ) -> Reply {
        match route {
            // Only digits come here, so all that can be wrong with a version is its size.
            Route::Model { name, version, action } => match parse_version(version.unwrap_or("")) {
                Ok(version) => self.model_route(name, version, action, head, body).await,
                // As if these two had looked for the model.
                Err(error) if matches!(action, ModelAction::Infer | ModelAction::Ready) => {
                    text_error(&error)
                }
                Err(error) => json_error(&error),
            },
            Route::Repository(action) => repository(self, action, body).await,
            Route::SharedMemory { memory: Memory::System, action, region } => {
                shared_memory(self, action, region, body).await
            }
            Route::SharedMemory { memory: Memory::Cuda, action, region } => {
                cuda_shared_memory(self, action, region, body).await
            }
            Route::Logging => logging(self, &head.method, body).await,
            Route::Trace { model } => trace(self, &head.method, model, body).await,
            other => self.server_route(&other),
        }
    }

    /// What is not part of the API: the page for people, and the metrics that it shows.
    fn beside_the_api(&self, peer: Peer, head: &Parts) -> Reply {
        let path = head.uri.path();
        if wants_page(&head.method, path, &head.headers) {
            return page();
        }
        match &self.metrics {
            Some(registry) if path == "/metrics" && head.method == Method::GET => {
                let wish = Wish::to_see(Category::Statistics);
                match self.access.check(wish, peer.address, &head.headers) {
                    Ok(()) => metrics_page(registry),
                    Err(denial) => denied(&denial),
                }
            }
            _ => status_reply(StatusCode::NOT_FOUND, TEXT, "Not Found"),
        }
    }

    async fn model_route(
        &self,
        name: &str,
        version: Option<i64>,
        action: ModelAction,
        head: &Parts,
        body: &mut Incoming,
    ) -> Reply {
        match action {
            ModelAction::Infer => infer(self, name, version, &head.headers, body).await,
            ModelAction::Generate { streams } => {
                generate(self, name, version, streams, &head.headers, body).await
            }
            other => self.model(name, version, other).await,
        }
    }

    fn server_route(&self, route: &Route<'_>) -> Reply {
        let server = &self.server;
        match route {
            Route::Server => {
                let metadata = server.metadata();
                json_reply(server_metadata(&metadata.name, metadata.version, metadata.extensions))
            }
            Route::Live => health(server.is_live()),
            Route::Ready => health(server.is_ready()),
            Route::AllStatistics => self.statistics(None, None),
            Route::OpenApi => openapi(),
            // Answered before, since they need the body.
            Route::Model { .. }
            | Route::Repository(_)
            | Route::SharedMemory { .. }
            | Route::Logging
            | Route::Trace { .. } => status_reply(StatusCode::NOT_FOUND, TEXT, "Not Found"),
        }
    }

    async fn is_model_ready(
        &self,
        name: &str,
        version: Option<i64>,
    ) -> nereid_inference::Result<bool> {
        self.lifecycle.model(name, version).await?;
        self.server.is_model_ready(name, version).await
    }

    async fn model(&self, name: &str, version: Option<i64>, action: ModelAction) -> Reply {
        match action {
            ModelAction::Ready => match self.is_model_ready(name, version).await {
                Ok(ready) => health(ready),
                Err(error) => text_error(&error),
            },
            ModelAction::Metadata => match self.lifecycle.model(name, version).await {
                Ok(model) => {
                    let versions = self.server.ready_versions(name, version);
                    json_reply(model_metadata(&model.config, &versions))
                }
                Err(error) => json_error(&error),
            },
            ModelAction::Config => match self.lifecycle.model(name, version).await {
                Ok(model) => json_reply(nereid_model_config::to_json(&model.config).into_bytes()),
                Err(error) => json_error(&error),
            },
            ModelAction::Statistics => self.statistics(Some(name), version),
            // Answered before, since they need the body, or ask the model.
            ModelAction::Infer | ModelAction::Generate { .. } => {
                status_reply(StatusCode::NOT_FOUND, TEXT, "Not Found")
            }
        }
    }

    fn statistics(&self, name: Option<&str>, version: Option<i64>) -> Reply {
        match self.server.statistics(name, version) {
            Ok(models) => {
                let rows: Vec<StatisticsRow> = models.into_iter().map(statistics_row).collect();
                json_reply(statistics(&rows))
            }
            Err(error) => json_error(&error),
        }
    }
}

fn log_access(head: &Parts, reply: &Reply, began: Instant) {
    tracing::info!(
        target: ACCESS,
        method = head.method.as_str(),
        path = head.uri.path(),
        status = reply.status().as_u16(),
        bytes = reply.body().size_hint().exact(),
        us = began.elapsed().as_micros() as u64,
        "HTTP"
    );
}

pub(crate) fn denied(denial: &Denial) -> Reply {
    let no_key = *denial == Denial::NoKey;
    let status = if no_key { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
    let mut reply = status_reply(status, TEXT, &denial.message());
    if no_key {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}

pub(crate) fn health(good: bool) -> Reply {
    let status = if good { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    reply(status, TEXT, Bytes::new())
}

/// In the order of the wire.
fn response_row(response: &ResponseStatistics) -> [Duration; 6] {
    let ResponseStatistics { compute_infer, compute_output, .. } = *response;
    let ResponseStatistics { success, fail, empty_response, cancel, .. } = *response;
    [compute_infer, compute_output, success, fail, empty_response, cancel]
}

fn statistics_row(model: ModelStatistics) -> StatisticsRow {
    let row = |duration: Duration| (duration.count, duration.ns);
    let times = &model.inference;
    StatisticsRow {
        name: model.name,
        version: model.version,
        last_inference: model.last_inference_ms,
        inference_count: model.inference_count,
        execution_count: model.execution_count,
        inference_stats: [
            times.success,
            times.fail,
            times.queue,
            times.compute_input,
            times.compute_infer,
            times.compute_output,
            times.cache_hit,
            times.cache_miss,
        ]
        .map(row),
        batch_stats: model
            .batches
            .iter()
            .map(|batch| {
                let times = [batch.compute_input, batch.compute_infer, batch.compute_output];
                (batch.batch_size, times.map(row))
            })
            .collect(),
        response_stats: model
            .responses
            .iter()
            .map(|response| response_row(response).map(row))
            .collect(),
    }
}
