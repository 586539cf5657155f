//! `/v2/logging`: what is logged, and changing it.

use hyper::Method;
use hyper::body::Incoming;
use nereid_protocol::{log_settings, parse_log_change};

use crate::app::App;
use crate::body::receive;
use crate::reply::{Reply, json_error, json_reply};

pub(crate) async fn logging(app: &App, method: &Method, body: &mut Incoming) -> Reply {
    if method == Method::POST {
        let body = match receive(body, 0, app).await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        match parse_log_change(&body) {
            Ok(change) => app.log.change(&change),
            Err(error) => return json_error(&error),
        }
    }
    json_reply(log_settings(&app.log.settings()))
}
