//! Flags of `nereid serve`: Triton's names, spellings and defaults.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgAction, Args};
use nereid_cache::Settings;
use nereid_core::{AutoSettings, ControlMode, Limiter, Supply};
use nereid_inference::Error;

use crate::cloud::{self, CloudFlags};
use crate::log::LogFlags;
use crate::metrics::MetricsFlags;
use crate::security::{AccessFlags, GrpcSecurity, HttpSecurity};
use crate::trace::TraceFlags;
use crate::without_effect::WithoutEffect;

#[derive(Args, Debug)]
pub(crate) struct ServeFlags {
    /// Folder with models, or an s3://, gs:// or as:// URL; may be given several times.
    #[arg(long, alias = "model-store", required = cloud::storage().is_none(), value_name = "PATH")]
    model_repository: Vec<PathBuf>,
    /// Let models of the same name be in several repositories. Ensembles mean those of their own
    /// repository first.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) model_namespacing: bool,
    /// Name of the server in its metadata.
    #[arg(long, default_value = "triton")]
    pub(crate) id: String,
    /// Exit if a model fails to load at start.
    #[arg(long, default_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) exit_on_error: bool,
    /// Be ready only while all models are.
    #[arg(long, default_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) strict_readiness: bool,
    /// Who decides which models are loaded: `none`, all are loaded at start; `explicit`, clients
    /// load and unload; `poll`, the repository is followed; `auto`, a model is loaded with the
    /// first request for it (not in Triton).
    #[arg(long, default_value = "none", value_parser = ["none", "explicit", "poll", "auto"])]
    pub(crate) model_control_mode: String,
    /// Memory that models may take in mode `auto`, in bytes or as 500M or 2G: those that were used
    /// least recently leave. (Not in Triton.)
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) model_memory_budget: Option<u64>,
    /// Model to load at start in mode `explicit`, and to keep in mode `auto`; may be given several
    /// times; `*` loads all.
    #[arg(long, value_name = "MODEL")]
    pub(crate) load_model: Vec<String>,
    /// How often the repository is looked at in mode `poll`, in seconds.
    #[arg(long, default_value_t = 15)]
    pub(crate) repository_poll_secs: u64,
    /// Take configurations as they are: nothing is added from the models' files.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) disable_auto_complete_config: bool,
    /// The old name of --disable-auto-complete-config.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) strict_model_config: bool,
    /// Use `configs/<NAME>.pbtxt` of a model, where there is one, for its configuration.
    #[arg(long, value_name = "NAME")]
    pub(crate) model_config_name: Option<String>,
    /// Models loaded at the same time.
    #[arg(long, default_value_t = 4)]
    pub(crate) model_load_thread_count: usize,
    /// How often a model is loaded again that could not be loaded, unless its configuration is wrong.
    #[arg(long, default_value_t = 0)]
    pub(crate) model_load_retry_count: u32,
    /// Requests that may wait at the same time for models to be loaded in mode `auto`; more are
    /// refused (503). (Not in Triton.)
    #[arg(long, default_value_t = 1000)]
    pub(crate) model_load_max_waiting: usize,
    /// Setting of a backend: `<backend>,<key>=<value>`, or `<key>=<value>` for all of them.
    #[arg(long, value_name = "SETTING", value_parser = backend_setting)]
    pub(crate) backend_config: Vec<(String, String, String)>,
    /// The response cache: `local,size=<bytes>`, or `redis,host=<name>` and further settings.
    #[arg(long, value_name = "CACHE,KEY=VALUE", value_parser = cache_setting)]
    pub(crate) cache_config: Vec<(String, String, String)>,
    /// The old form of --cache-config=local,size=BYTES.
    #[arg(long, value_name = "BYTES", conflicts_with = "cache_config")]
    pub(crate) response_cache_byte_size: Option<u64>,
    /// Let instances run only when the resources that they need are free, by the shares that
    /// `rate_limiter` of their groups names.
    #[arg(long, default_value = "off", value_parser = ["execution_count", "off"])]
    pub(crate) rate_limit: String,
    /// What there is of a resource: `<name>:<count>[:<device>]`. Without any, there is of each what
    /// the instance that needs most of it needs.
    #[arg(long, value_name = "RESOURCE", value_parser = resource)]
    pub(crate) rate_limit_resource: Vec<Supply>,
    /// Where backends written in Python lie: `<NAME>/model.py` serves models with `backend: "<NAME>"`.
    #[arg(long, default_value = "/opt/tritonserver/backends", value_name = "PATH")]
    pub(crate) backend_directory: PathBuf,
    /// How long to wait for requests that are running when the server is told to stop.
    #[arg(long, default_value_t = 30)]
    pub(crate) exit_timeout_secs: u64,
    /// How long to go on accepting requests, but not be ready any more, when the server is told to
    /// stop: time for load balancers to look elsewhere. (Not in Triton.)
    #[arg(long, default_value_t = 0)]
    pub(crate) exit_notice_secs: u64,
    /// Serve HTTP; true unless `AIP_MODE` is `PREDICTION`.
    #[arg(long, value_parser = boolean)]
    allow_http: Option<bool>,
    /// Address for HTTP.
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) http_address: IpAddr,
    /// Port for HTTP; 0 takes a free one.
    #[arg(long, default_value_t = 8000)]
    pub(crate) http_port: u16,
    /// Let other processes listen on the port for HTTP too.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) reuse_http_port: bool,
    /// Let clients register their shared memory.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) allow_client_shm: bool,
    /// Largest JSON part or raw tensor of a request, in bytes.
    #[arg(long, default_value_t = 64 << 20)]
    pub(crate) http_max_input_size: usize,
    #[command(flatten)]
    pub(crate) http_security: HttpSecurity,
    #[command(flatten)]
    pub(crate) access: AccessFlags,
    /// Serve gRPC; true unless `AIP_MODE` is `PREDICTION`.
    #[arg(long, value_parser = boolean)]
    allow_grpc: Option<bool>,
    /// Address for gRPC.
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) grpc_address: IpAddr,
    /// Port for gRPC; 0 takes a free one.
    #[arg(long, default_value_t = 8001)]
    pub(crate) grpc_port: u16,
    /// Let other processes listen on the port for gRPC too.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) reuse_grpc_port: bool,
    /// Compress responses for gRPC clients that can read that; all levels are the same.
    #[arg(long, default_value = "none", value_parser = ["none", "low", "medium", "high"])]
    pub(crate) grpc_infer_response_compression_level: String,
    /// Milliseconds between probes on a gRPC connection on which nothing happens.
    #[arg(long, default_value_t = 7_200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) grpc_keepalive_time: u64,
    /// Milliseconds that a gRPC client may take to answer a probe.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) grpc_keepalive_timeout: u64,
    /// Milliseconds after which clients are told to make a new gRPC connection; 0: never.
    #[arg(long, default_value_t = 0)]
    pub(crate) grpc_max_connection_age: u64,
    /// Milliseconds that the requests of an old gRPC connection may take until it is closed; 0: as
    /// long as they need.
    #[arg(long, default_value_t = 0)]
    pub(crate) grpc_max_connection_age_grace: u64,
    #[command(flatten)]
    pub(crate) grpc_security: GrpcSecurity,
    #[command(flatten)]
    pub(crate) without_effect: WithoutEffect,
    /// Poll for up to this many microseconds before sleeping while requests follow each other
    /// closely: a lower latency for more CPU time. 0 turns it off. (Not in Triton.)
    #[arg(long, default_value_t = 100)]
    pub(crate) reactor_spin_us: u64,
    #[command(flatten)]
    pub(crate) log: LogFlags,
    #[command(flatten)]
    pub(crate) trace: TraceFlags,
    #[command(flatten)]
    pub(crate) metrics: MetricsFlags,
    #[command(flatten)]
    pub(crate) cloud: CloudFlags,
}

