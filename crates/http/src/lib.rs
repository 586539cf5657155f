//! The HTTP/REST frontend: routes, bodies, connections. Formats are `nereid-protocol`'s, models
//! are `nereid-core`'s.
#![forbid(unsafe_code)]

mod app;
mod aside;
mod body;
mod cloud;
mod compression;
mod connections;
mod generate;
mod header_length;
mod infer;
mod logging;
mod metrics;
mod openapi;
mod page;
mod reply;
mod repository;
mod routes;
mod shared_memory;
mod trace;

pub use app::{App, Limits};
pub use cloud::{Cloud, DefaultModel, SageMaker, Service, VertexAi};
pub use connections::serve;
pub use metrics::serve_metrics;
