//! Amazon SageMaker: one model behind `/ping` and `/invocations`, and several that come and go behind
//! `/models`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use nereid_core::{Lifecycle, Override};
use nereid_frontend::{Access, Category, Peer, Wish};
use nereid_inference::{Code, Error, Result};
use serde_json::{Value, json};

use super::binary_mime::BinaryMime;
use super::{bare, model_route, wrong_method};
use crate::app::{App, denied, health};
use crate::body::receive;
use crate::header_length::HEADER;
use crate::reply::{Content, Reply, TEXT, reply, text_error};
use crate::routes::ModelAction;

const MIME: BinaryMime =
    BinaryMime("application/vnd.sagemaker-triton.binary+json;json-header-size=");

/// What errors say when memory or disk is short, by which SageMaker knows to make room.
const SHORT_OF_MEMORY: [&str; 9] = [
    "out of memory",
    "Out of memory",
    "Out Of Memory",
    "OutOfMemory",
    "CUDA_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Failed to allocate",
    "failed to allocate",
    "No space left on device",
];

pub struct SageMaker {
    /// The model of `/invocations`, and how it is asked.
    model: String,
    action: ModelAction,
    /// `/ping` asks whether the server is ready, not just whether it runs.
    ping_ready: bool,
    /// Where the models of `/models` lie.
    folder: PathBuf,
    /// Loading and unloading is part of this service: whoever may use it at all may do that.
    access: Access,
    /// Names and folders of the models of `/models`.
    models: Arc<Mutex<BTreeMap<String, PathBuf>>>,
}

impl SageMaker {
    /// `variable`: the environment, which is where SageMaker says what it wants.
    pub fn new(
        variable: impl Fn(&str) -> Option<String>,
        folder: PathBuf,
        access: Access,
    ) -> Result<Self, String> {
        let unspecified = "unspecified_SAGEMAKER_TRITON_DEFAULT_MODEL_NAME";
        let model = variable("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME");
        let choice = |name: &str, default: &str, known: &[&str]| {
            let value = variable(name).unwrap_or_else(|| default.to_owned());
            match known.contains(&value.as_str()) {
                true => Ok(value),
                false => Err(format!("{name} is '{value}', expecting {}", known.join(" or "))),
            }
        };
        let kinds = ["infer", "generate", "generate_stream"];
        let action = match choice("SAGEMAKER_TRITON_INFERENCE_TYPE", "infer", &kinds)?.as_str() {
            "generate" => ModelAction::Generate { streams: false },
            "generate_stream" => ModelAction::Generate { streams: true },
            _ => ModelAction::Infer,
        };
        let ping = choice("SAGEMAKER_TRITON_PING_MODE", "ready", &["ready", "live"])?;
        Ok(Self {
            model: model.unwrap_or_else(|| unspecified.to_owned()),
            action,
            ping_ready: ping == "ready",
            folder,
            access: access.with_remote_control(),
            models: Arc::default(),
        })
    }

    pub(super) async fn answer(
        &self,
        app: &App,
        peer: Peer,
        head: &mut Parts,
        body: &mut Incoming,
    ) -> Reply {
        let path = head.uri.path().to_owned();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (category, control) = match (parts.as_slice(), &head.method) {
            (["ping"], _) => (Category::Health, false),
            (["invocations"] | ["models", _, "invoke"], _) => (Category::Inference, false),
            (["models", ..], &Method::POST | &Method::DELETE) => (Category::ModelRepository, true),
            _ => (Category::ModelRepository, false),
        };
        if let Err(denial) =
            self.access.check(Wish { category, control }, peer.address, &head.headers)
        {
            return denied(&denial);
        }
        match (&head.method, parts.as_slice()) {
            (&Method::GET, ["ping"]) if self.ping_ready => health(app.server.is_ready()),
            (&Method::GET, ["ping"]) => health(app.server.is_live()),
            (&Method::POST, ["invocations"]) => {
                self.infer(app, &self.model, self.action, head, body).await
            }
            (_, ["ping" | "invocations"]) => wrong_method(),
            (&Method::GET, ["models"] | ["models", ""]) => self.list(),
            (&Method::GET, ["models", name] | ["models", name, "invoke"]) => self.describe(name),
            (&Method::POST, ["models"] | ["models", ""]) => self.load(app, body).await,
            (&Method::POST, ["models", name, "invoke"]) if self.has(name) => {
                self.infer(app, name, ModelAction::Infer, head, body).await
            }
            (&Method::POST, ["models", _, "invoke"]) => bare(StatusCode::NOT_FOUND),
            (&Method::DELETE, ["models", name]) => self.unload(app, name).await,
            _ => bare(StatusCode::BAD_REQUEST),
        }
    }

