//! What a model asks of the server itself: to load, unload or look at models.

use std::sync::Arc;

use nereid_backend::ModelChange;
use nereid_inference::{Error, Parameter, Response, Result, Tensor};
use serde_json::Value;

use crate::extras;
use crate::link::Link;

/// Does what the model asks for, and answers as if it had called a model. Loading takes its time,
/// on a thread of its own; tensors are files that the model brings along.
pub(crate) fn start(
    link: &Arc<Link>,
    generation: u64,
    call: u64,
    asked: &Value,
    files: Result<Vec<Tensor>>,
) {
    let name = asked["model_name"].as_str().unwrap_or_default().to_owned();
    let change = match asked["do"].as_str() {
        Some("is_model_ready") => {
            let version = extras::version(&asked["model_version"]);
            let ready = version.map(|version| link.host.service.is_model_ready(&name, version));
            return link.answer_call(generation, call, ready.map(answer_ready), None);
        }
        Some("load_model") => files.map(|files| ModelChange::Load {
            name,
            config: asked["config"].as_str().filter(|text| !text.is_empty()).map(str::to_owned),
            files: files.into_iter().map(file).collect(),
        }),
        Some("unload_model") => Ok(ModelChange::Unload {
            name,
            dependents: asked["unload_dependents"].as_bool().unwrap_or_default(),
        }),
        _ => Err(Error::unsupported("the worker asks for something unknown")),
    };
    let link = link.clone();
    let reactor = link.host.reactor.clone();
    reactor.spawn_blocking(move || {
        let done = change.and_then(|change| link.host.service.change(change));
        link.answer_call(generation, call, done.map(|()| Response::default()), None);
    });
}

fn answer_ready(ready: bool) -> Response {
    let parameters = vec![("ready".to_owned(), Parameter::Bool(ready))];
    Response { parameters, ..Response::default() }
}

/// Triton marks files by `file:` in front of their path.
fn file(tensor: Tensor) -> (String, Vec<u8>) {
    let path = tensor.name.strip_prefix("file:").unwrap_or(&tensor.name).to_owned();
    (path, tensor.data.contiguous().to_vec())
}
