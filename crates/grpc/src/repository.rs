//! Model control: the index, and models loaded and unloaded on request.

use std::collections::BTreeMap;

use nereid_core::Override;
use nereid_inference::{Error, Result};

use crate::proto::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    model_repository_parameter::ParameterChoice,
};
use crate::{App, describe};

type Parameters = BTreeMap<String, ModelRepositoryParameter>;

pub(crate) async fn index(
    app: &App,
    request: RepositoryIndexRequest,
) -> Result<RepositoryIndexResponse> {
    refuse_name(&request.repository_name)?;
    let entries = app.lifecycle.aside(move |lifecycle| lifecycle.index(request.ready)).await?;
    let models = entries.into_iter().map(describe::index_entry).collect();
    Ok(RepositoryIndexResponse { models })
}

pub(crate) async fn load(app: &App, request: RepositoryModelLoadRequest) -> Result<()> {
    refuse_name(&request.repository_name)?;
    let with = read_override(request.parameters)?;
    app.lifecycle.aside(move |lifecycle| lifecycle.load(&request.model_name, with)).await
}

pub(crate) async fn unload(app: &App, request: RepositoryModelUnloadRequest) -> Result<()> {
    refuse_name(&request.repository_name)?;
    let wish = request.parameters.get("unload_dependents");
    let dependents = match wish.and_then(|wish| wish.parameter_choice.as_ref()) {
        None => false,
        Some(ParameterChoice::BoolParam(dependents)) => *dependents,
        Some(_) => return Err(wrong_type("unload_dependents", "bool_param")),
    };
    app.lifecycle.aside(move |lifecycle| lifecycle.unload(&request.model_name, dependents)).await
}

fn refuse_name(repository: &str) -> Result<()> {
    if repository.is_empty() {
        return Ok(());
    }
    Err(Error::unsupported("'repository_name' specification is not supported"))
}

fn read_override(parameters: Parameters) -> Result<Override> {
    let mut with = Override::default();
    for (key, parameter) in parameters {
        match (key.as_str(), key.strip_prefix("file:"), parameter.parameter_choice) {
            ("config", _, Some(ParameterChoice::StringParam(config))) => {
                with.config = Some(config);
            }
            ("config", ..) => return Err(wrong_type("config", "string_param")),
            (_, Some(path), Some(ParameterChoice::BytesParam(contents))) => {
                with.files.push((path.to_owned(), contents.into()));
            }
            (_, Some(_), _) => return Err(wrong_type(&key, "bytes_param")),
            _ => {
                return Err(Error::invalid_arg(format!("unrecognized load parameter '{key}'")));
            }
        }
    }
    Ok(with)
}

fn wrong_type(key: &str, expected: &str) -> Error {
    Error::invalid_arg(format!("invalid value type for '{key}' parameter, expected {expected}."))
}