/// Flags that Triton has and this version does not: naming them is better than guessing.
const NOT_YET: &[&str] = &["host-policy", "model-load-gpu-limit"];

impl ServeFlags {
    /// Where models come from: what is named, else what the environment names.
    pub(crate) fn repositories(&self) -> Vec<PathBuf> {
        match self.model_repository.is_empty() {
            true => cloud::storage().map(PathBuf::from).into_iter().collect(),
            false => self.model_repository.clone(),
        }
    }

    pub(crate) fn allows_http(&self) -> bool {
        self.allow_http.unwrap_or_else(|| !CloudFlags::is_in_vertex_ai())
    }

    pub(crate) fn allows_grpc(&self) -> bool {
        self.allow_grpc.unwrap_or_else(|| !CloudFlags::is_in_vertex_ai())
    }

    pub(crate) fn control_mode(&self) -> ControlMode {
        match self.model_control_mode.as_str() {
            "explicit" => ControlMode::Explicit,
            "poll" => ControlMode::Poll,
            "auto" => ControlMode::Auto,
            _ => ControlMode::None,
        }
    }

    /// The cache that is asked for, by either of two flags.
    pub(crate) fn cache(&self) -> Result<Option<Settings>, Error> {
        let mut given = self.cache_config.clone();
        if let Some(size) = self.response_cache_byte_size.filter(|&size| size > 0) {
            given.push(("local".to_owned(), "size".to_owned(), size.to_string()));
        }
        Settings::new(&given)
    }

