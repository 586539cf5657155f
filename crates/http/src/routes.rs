//! Paths of the protocol.

use hyper::Method;

#[derive(Debug, PartialEq)]
pub(crate) enum Route<'a> {
    Server,
    Live,
    Ready,
    AllStatistics,
    Model {
        name: &'a str,
        version: Option<&'a str>,
        action: ModelAction,
    },
    /// Known to Triton, not built yet.
    Unsupported {
        what: &'static str,
        method: Method,
    },
}

#[derive(Debug, PartialEq)]
pub(crate) enum ModelAction {
    Metadata,
    Ready,
    Config,
    Statistics,
    Infer,
}

impl Route<'_> {
    /// The method it answers to; `CONNECT` stands for any.
    pub(crate) fn method(&self) -> Method {
        match self {
            Route::Model { action: ModelAction::Infer, .. } => Method::POST,
            Route::Unsupported { method, .. } => method.clone(),
            _ => Method::GET,
        }
    }
}

/// Names are taken as they stand in the path: Triton does not decode `%` sequences.
pub(crate) fn route(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix("/v2")?;
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    match parts.as_slice() {
        [] => rest.is_empty().then_some(Route::Server),
        ["health", "live"] => Some(Route::Live),
        ["health", "ready"] => Some(Route::Ready),
        ["models", "stats"] => Some(Route::AllStatistics),
        ["models", name, rest @ ..] if !name.is_empty() => model(name, rest),
        ["repository", "index"] => unsupported("the repository index", Method::POST),
        ["repository", .., "load" | "unload"] => unsupported("model control", Method::POST),
        ["systemsharedmemory" | "cudasharedmemory", .., "status"] => {
            unsupported("shared memory", Method::GET)
        }
        ["systemsharedmemory" | "cudasharedmemory", .., "register" | "unregister"] => {
            unsupported("shared memory", Method::POST)
        }
        ["trace", "setting"] => unsupported("trace", Method::CONNECT),
        ["logging"] => unsupported("logging", Method::CONNECT),
        _ => None,
    }
}

fn unsupported(what: &'static str, method: Method) -> Option<Route<'static>> {
    Some(Route::Unsupported { what, method })
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
        ["generate"] => return unsupported("generate", Method::POST),
        ["generate_stream"] => return unsupported("generate_stream", Method::POST),
        ["trace", "setting"] if version.is_none() => return unsupported("trace", Method::CONNECT),
        _ => return None,
    };
    Some(Route::Model { name, version, action })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(route("/v2"), Some(Route::Server));
        assert_eq!(route("/v2/models/stats"), Some(Route::AllStatistics));
        let infer = |version| Route::Model { name: "a%20b", version, action: ModelAction::Infer };
        assert_eq!(route("/v2/models/a%20b/infer"), Some(infer(None)));
        assert_eq!(route("/v2/models/a%20b/versions/12/infer"), Some(infer(Some("12"))));
        for unknown in [
            "/", "/v2/", "/v2x", "/v2/models", "/v2/models/", "/v2/models//infer",
            "/v2/models/m/versions/x", "/v2/models/m/nonsense", "/v2/health",
        ] {
            assert_eq!(route(unknown), None, "{unknown}");
        }
    }
}
