//! Google's Vertex AI: one path to ask a model, and by a header to ask for much else; one for health.

use std::sync::{Arc, OnceLock};

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use nereid_core::Server;
use nereid_frontend::{Category, Peer, Wish};
use nereid_inference::Error;

use super::binary_mime::BinaryMime;
use super::{bare, model_route, wrong_method};
use crate::app::{App, denied, health};
use crate::metrics::metrics_page;
use crate::reply::{Reply, text_error};
use crate::routes::{ModelAction, RegionAction, RepositoryAction, Route, route};

const MIME: BinaryMime =
    BinaryMime("application/vnd.vertex-ai-triton.binary+json;json-header-size=");

/// What is wanted instead of inference: a path without the slash in front.
const REDIRECT: &str = "x-vertex-ai-triton-redirect";

pub struct VertexAi {
    predict: String,
    health: String,
    /// Known once the models have been loaded.
    model: Arc<OnceLock<String>>,
}

/// Says which model is asked, once that can be known.
pub struct DefaultModel {
    named: Option<String>,
    model: Arc<OnceLock<String>>,
}

impl VertexAi {
    /// `variable`: the environment, which is where Vertex AI says what it wants.
    pub fn new(
        variable: impl Fn(&str) -> Option<String>,
        named: Option<String>,
    ) -> Result<(Self, DefaultModel), String> {
        let wanted = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("{name} is not defined for Vertex AI endpoint"))
        };
        let (predict, health) = (wanted("AIP_PREDICT_ROUTE")?, wanted("AIP_HEALTH_ROUTE")?);
        let model = Arc::new(OnceLock::new());
        Ok((Self { predict, health, model: model.clone() }, DefaultModel { named, model }))
    }

    pub(super) async fn answer(
        &self,
        app: &App,
        peer: Peer,
        head: &mut Parts,
        body: &mut Incoming,
    ) -> Reply {
        let path = head.uri.path();
        if path == self.health {
            let wish = Wish::to_see(Category::Health);
            return match app.access.check(wish, peer.address, &head.headers) {
                Err(denial) => denied(&denial),
                Ok(()) if head.method != Method::GET => wrong_method(),
                Ok(()) => health(app.server.is_ready()),
            };
        }
        if path != self.predict {
            return bare(StatusCode::BAD_REQUEST);
        }
        let redirect = head.headers.get(REDIRECT).map(|value| value.to_str().unwrap_or("?"));
        let redirect = redirect.filter(|to| !to.is_empty()).map(|to| format!("/{to}"));
        if head.method != Method::POST {
            return match redirect {
                Some(_) => bare(StatusCode::METHOD_NOT_ALLOWED),
                None => wrong_method(),
            };
        }
        if redirect.as_deref() == Some("/metrics") {
            return metrics(app, peer, head);
        }
        let route = match &redirect {
            Some(path) => route(path).filter(is_open),
            None => match self.model.get() {
                Some(model) => Some(model_route(model, ModelAction::Infer)),
                None => return text_error(&Error::unavailable("Server not ready")),
            },
        };
        let Some(route) = route else { return bare(StatusCode::BAD_REQUEST) };
        if let Err(denial) = app.access.check(route.wish(), peer.address, &head.headers) {
            return denied(&denial);
        }
        if let Err(error) = MIME.translate_request(&mut head.headers) {
            return text_error(&error);
        }
        MIME.translate_reply(app.follow(route, head, body).await)
    }
}

impl DefaultModel {
    /// Decides it, now that the models have been loaded.
    pub fn decide(&self, server: &Server) -> Result<(), String> {
        let model = match &self.named {
            Some(name) if server.model(name, None).is_ok() => name.clone(),
            Some(name) => return Err(format!("Expect the default model '{name}' is loaded")),
            None => {
                let catalog = server.catalog();
                let mut ready = catalog.models.iter().filter(|(_, model)| model.is_ready());
                match (ready.next(), ready.next()) {
                    (Some((name, _)), None) => name.clone(),
                    _ => {
                        return Err("Expect the model repository contains only a single model if \
                                    default model is not specified"
                            .to_owned());
                    }
                }
            }
        };
        // It is decided once.
        let _ = self.model.set(model);
        Ok(())
    }
}

/// What changes nothing but the answer.
fn is_open(route: &Route<'_>) -> bool {
    match route {
        Route::Server | Route::Live | Route::Ready | Route::AllStatistics => true,
        Route::Model { action, .. } => !matches!(action, ModelAction::Generate { .. }),
        Route::Repository(action) => *action == RepositoryAction::Index,
        Route::SharedMemory { action, .. } => *action == RegionAction::Status,
        Route::OpenApi | Route::Logging | Route::Trace { .. } => false,
    }
}

fn metrics(app: &App, peer: Peer, head: &Parts) -> Reply {
    let Some(registry) = &app.metrics else { return bare(StatusCode::BAD_REQUEST) };
    let wish = Wish::to_see(Category::Statistics);
    match app.access.check(wish, peer.address, &head.headers) {
        Ok(()) => metrics_page(registry),
        Err(denial) => denied(&denial),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_change_nothing() {
        for open in [
            "/v2",
            "/v2/health/live",
            "/v2/models/stats",
            "/v2/models/m",
            "/v2/models/m/versions/1/infer",
            "/v2/repository/index",
            "/v2/systemsharedmemory/status",
        ] {
            assert!(route(open).is_some_and(|route| is_open(&route)), "{open}");
        }
        for closed in [
            "/v2/models/m/generate",
            "/v2/repository/models/m/load",
            "/v2/repository/models/m/unload",
            "/v2/systemsharedmemory/region/r/register",
            "/v2/cudasharedmemory/unregister",
            "/v2/logging",
            "/v2/models/m/trace/setting",
        ] {
            assert!(route(closed).is_some_and(|route| !is_open(&route)), "{closed}");
        }
    }

    #[test]
    fn both_paths_must_be_known() {
        let one = |name: &str| (name == "AIP_PREDICT_ROUTE").then(|| "/p".to_owned());
        let error = VertexAi::new(one, None).err().unwrap();
        assert_eq!(error, "AIP_HEALTH_ROUTE is not defined for Vertex AI endpoint");
    }
}