    pub(crate) fn limiter(&self) -> Option<Arc<Limiter>> {
        (self.rate_limit != "off").then(|| Limiter::new(self.rate_limit_resource.clone()))
    }

    pub(crate) fn auto(&self) -> AutoSettings {
        let max_waiting = self.model_load_max_waiting;
        AutoSettings { budget: self.model_memory_budget, max_waiting }
    }

    /// The models to load at start; `None`: all of them.
    pub(crate) fn models_at_start(&self) -> Result<Option<Vec<String>>, String> {
        if !matches!(self.control_mode(), ControlMode::Explicit | ControlMode::Auto) {
            return match self.load_model.is_empty() {
                true => Ok(None),
                false => Err("Error: Use of '--load-model' requires setting \
                              '--model-control-mode=explicit' as well."
                    .to_owned()),
            };
        }
        match self.load_model.as_slice() {
            [all] if all == "*" => Ok(None),
            names if names.iter().any(|name| name == "*") => {
                Err("Wildcard model name '*' must be the ONLY startup model if specified at all."
                    .to_owned())
            }
            names => Ok(Some(names.to_vec())),
        }
    }
}

/// What to say about the first argument that is a flag of Triton's which does nothing yet.
pub(crate) fn refusal(arguments: impl Iterator<Item = String>) -> Option<String> {
    arguments
        .filter_map(|argument| {
            let name = argument.strip_prefix("--")?.split('=').next()?.to_owned();
            NOT_YET.contains(&name.as_str()).then_some(name)
        })
        .next()
        .map(|name| format!("--{name} is a flag of Triton's that is not supported yet"))
}

/// Triton's spellings of yes and no, in any case.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err("expected true, on, 1, false, off or 0".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return Err("expected bytes, or a number with K, M or G".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is too much".to_owned())
}

pub(crate) fn backend_setting(text: &str) -> Result<(String, String, String), String> {
    let (backend, setting) = text.split_once(',').unwrap_or(("", text));
    let (key, value) = setting
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or("expected <backend>,<key>=<value> or <key>=<value>")?;
    Ok((backend.to_owned(), key.to_owned(), value.to_owned()))
}

fn resource(text: &str) -> Result<Supply, String> {
    let expected = || "expected <name>:<count> or <name>:<count>:<device>".to_owned();
    let mut parts = text.split(':');
    let name = parts.next().filter(|name| !name.is_empty()).ok_or_else(expected)?;
    let count = parts.next().and_then(|count| count.parse().ok()).ok_or_else(expected)?;
    let device = parts.next().map(str::parse).transpose().map_err(|_| expected())?;
    match parts.next() {
        Some(_) => Err(expected()),
        None => Ok(Supply { resource: name.to_owned(), count, device }),
    }
}

