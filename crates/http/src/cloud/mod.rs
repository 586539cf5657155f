//! What cloud vendors expect of a model server: other paths to the same answers, on ports of their
//! own. Paths and answers are those of Triton.

mod binary_mime;
mod sagemaker;
mod vertex_ai;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use nereid_frontend::Peer;

use crate::app::App;
use crate::reply::{Reply, TEXT, reply, status_reply};
use crate::routes::{ModelAction, Route};

pub use sagemaker::SageMaker;
pub use vertex_ai::{DefaultModel, VertexAi};

/// What a port serves.
pub enum Service {
    /// The API itself.
    Api,
    Cloud(Cloud),
}

/// Vendors.
pub enum Cloud {
    SageMaker(SageMaker),
    VertexAi(VertexAi),
}

impl Cloud {
    pub(crate) async fn answer(
        &self,
        app: &App,
        peer: Peer,
        head: &mut Parts,
        body: &mut Incoming,
    ) -> Reply {
        match self {
            Self::SageMaker(service) => service.answer(app, peer, head, body).await,
            Self::VertexAi(service) => service.answer(app, peer, head, body).await,
        }
    }
}

/// A status and nothing else.
fn bare(status: StatusCode) -> Reply {
    reply(status, TEXT, Bytes::new())
}

fn wrong_method() -> Reply {
    status_reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed")
}

/// A request to the newest version of a model.
fn model_route(name: &str, action: ModelAction) -> Route<'_> {
    Route::Model { name, version: None, action }
}
