//! Traces: where the time of single requests went.
//!
//! A [`Tracer`] decides which requests are followed. What a trace has seen goes to files in Triton's
//! format or, as spans, to a collector that speaks OpenTelemetry's protocol. Stations on the way of
//! a request are noted anyway, for the statistics; a trace reads them when the request has ended.
#![forbid(unsafe_code)]

mod clock;
mod context;
mod file;
mod json;
mod messages;
mod otlp;
mod record;
mod settings;
mod span;
mod tracer;

pub use record::{Protocol, RequestTrace};
pub use settings::{Change, Level, Mode, OpenTelemetry, Settings, TraceConfig};
pub use tracer::{Tracer, View};
