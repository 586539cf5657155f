//! `/v2/trace/setting`, also of single models: what is traced, and changing it.

use hyper::Method;
use hyper::body::Incoming;
use nereid_protocol::{parse_trace_change, trace_settings_json};

use crate::app::App;
use crate::body::receive;
use crate::reply::{Reply, json_error, json_reply};

pub(crate) async fn trace(
    app: &App,
    method: &Method,
    model: Option<&str>,
    body: &mut Incoming,
) -> Reply {
    if let Some(Err(error)) = model.map(|model| app.server.model(model, None)) {
        return json_error(&error);
    }
    if method == Method::POST {
        let body = match receive(body, 0, app).await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let changed =
            parse_trace_change(&body).and_then(|change| app.tracer.change(model, &change));
        if let Err(error) = changed {
            return json_error(&error);
        }
    }
    json_reply(trace_settings_json(&app.tracer.view(model)))
}