    async fn infer(
        &self,
        app: &App,
        model: &str,
        action: ModelAction,
        head: &mut Parts,
        body: &mut Incoming,
    ) -> Reply {
        if let Err(error) = MIME.translate_request(&mut head.headers) {
            return text_error(&error);
        }
        let mut reply =
            MIME.translate_reply(app.follow(model_route(model, action), head, body).await);
        reply.headers_mut().remove(HEADER);
        if reply.status().is_success() || !is_short(&text(&reply)) {
            return reply;
        }
        *reply.status_mut() = StatusCode::INSUFFICIENT_STORAGE;
        reply
    }

    async fn load(&self, app: &App, body: &mut Incoming) -> Reply {
        let body = match receive(body, 0, app).await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let (name, folder) = match wanted(&body).and_then(|(name, url)| {
            let folder = PathBuf::from(url);
            self.is_inside(&folder).then_some((name, folder)).ok_or_else(|| {
                let root = self.folder.display();
                Error::invalid_arg(format!("the url must have the form {root}/<hash>/model"))
            })
        }) {
            Ok(wanted) => wanted,
            Err(error) => return text_error(&error),
        };
        let models = self.models.clone();
        let loaded = app.lifecycle.aside(move |lifecycle| {
            load(lifecycle, &folder, &name)?;
            lock(&models).insert(name, folder);
            Ok(())
        });
        match loaded.await {
            Ok(()) => bare(StatusCode::OK),
            Err(error) => {
                let mut reply = text_error(&error);
                *reply.status_mut() = match error.code() {
                    Code::AlreadyExists => StatusCode::CONFLICT,
                    _ if is_short(error.message()) => StatusCode::INSUFFICIENT_STORAGE,
                    _ => StatusCode::BAD_REQUEST,
                };
                reply
            }
        }
    }

    async fn unload(&self, app: &App, name: &str) -> Reply {
        let Some(folder) = lock(&self.models).remove(name) else {
            return bare(StatusCode::NOT_FOUND);
        };
        let name = name.to_owned();
        let unloaded = app.lifecycle.aside(move |lifecycle| {
            lifecycle.unload(&name, true)?;
            lifecycle.unregister(&folder)
        });
        match unloaded.await {
            Ok(()) => bare(StatusCode::OK),
            Err(error) => text_error(&error),
        }
    }

    fn list(&self) -> Reply {
        let models: Vec<Value> =
            lock(&self.models).iter().map(|(name, folder)| described(name, folder)).collect();
        reply(StatusCode::OK, TEXT, json!({ "models": models }).to_string().into())
    }

    fn describe(&self, name: &str) -> Reply {
        match lock(&self.models).get_key_value(name) {
            Some((name, folder)) => {
                reply(StatusCode::OK, TEXT, described(name, folder).to_string().into())
            }
            None => bare(StatusCode::NOT_FOUND),
        }
    }

    fn has(&self, name: &str) -> bool {
        lock(&self.models).contains_key(name)
    }

    /// Whether this is `<folder>/<hash>/model`, or one folder below that.
    fn is_inside(&self, path: &Path) -> bool {
        let Ok(rest) = path.strip_prefix(&self.folder) else { return false };
        let plain = |part: Component<'_>| match part {
            Component::Normal(part) => {
                part.to_str().filter(|part| is_plain(part)).map(str::to_owned)
            }
            _ => None,
        };
        let Some(parts) = rest.components().map(plain).collect::<Option<Vec<_>>>() else {
            return false;
        };
        matches!(parts.len(), 2 | 3) && parts[1] == "model"
    }
}