fn cache_setting(text: &str) -> Result<(String, String, String), String> {
    match backend_setting(text)? {
        (cache, ..) if cache.is_empty() => Err("expected <cache>,<key>=<value>".to_owned()),
        setting => Ok(setting),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: ServeFlags,
    }

    fn parse(arguments: &[&str]) -> Result<ServeFlags, String> {
        let all = ["serve", "--model-repository", "a"].iter().chain(arguments);
        Only::try_parse_from(all).map(|only| only.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn both_spellings_and_all_booleans() {
        for (argument, expected) in [("=On", true), ("=0", false), ("=FALSE", false)] {
            let flags = parse(&[&format!("--exit-on-error{argument}")]).unwrap();
            assert_eq!(flags.exit_on_error, expected);
        }
        assert_eq!(parse(&["--http-port", "81"]).unwrap().http_port, 81);
        assert_eq!(parse(&["--http-port=82"]).unwrap().http_port, 82);
        assert!(parse(&["--exit-on-error=maybe"]).is_err());
    }

    #[test]
    fn models_at_start() {
        let names = |arguments: &[&str]| parse(arguments).unwrap().models_at_start();
        assert_eq!(names(&[]), Ok(None));
        assert_eq!(names(&["--model-control-mode=explicit"]), Ok(Some(vec![])));
        let explicit = "--model-control-mode=explicit";
        assert_eq!(names(&[explicit, "--load-model=a"]), Ok(Some(vec!["a".to_owned()])));
        assert_eq!(names(&[explicit, "--load-model=*"]), Ok(None));
        assert!(names(&[explicit, "--load-model=*", "--load-model=a"]).is_err());
        assert!(names(&["--load-model=a"]).is_err());
        assert!(parse(&["--disable-auto-complete-config"]).unwrap().disable_auto_complete_config);
    }

    #[test]
    fn what_there_is_nothing_to_set_for_is_taken() {
        let pools = ["--cuda-memory-pool-byte-size=0:1", "--cuda-memory-pool-byte-size=1:1"];
        parse(&pools).unwrap();
        parse(&["--pinned-memory-pool-byte-size", "1048576", "--enable-peer-access=false"])
            .unwrap();
        parse(&["--cache-directory=/opt/caches", "--repoagent-directory=/opt/agents"]).unwrap();
    }

    #[test]
    fn unknown_flags_are_answered_with_the_nearest() {
        let error = parse(&["--http-prot=1"]).unwrap_err();
        assert!(error.contains("--http-port"), "{error}");
    }

    #[test]
    fn flags_of_triton_that_do_nothing_yet_are_named() {
        let refused = |argument: &str| refusal([argument.to_owned()].into_iter());
        assert!(refused("--host-policy=0,numa-node=0").unwrap().contains("not supported yet"));
        assert!(refused("--model-load-gpu-limit=0:0.5").is_some());
        assert_eq!(refused("--http-port=8000"), None);
    }

    #[test]
    fn backend_settings() {
        let flags =
            parse(&["--backend-config=python,python=/usr/bin/python3", "--backend-config=a=b"]);
        let own = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(
            flags.unwrap().backend_config,
            [own("python", "python", "/usr/bin/python3"), own("", "a", "b")]
        );
        assert!(parse(&["--backend-config=nonsense"]).is_err());
    }

    #[test]
    fn rate_limits() {
        let supply = |count, device| Supply { resource: "R".to_owned(), count, device };
        let flags = parse(&["--rate-limit-resource=R:3", "--rate-limit-resource=R:2:1"]).unwrap();
        assert_eq!(flags.rate_limit_resource, [supply(3, None), supply(2, Some(1))]);
        assert!(flags.limiter().is_none());
        assert!(parse(&["--rate-limit=execution_count"]).unwrap().limiter().is_some());
        for wrong in ["=R", "=:1", "=R:x", "=R:-1", "=R:1:x", "=R:1:0:4"] {
            parse(&[&format!("--rate-limit-resource{wrong}")]).unwrap_err();
        }
        parse(&["--rate-limit=sometimes"]).unwrap_err();
    }

    #[test]
    fn caches() {
        let made = |arguments: &[&str]| {
            parse(arguments)?.cache().map(|cache| cache.is_some()).map_err(|e| e.to_string())
        };
        assert_eq!(made(&[]), Ok(false));
        assert_eq!(made(&["--cache-config=local,size=1000"]), Ok(true));
        assert_eq!(made(&["--response-cache-byte-size=1000"]), Ok(true));
        assert_eq!(made(&["--response-cache-byte-size=0"]), Ok(false));
        made(&["--cache-config=size=1000"]).unwrap_err();
        made(&["--cache-config=local,size=1000", "--response-cache-byte-size=1"]).unwrap_err();
    }
}
