//! What is traced, and changing it.

use std::sync::Arc;
use std::time::Instant;

use hyper::header::HeaderMap;
use nereid_inference::Result;
use nereid_protocol::{TraceSettings, trace_change, trace_settings};
use nereid_trace::{Protocol, RequestTrace};

use crate::proto::trace_setting_response::SettingValue;
use crate::proto::{TraceSettingRequest, TraceSettingResponse};
use crate::service::App;

pub(crate) fn settings(app: &App, request: TraceSettingRequest) -> Result<TraceSettingResponse> {
    let TraceSettingRequest { settings, model_name } = request;
    let model = (!model_name.is_empty()).then_some(model_name.as_str());
    if let Some(model) = model {
        app.server.model(model, None)?;
    }
    if !settings.is_empty() {
        let asked: TraceSettings = settings
            .into_iter()
            // A setting without values goes back to its default.
            .map(|(name, setting)| (name, Some(setting.value).filter(|value| !value.is_empty())))
            .collect();
        app.tracer.change(model, &trace_change(&asked, "got: ")?)?;
    }
    let shown = trace_settings(&app.tracer.view(model));
    let settings = shown.into_iter().map(|(name, value)| (name.to_owned(), SettingValue { value }));
    Ok(TraceSettingResponse { settings: settings.collect() })
}

/// When a call began to come, if that is noted, and the trace that it belongs to already.
pub(crate) struct Beginning {
    at: Option<Instant>,
    parent: Option<String>,
}

impl Beginning {
    pub(crate) fn of(app: &App, metadata: &HeaderMap) -> Self {
        let at = app.tracer.began();
        Self { at, parent: at.and_then(|_| parent(metadata).map(str::to_owned)) }
    }

    pub(crate) fn trace(&self, app: &App, model: &str) -> Option<Arc<RequestTrace>> {
        app.tracer.start(self.at, Protocol::Grpc, model, self.parent.as_deref())
    }
}

/// The trace that a call belongs to already.
pub(crate) fn parent(metadata: &HeaderMap) -> Option<&str> {
    metadata.get("traceparent")?.to_str().ok()
}