fn is_plain(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_')
}

/// Makes the folder known and loads its model; both or neither.
fn load(lifecycle: &Lifecycle, folder: &Path, name: &str) -> Result<()> {
    lifecycle.register(folder, name)?;
    let loaded = lifecycle.load(name, Override::default());
    if loaded.is_err() {
        lifecycle.unregister(folder)?;
    }
    loaded
}

/// Name and place of the model that is to be loaded.
fn wanted(body: &[u8]) -> Result<(String, String)> {
    let request: Value = serde_json::from_slice(body)
        .map_err(|error| Error::invalid_arg(format!("failed to parse the request: {error}")))?;
    let text = |key: &str| {
        let value = request.get(key).and_then(Value::as_str).map(str::to_owned);
        value.ok_or_else(|| Error::invalid_arg(format!("expecting a string '{key}'")))
    };
    Ok((text("model_name")?, text("url")?))
}

fn described(name: &str, folder: &Path) -> Value {
    json!({ "modelName": name, "modelUrl": folder.display().to_string() })
}

fn is_short(message: &str) -> bool {
    SHORT_OF_MEMORY.iter().any(|words| message.contains(words))
}

/// The text of an error.
fn text(reply: &Reply) -> String {
    let is_text = reply.headers().get(CONTENT_TYPE).is_some();
    match reply.body() {
        Content::Pieces(pieces) if is_text => {
            pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect()
        }
        _ => String::new(),
    }
}

fn lock(models: &Mutex<BTreeMap<String, PathBuf>>) -> MutexGuard<'_, BTreeMap<String, PathBuf>> {
    models.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(variables: &[(&str, &str)]) -> Result<SageMaker, String> {
        let variable = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        };
        SageMaker::new(variable, "/opt/ml/models".into(), Access::default())
    }

    #[test]
    fn only_models_of_sagemaker_can_be_loaded() {
        let service = service(&[]).unwrap();
        for good in
            ["/opt/ml/models/a1/model", "/opt/ml/models/a1/model/sub", "/opt/ml/models/a/model/"]
        {
            assert!(service.is_inside(Path::new(good)), "{good}");
        }
        for bad in [
            "",
            "/",
            "/opt/ml/models",
            "/opt/ml/models/a1",
            "/opt/ml/models/a1/other",
            "/opt/ml/models/../model",
            "/opt/ml/models/a1/model/sub/more",
            "/opt/ml/models/a b/model",
            "/proc/self/model",
            "opt/ml/models/a1/model",
        ] {
            assert!(!service.is_inside(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn the_environment_says_what_is_wanted() {
        let chosen = service(&[
            ("SAGEMAKER_TRITON_INFERENCE_TYPE", "generate_stream"),
            ("SAGEMAKER_TRITON_PING_MODE", "live"),
            ("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", "m"),
        ])
        .unwrap();
        assert_eq!(chosen.action, ModelAction::Generate { streams: true });
        assert!(!chosen.ping_ready && chosen.model == "m");
        let error = service(&[("SAGEMAKER_TRITON_PING_MODE", "asleep")]).err().unwrap();
        assert_eq!(error, "SAGEMAKER_TRITON_PING_MODE is 'asleep', expecting ready or live");
    }

    #[test]
    fn a_load_names_a_model_and_its_place() {
        let both = wanted(br#"{"model_name":"m","url":"/u"}"#);
        assert_eq!(both, Ok(("m".to_owned(), "/u".to_owned())));
        for (body, message) in [
            ("nonsense", "failed to parse the request"),
            ("{}", "expecting a string 'model_name'"),
            (r#"{"model_name":7}"#, "expecting a string 'model_name'"),
            (r#"{"model_name":"m"}"#, "expecting a string 'url'"),
        ] {
            let error = wanted(body.as_bytes()).unwrap_err();
            assert!(error.message().starts_with(message), "{error}");
        }
    }
}
