//! `nereid check`: judges repositories, and says so to people or to programs.

mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgAction, Args, ValueEnum};
use nereid_arena::Arena;
use nereid_backend::metrics::Registry;
use nereid_backend::{Finding, Host, Pulse, Severity};
use nereid_core::{
    Catalog, CheckReport, ControlMode, Lifecycle, ModelFinding, Repositories, Server,
};
use nereid_inference::Cancellation;

use crate::flags::{backend_setting, boolean};
use crate::{backends, repositories};

#[derive(Args, Debug)]
pub(crate) struct CheckFlags {
    /// Folders with models, or s3://, gs:// and as:// URLs.
    #[arg(required = true, value_name = "REPOSITORY")]
    repositories: Vec<PathBuf>,
    /// Load the models, too.
    #[arg(long)]
    load: bool,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Print the configurations that the models would be served with, completed by what their files
    /// say and by defaults. What is wrong is told on the error output then.
    #[arg(long)]
    print_config: bool,
    /// Fail on warnings.
    #[arg(long)]
    strict: bool,
    /// As of `nereid serve`.
    #[arg(long, value_name = "SETTING", value_parser = backend_setting)]
    backend_config: Vec<(String, String, String)>,
    /// As of `nereid serve`.
    #[arg(long, default_value = "/opt/tritonserver/backends", value_name = "PATH")]
    backend_directory: PathBuf,
    /// As of `nereid serve`.
    #[arg(long)]
    disable_auto_complete_config: bool,
    /// As of `nereid serve`.
    #[arg(long, value_name = "NAME")]
    model_config_name: Option<String>,
    /// As of `nereid serve`.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    model_namespacing: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Fails with 1 if a model would not serve, and with 2 if nothing could be judged.
pub(crate) fn run(flags: &CheckFlags) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = match runtime {
        Ok(runtime) => {
            let report = runtime.block_on(check(flags));
            runtime.shutdown_background();
            report
        }
        Err(error) => Err(error),
    };
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match (flags.format, flags.print_config) {
        (Format::Text, false) => print!("{}", report::text(&report)),
        (Format::Text, true) => {
            eprint!("{}", report::text(&report));
            print!("{}", report::configurations(&report));
        }
        (Format::Json, configurations) => print!("{}", report::json(&report, configurations)),
    }
    let warnings = report.count(Severity::Warning);
    let failed = report.count(Severity::Error) > 0 || (flags.strict && warnings > 0);
    ExitCode::from(u8::from(failed))
}

async fn check(flags: &CheckFlags) -> std::io::Result<CheckReport> {
    let server = Server::new("check", true);
    let repositories = repositories(flags, server.clone())?;
    let load = flags.load;
    let work = move || {
        let mut report = repositories.check();
        if load {
            let lifecycle = Lifecycle::new(repositories, server.clone(), ControlMode::None);
            // What cannot be read at all was found by the check.
            let _ = lifecycle.start(None);
            add_failures(&mut report, &server.catalog());
            server.unload_all();
        }
        report
    };
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}

fn repositories(flags: &CheckFlags, server: Arc<Server>) -> std::io::Result<Repositories> {
    let host = Host {
        service: server,
        arena: Arena::new()?,
        reactor: tokio::runtime::Handle::current(),
        pulse: Pulse::default(),
        metrics: Registry::default(),
        alive: Arc::new(()),
        ending: Cancellation::default(),
    };
    Ok(Repositories {
        paths: repositories::open(&flags.repositories).map_err(std::io::Error::other)?,
        namespaces: flags.model_namespacing,
        backends: backends::all(&flags.backend_directory),
        host,
        backend_settings: flags.backend_config.clone(),
        load_threads: 4,
        load_retries: 0,
        auto_complete: !flags.disable_auto_complete_config,
        config_name: flags.model_config_name.clone(),
        cache: None,
        limiter: None,
        latencies: nereid_core::LatencySettings::default(),
        registered: nereid_core::Registered::default(),
    })
}

/// What only loading could tell.
fn add_failures(report: &mut CheckReport, catalog: &Catalog) {
    for (name, model) in catalog.models.iter().filter(|(_, model)| !model.is_ready()) {
        let known = |found: &ModelFinding| {
            found.model.as_ref() == Some(name) && found.finding.severity == Severity::Error
        };
        if let Some(failure) = model.failure().filter(|_| !report.findings.iter().any(known)) {
            let finding = Finding::error(failure).cured_by("correct what the message names");
            report.findings.push(ModelFinding { model: Some(name.clone()), finding });
        }
    }
}
