//! Paths of the protocol.

use hyper::Method;
use nereid_frontend::{Category, Wish};

use crate::reply::{JSON, TEXT};

#[derive(Debug, PartialEq)]
pub(crate) enum Route<'a> {
    Server,
    Live,
    Ready,
    AllStatistics,
    OpenApi,
    Model {
        name: &'a str,
        version: Option<&'a str>,
        action: ModelAction,
    },
    Repository(RepositoryAction<'a>),
    Logging,
    /// Of one model, or of all.
    Trace {
        model: Option<&'a str>,
    },
    SharedMemory {
        memory: Memory,
        action: RegionAction,
        region: Option<&'a str>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ModelAction {
    Metadata,
    Ready,
    Config,
    Statistics,
    Infer,
    Generate { streams: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Memory {
    System,
    Cuda,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RegionAction {
    Status,
    Register,
    Unregister,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RepositoryAction<'a> {
    Index,
    Load(&'a str),
    Unload(&'a str),
    /// Loading and unloading in a repository that is named in the path, which Triton refuses.
    Named,
}

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const BOTH: &[Method] = &[Method::GET, Method::POST];

impl Route<'_> {
    pub(crate) fn allows(&self, method: &Method) -> bool {
        let methods = match self {
            Route::Repository(_)
            | Route::Model { action: ModelAction::Infer | ModelAction::Generate { .. }, .. } => {
                POST
            }
            Route::Logging | Route::Trace { .. } => BOTH,
            Route::SharedMemory { action: RegionAction::Status, .. } => GET,
            Route::SharedMemory { .. } => POST,
            _ => GET,
        };
        methods.contains(method)
    }

    /// What it takes to be let in.
    pub(crate) fn wish(&self) -> Wish {
        match self {
            Route::Live | Route::Ready => Wish::to_see(Category::Health),
            Route::Server | Route::OpenApi => Wish::to_see(Category::Metadata),
            Route::AllStatistics => Wish::to_see(Category::Statistics),
            Route::Model { action, .. } => Wish::to_see(match action {
                ModelAction::Metadata => Category::Metadata,
                ModelAction::Ready => Category::Health,
                ModelAction::Config => Category::ModelConfig,
                ModelAction::Statistics => Category::Statistics,
                ModelAction::Infer | ModelAction::Generate { .. } => Category::Inference,
            }),
            Route::Repository(RepositoryAction::Index) => Wish::to_see(Category::ModelRepository),
            Route::Repository(_) => Wish::to_change(Category::ModelRepository),
            Route::SharedMemory { action: RegionAction::Status, .. } => {
                Wish::to_see(Category::SharedMemory)
            }
            Route::SharedMemory { .. } => Wish::to_change(Category::SharedMemory),
            Route::Logging => Wish::to_change(Category::Logging),
            Route::Trace { .. } => Wish::to_change(Category::Trace),
        }
    }

    /// Content type of an error before the handler has begun: Triton's handlers of JSON announce
    /// it first of all, the others never do.
    pub(crate) fn error_type(&self) -> &'static str {
        match self {
            Route::Live
            | Route::Ready
            | Route::Model { action: ModelAction::Infer | ModelAction::Ready, .. } => TEXT,
            _ => JSON,
        }
    }
}

/// Names are taken as they stand in the path: Triton does not decode `%` sequences.
pub(crate) fn route(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix("/v2")?;
    if rest.is_empty() {
        return Some(Route::Server);
    }
    let parts: Vec<&str> = rest.strip_prefix('/')?.split('/').collect();
    match parts.as_slice() {
        ["health", "live"] => Some(Route::Live),
        ["health", "ready"] => Some(Route::Ready),
        ["models", "stats"] => Some(Route::AllStatistics),
        ["models", name, rest @ ..] if !name.is_empty() => model(name, rest),
        ["repository", rest @ ..] => repository(rest),
        ["systemsharedmemory", rest @ ..] => shared_memory(Memory::System, rest),
        ["cudasharedmemory", rest @ ..] => shared_memory(Memory::Cuda, rest),
        ["trace", "setting"] => Some(Route::Trace { model: None }),
        ["logging"] => Some(Route::Logging),
        ["openapi.json"] => Some(Route::OpenApi),
        _ => None,
    }
}

fn model<'a>(name: &'a str, rest: &[&'a str]) -> Option<Route<'a>> {
    let (version, rest) = match rest {
        ["versions", version, rest @ ..] => {
            let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
            digits.then_some((Some(*version), rest))?
        }
        rest => (None, rest),
    };
    let action = match rest {
        [] => ModelAction::Metadata,
        ["ready"] => ModelAction::Ready,
        ["config"] => ModelAction::Config,
        ["stats"] => ModelAction::Statistics,
        ["infer"] => ModelAction::Infer,
        ["generate"] => ModelAction::Generate { streams: false },
        ["generate_stream"] => ModelAction::Generate { streams: true },
        ["trace", "setting"] if version.is_none() => {
            return Some(Route::Trace { model: Some(name) });
        }
        _ => return None,
    };
    Some(Route::Model { name, version, action })
}

/// The name of a repository may stand in front.
fn repository<'a>(rest: &[&'a str]) -> Option<Route<'a>> {
    let action = match rest {
        ["index"] => RepositoryAction::Index,
        [name, "index"] if !name.is_empty() => RepositoryAction::Index,
        ["models", model, "load"] if !model.is_empty() => RepositoryAction::Load(model),
        ["models", model, "unload"] if !model.is_empty() => RepositoryAction::Unload(model),
        [name, "models", model, "load" | "unload"] if !name.is_empty() && !model.is_empty() => {
            RepositoryAction::Named
        }
        _ => return None,
    };
    Some(Route::Repository(action))
}

fn shared_memory<'a>(memory: Memory, rest: &[&'a str]) -> Option<Route<'a>> {
    let (region, action) = match rest {
        [action] => (None, *action),
        ["region", name, action] if !name.is_empty() => (Some(*name), *action),
        _ => return None,
    };
    let action = match action {
        "status" => RegionAction::Status,
        "register" => RegionAction::Register,
        "unregister" => RegionAction::Unregister,
        _ => return None,
    };
    Some(Route::SharedMemory { memory, action, region })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models() {
        assert_eq!(route("/v2"), Some(Route::Server));
        assert_eq!(route("/v2/models/stats"), Some(Route::AllStatistics));
        let infer = |version| Route::Model { name: "a%20b", version, action: ModelAction::Infer };
        assert_eq!(route("/v2/models/a%20b/infer"), Some(infer(None)));
        assert_eq!(route("/v2/models/a%20b/versions/12/infer"), Some(infer(Some("12"))));
        for (path, action) in [
            ("/v2/models/m", ModelAction::Metadata),
            ("/v2/models/m/ready", ModelAction::Ready),
            ("/v2/models/m/config", ModelAction::Config),
            ("/v2/models/m/stats", ModelAction::Statistics),
        ] {
            assert_eq!(route(path), Some(Route::Model { name: "m", version: None, action }));
        }
        for (path, streams) in [("generate", false), ("generate_stream", true)] {
            let path = format!("/v2/models/m/versions/1/{path}");
            let action = ModelAction::Generate { streams };
            let route = route(&path).unwrap();
            assert_eq!(route, Route::Model { name: "m", version: Some("1"), action });
            assert!(route.allows(&Method::POST) && !route.allows(&Method::GET), "{path}");
        }
        let stats = Route::Model { name: "stats", version: None, action: ModelAction::Infer };
        assert_eq!(route("/v2/models/stats/infer"), Some(stats));
    }

    #[test]
    fn repositories() {
        for (path, action) in [
            ("/v2/repository/index", RepositoryAction::Index),
            ("/v2/repository/r/index", RepositoryAction::Index),
            ("/v2/repository/models/m/load", RepositoryAction::Load("m")),
            ("/v2/repository/models/m/unload", RepositoryAction::Unload("m")),
            ("/v2/repository/r/models/m/unload", RepositoryAction::Named),
        ] {
            let route = route(path).unwrap();
            assert_eq!(route, Route::Repository(action), "{path}");
            assert!(route.allows(&Method::POST) && !route.allows(&Method::GET), "{path}");
        }
    }

    #[test]
    fn shared_memory() {
        for (memory, kind) in [(Memory::System, "system"), (Memory::Cuda, "cuda")] {
            for (path, action, region) in [
                ("status", RegionAction::Status, None),
                ("region/r/status", RegionAction::Status, Some("r")),
                ("region/r/register", RegionAction::Register, Some("r")),
                ("unregister", RegionAction::Unregister, None),
            ] {
                let path = format!("/v2/{kind}sharedmemory/{path}");
                let route = route(&path).unwrap();
                assert_eq!(route, Route::SharedMemory { memory, action, region });
                assert_eq!(route.allows(&Method::GET), action == RegionAction::Status);
            }
        }
    }

    #[test]
    fn settings_are_read_and_changed() {
        for (path, expected) in [
            ("/v2/logging", Route::Logging),
            ("/v2/trace/setting", Route::Trace { model: None }),
            ("/v2/models/m/trace/setting", Route::Trace { model: Some("m") }),
        ] {
            let route = route(path).unwrap();
            assert!(route.allows(&Method::GET) && route.allows(&Method::POST), "{path}");
            assert!(!route.allows(&Method::PUT), "{path}");
            assert_eq!(route, expected);
        }
    }

    #[test]
    fn unknown_paths() {
        for unknown in [
            "",
            "/",
            "*",
            "/v2/",
            "/v2x",
            "/v2/models",
            "/v2/models/",
            "/v2/models/m/",
            "/v2/models//infer",
            "/v2/models/m/versions",
            "/v2/models/m/versions/x",
            "/v2/models/m/versions//infer",
            "/v2/models/m/versions/1/trace/setting",
            "/v2/models/m/nonsense",
            "/v2/models/m/infer/",
            "/v2/health",
            "/v2/health/",
            "/v2/repository/load",
            "/v2/repository/a/b/c/load",
            "/v2/repository/models//load",
            "/v2/systemsharedmemory/x/status",
            "/v2/systemsharedmemory/region//status",
            "/metrics",
        ] {
            assert_eq!(route(unknown), None, "{unknown}");
        }
    }
}
