//! `GET /v2/openapi.json`: the HTTP API for programs that read descriptions of APIs.
//!
//! The paths are made from the table below, which a test holds against the routes; what bodies look
//! like is in `openapi/components.json`.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::reply::{JSON, Reply, reply};

const COMPONENTS: &str = include_str!("openapi/components.json");

/// One thing that a client can ask for.
struct Operation {
    method: &'static str,
    path: &'static str,
    /// As in `--http-restricted-api`.
    category: &'static str,
    summary: &'static str,
    /// The schema of the body; empty: there is none.
    body: &'static str,
    /// The schema of a good answer; empty: it has no body.
    answer: &'static str,
}

const fn get(
    path: &'static str,
    category: &'static str,
    summary: &'static str,
    answer: &'static str,
) -> Operation {
    Operation { method: "get", path, category, summary, body: "", answer }
}

const fn post(
    path: &'static str,
    category: &'static str,
    summary: &'static str,
    body: &'static str,
    answer: &'static str,
) -> Operation {
    Operation { method: "post", path, category, summary, body, answer }
}

/// In paths, `{model}/…` also stands for `{model}/versions/{version}/…` where the model's routes
/// take a version.
const OPERATIONS: &[Operation] = &[
    get("/v2", "metadata", "Name, version and extensions of the server", "ServerMetadata"),
    get("/v2/openapi.json", "metadata", "This document", "Anything"),
    get("/v2/health/live", "health", "Whether the server runs", ""),
    get("/v2/health/ready", "health", "Whether requests should be sent here", ""),
    get("/v2/models/{model}", "metadata", "Inputs and outputs of a model", "ModelMetadata"),
    get("/v2/models/{model}/ready", "health", "Whether a model answers requests", ""),
    get("/v2/models/{model}/config", "model-config", "A model's configuration", "ModelConfig"),
    get("/v2/models/{model}/stats", "statistics", "What a model did", "Statistics"),
    get("/v2/models/stats", "statistics", "What all models did", "Statistics"),
    post("/v2/models/{model}/infer", "inference", "Runs a model", "InferRequest", "InferResponse"),
    post(
        "/v2/models/{model}/generate",
        "inference",
        "Runs a model with plain JSON; exactly one response",
        "GenerateRequest",
        "GenerateResponse",
    ),
    post(
        "/v2/models/{model}/generate_stream",
        "inference",
        "Runs a model with plain JSON; its responses as server-sent events",
        "GenerateRequest",
        "EventStream",
    ),
    get("/v2/models/{model}/trace/setting", "trace", "What is traced of a model", "TraceSettings"),
    post(
        "/v2/models/{model}/trace/setting",
        "trace",
        "Changes what is traced of a model",
        "TraceChange",
        "TraceSettings",
    ),
    get("/v2/trace/setting", "trace", "What is traced", "TraceSettings"),
    post("/v2/trace/setting", "trace", "Changes what is traced", "TraceChange", "TraceSettings"),
    get("/v2/logging", "logging", "What is logged", "LogSettings"),
    post("/v2/logging", "logging", "Changes what is logged", "LogChange", "LogSettings"),
    post(
        "/v2/repository/index",
        "model-repository",
        "The models of the repository and their states",
        "IndexRequest",
        "Index",
    ),
    post(
        "/v2/repository/{repository}/index",
        "model-repository",
        "The same: the repository's name is not looked at",
        "IndexRequest",
        "Index",
    ),
    post(
        "/v2/repository/models/{model}/load",
        "model-repository",
        "Loads a model, or loads it anew",
        "LoadRequest",
        "",
    ),
    post(
        "/v2/repository/models/{model}/unload",
        "model-repository",
        "Takes a model out",
        "UnloadRequest",
        "",
    ),
    post(
        "/v2/repository/{repository}/models/{model}/load",
        "model-repository",
        "Refused: repositories have no names",
        "LoadRequest",
        "",
    ),
    post(
        "/v2/repository/{repository}/models/{model}/unload",
        "model-repository",
        "Refused: repositories have no names",
        "UnloadRequest",
        "",
    ),
    get("/v2/systemsharedmemory/status", "shared-memory", "All system regions", "Regions"),
    get(
        "/v2/systemsharedmemory/region/{region}/status",
        "shared-memory",
        "A system region",
        "Regions",
    ),
    post(
        "/v2/systemsharedmemory/region/{region}/register",
        "shared-memory",
        "Makes a system region known",
        "SystemRegion",
        "",
    ),
    post(
        "/v2/systemsharedmemory/unregister",
        "shared-memory",
        "Forgets all system regions",
        "",
        "",
    ),
    post(
        "/v2/systemsharedmemory/region/{region}/unregister",
        "shared-memory",
        "Forgets a system region",
        "",
        "",
    ),
    get("/v2/cudasharedmemory/status", "shared-memory", "All CUDA regions", "Regions"),
    get("/v2/cudasharedmemory/region/{region}/status", "shared-memory", "A CUDA region", "Regions"),
    post(
        "/v2/cudasharedmemory/region/{region}/register",
        "shared-memory",
        "Makes a CUDA region known",
        "CudaRegion",
        "",
    ),
    post("/v2/cudasharedmemory/unregister", "shared-memory", "Forgets all CUDA regions", "", ""),
    post(
        "/v2/cudasharedmemory/region/{region}/unregister",
        "shared-memory",
        "Forgets a CUDA region",
        "",
        "",
    ),
];

const MODEL: &str = "/v2/models/{model}";

pub(crate) fn openapi() -> Reply {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| document().to_string().into());
    reply(StatusCode::OK, JSON, document.clone())
}

fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        for path in operation.paths() {
            let methods = paths.entry(&*path).or_insert_with(|| json!({}));
            methods[operation.method] = operation.describe(&path);
        }
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Nereid",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "KServe's inference protocol, version 2, with Triton's extensions.",
        },
        "paths": paths,
        "components": serde_json::from_str::<Value>(COMPONENTS).unwrap_or_default(),
    })
}

impl Operation {
    /// The path, and the one with a version in it if there is one.
    fn paths(&self) -> Vec<String> {
        let rest = self.path.strip_prefix(MODEL).filter(|rest| !rest.starts_with("/trace"));
        let versioned = rest.map(|rest| format!("{MODEL}/versions/{{version}}{rest}"));
        [self.path.to_owned()].into_iter().chain(versioned).collect()
    }

    fn describe(&self, path: &str) -> Value {
        let parameters: Vec<Value> = placeholders(path).map(parameter).collect();
        let mut described = json!({
            "summary": self.summary,
            "tags": [self.category],
            "parameters": parameters,
            "responses": { "200": self.answer(), "default": error() },
        });
        if !self.body.is_empty() {
            let required = ["InferRequest", "GenerateRequest", "SystemRegion", "CudaRegion"];
            let required = required.contains(&self.body) || self.body.ends_with("Change");
            described["requestBody"] =
                json!({ "required": required, "content": content("application/json", self.body) });
        }
        if self.body == "InferRequest" {
            // JSON and behind it the tensors that it announces.
            described["parameters"].as_array_mut().into_iter().for_each(|parameters| {
                parameters.push(json!({
                    "name": "Inference-Header-Content-Length", "in": "header",
                    "schema": { "type": "integer", "minimum": 0 },
                    "description": "Bytes of JSON in front of binary tensors",
                }));
            });
            let binary = json!({ "schema": { "type": "string", "format": "binary" } });
            described["requestBody"]["content"]["application/octet-stream"] = binary;
        }
        described
    }

    fn answer(&self) -> Value {
        match self.answer {
            "" => json!({ "description": "Done" }),
            "EventStream" => json!({
                "description": "Events whose data are the responses",
                "content": { "text/event-stream": { "schema": { "type": "string" } } },
            }),
            schema => {
                let mut content = content("application/json", schema);
                if schema == "InferResponse" {
                    // With binary tensors behind the JSON.
                    content["application/octet-stream"] =
                        json!({ "schema": { "type": "string", "format": "binary" } });
                }
                json!({ "description": "Done", "content": content })
            }
        }
    }
}

fn placeholders(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(name: &str) -> Value {
    let schema = match name {
        "version" => json!({ "type": "string", "pattern": "^[0-9]+$" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn content(kind: &str, schema: &str) -> Value {
    json!({ kind: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}

/// Some errors are called text, as in Triton; health says nothing but its status.
fn error() -> Value {
    let mut content = content("application/json", "Error");
    content["text/plain"] = json!({ "schema": { "type": "string" } });
    json!({ "description": "What is wrong", "content": content })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hyper::Method;

    use super::*;
    use crate::routes::{Memory, ModelAction, RegionAction, RepositoryAction, Route, route};

    /// Every kind of route, by a number; the compiler sees to it that none is left out.
    fn kind(route: &Route<'_>) -> usize {
        match route {
            Route::Server => 0,
            Route::Live => 1,
            Route::Ready => 2,
            Route::AllStatistics => 3,
            Route::OpenApi => 4,
            Route::Logging => 5,
            Route::Trace { model: None } => 6,
            Route::Trace { model: Some(_) } => 7,
            Route::Repository(RepositoryAction::Index) => 8,
            Route::Repository(RepositoryAction::Load(_)) => 9,
            Route::Repository(RepositoryAction::Unload(_)) => 10,
            Route::Repository(RepositoryAction::Named) => 11,
            Route::Model { version, action, .. } => {
                let action = match action {
                    ModelAction::Metadata => 0,
                    ModelAction::Ready => 1,
                    ModelAction::Config => 2,
                    ModelAction::Statistics => 3,
                    ModelAction::Infer => 4,
                    ModelAction::Generate { streams: false } => 5,
                    ModelAction::Generate { streams: true } => 6,
                };
                12 + action + if version.is_some() { 7 } else { 0 }
            }
            Route::SharedMemory { memory, action, region } => {
                let action = match action {
                    RegionAction::Status => 0,
                    RegionAction::Unregister => 1,
                    RegionAction::Register => 2,
                };
                let memory = match memory {
                    Memory::System => 0,
                    Memory::Cuda => 6,
                };
                26 + memory + action + if region.is_some() { 3 } else { 0 }
            }
        }
    }

    const KINDS: usize = 38;
    /// Routes that exist only to be refused: registering a region without a name.
    const NOT_DESCRIBED: [usize; 2] = [28, 34];

    #[test]
    fn every_route_is_described_with_its_methods() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            let filled = path.replace("{version}", "7").replace(['{', '}'], "");
            let route = route(&filled).unwrap_or_else(|| panic!("{path} is no route"));
            described.insert(kind(&route));
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
                let name = method.as_str().to_lowercase();
                assert_eq!(methods.get(&name).is_some(), route.allows(&method), "{name} {path}");
            }
        }
        let all = (0..KINDS).filter(|kind| !NOT_DESCRIBED.contains(kind)).collect();
        assert_eq!(described, all);
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        fn named(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(name)) = members.get("$ref") {
                        found.insert(name.clone());
                    }
                    members.values().for_each(|value| named(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| named(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = BTreeSet::new();
        named(&document, &mut found);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let there = schemas.keys().map(|name| format!("#/components/schemas/{name}")).collect();
        assert_eq!(found, there);
    }
}
