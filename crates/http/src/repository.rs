//! `POST /v2/repository/…`: the index, and models loaded and unloaded on request.

use hyper::body::Incoming;
use nereid_core::{IndexEntry, Override};
use nereid_inference::{Error, Result};
use nereid_protocol::{
    IndexRow, parse_index_request, parse_load_request, parse_unload_request, repository_index,
};

use crate::app::App;
use crate::body::receive;
use crate::reply::{Reply, done_reply, json_error, json_reply};
use crate::routes::RepositoryAction;

pub(crate) async fn repository(
    app: &App,
    action: RepositoryAction<'_>,
    body: &mut Incoming,
) -> Reply {
    let body = match receive(body, 0, app).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let done = match action {
        RepositoryAction::Index => return index(app, &body).await,
        RepositoryAction::Load(model) => load(app, model.to_owned(), &body).await,
        RepositoryAction::Unload(model) => unload(app, model.to_owned(), &body).await,
        RepositoryAction::Named => {
            Err(Error::unsupported("'repository_name' specification is not supported"))
        }
    };
    done_reply(done)
}

async fn index(app: &App, body: &[u8]) -> Reply {
    let entries = match parse_index_request(body) {
        Ok(ready) => app.lifecycle.aside(move |lifecycle| lifecycle.index(ready)).await,
        Err(error) => Err(error),
    };
    match entries {
        Ok(entries) => json_reply(repository_index(&entries.iter().map(row).collect::<Vec<_>>())),
        Err(error) => json_error(&error),
    }
}

fn row(entry: &IndexEntry) -> IndexRow<'_> {
    let IndexEntry { name, version, state, reason } = entry;
    IndexRow { name, version: *version, state, reason }
}

async fn load(app: &App, model: String, body: &[u8]) -> Result<()> {
    let parameters = parse_load_request(body)?;
    let with = Override { config: parameters.config, files: parameters.files };
    app.lifecycle.aside(move |lifecycle| lifecycle.load(&model, with)).await
}

async fn unload(app: &App, model: String, body: &[u8]) -> Result<()> {
    let dependents = parse_unload_request(body)?;
    app.lifecycle.aside(move |lifecycle| lifecycle.unload(&model, dependents)).await
}
