//! `nereid serve`: builds the server from its parts, runs it, ends it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nereid_arena::Arena;
use nereid_backend::metrics::Registry;
use nereid_backend::{Host, Pulse};
use nereid_cache::ResponseCache;
use nereid_core::{Catalog, ControlMode, Lifecycle, Regions, Repositories, Server};
use nereid_frontend::ConnectionOptions;
use nereid_http::{App, DefaultModel, Limits, Service};
use nereid_inference::Cancellation;
use nereid_logging::Log;
use nereid_trace::Tracer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ending::{Ending, Signals};
use crate::flags::ServeFlags;
use crate::listeners::{Listeners, listen};
use crate::security::Security;
use crate::supervisor::Supervisor;
use crate::{backends, metrics, repositories, spin, table};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn run(flags: &ServeFlags) -> ExitCode {
    let log = match flags.log.start() {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    // One thread for sockets, worker channels and scheduling: a request wakes as few threads as
    // possible. What takes long (loading, models that compute in this process) has its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.map_err(Failure::from).and_then(|runtime| {
        let served = runtime.block_on(serve(flags, log));
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(flags: &ServeFlags, log: Log) -> Result<(), Failure> {
    let Listeners { http, grpc, metrics } = Listeners::open(flags)?;
    let arena = Arena::new().map_err(|error| format!("no shared memory to be had: {error}"))?;
    let server = Server::new(&flags.id, flags.strict_readiness);
    let pulse = Pulse::default();
    flags.trace.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let tracer = Tracer::new(&flags.trace.config()?)?;
    let registry = Registry::default();
    flags.metrics.register(&registry, &server);
    let alive = Arc::new(());
    let ending = Cancellation::default();
    let (stop, stopped) = watch::channel(false);

    tokio::spawn(spin::run(pulse.clone(), Duration::from_micros(flags.reactor_spin_us)));
    let host = Host {
        service: server.clone(),
        arena: arena.clone(),
        reactor: tokio::runtime::Handle::current(),
        pulse: pulse.clone(),
        metrics: registry.clone(),
        alive: alive.clone(),
        ending: ending.clone(),
    };
    let cache = match flags.cache()? {
        Some(settings) => Some(Arc::new(ResponseCache::new(&settings).await?)),
        None => None,
    };
    if let Some(cache) = cache.clone() {
        registry.collect(move |page| metrics::write_cache(page, &cache));
    }
    let lifecycle = Arc::new(lifecycle(flags, server.clone(), host, cache)?);
    server.set_lifecycle(&lifecycle);
    let regions = Arc::new(Regions::new(flags.allow_client_shm));
    let keys = flags.access.keys()?;
    let security = flags.http_security.start(&flags.access, keys.clone())?;
    let max_connections = flags.access.max_connections;
    let options =
        ConnectionOptions { tls: security.tls, max_connections, ..ConnectionOptions::default() };
    let app = Arc::new(App {
        server: server.clone(),
        lifecycle: lifecycle.clone(),
        regions: regions.clone(),
        arena: arena.clone(),
        pulse: pulse.clone(),
        log: log.clone(),
        tracer: tracer.clone(),
        metrics: flags.metrics.allow_metrics.then(|| registry.clone()),
        limits: Limits { max_input_size: flags.http_max_input_size, ..Limits::default() },
        access: security.access,
        forward: security.forward,
    });
    let mut frontends = JoinSet::new();
    let mut serve_http = |listener: TcpListener, service, name| {
        let bound = listener.local_addr()?;
        let (app, options, stopped) = (app.clone(), options.clone(), until(stopped.clone()));
        frontends.spawn(nereid_http::serve(listener, app, service, options, stopped));
        tracing::info!("Started {name} at {bound}");
        Ok::<_, Failure>(())
    };
    if let Some(http) = http {
        serve_http(http, Service::Api, "HTTPService")?;
    }
    if let Some(service) = flags.cloud.sagemaker(&app.access)? {
        let address = SocketAddr::new(flags.http_address, flags.cloud.sagemaker_port);
        serve_http(listen(address, false)?, service, "Sagemaker HTTPService")?;
    }
    let vertex_ai_model = match flags.cloud.vertex_ai()? {
        Some((service, model)) => {
            let address = SocketAddr::new(flags.http_address, flags.cloud.vertex_ai_port()?);
            serve_http(listen(address, false)?, service, "Vertex AI HTTPService")?;
            Some(model)
        }
        None => None,
    };
    if let Some(grpc) = grpc {
        let bound = grpc.local_addr()?;
        let security = flags.grpc_security.start(&flags.access, keys)?;
        let app = nereid_grpc::App {
            server: server.clone(),
            lifecycle: lifecycle.clone(),
            regions,
            arena,
            forward: security.forward.clone().map(Arc::new),
            pulse: pulse.clone(),
            log,
            tracer: tracer.clone(),
        };
        frontends.spawn(serve_grpc(grpc, app, grpc_options(flags, security), until(stopped)));
        tracing::info!("Started GRPCInferenceService at {bound}");
    }

    if let Some(metrics) = metrics {
        let bound = metrics.local_addr()?;
        // While requests still run, who watches wants to see them end.
        tokio::spawn(nereid_http::serve_metrics(metrics, registry, std::future::pending()));
        tracing::info!("Started Metrics Service at {bound}");
    }

    // It holds, by what loads models, what has to be gone before the server ends.
    drop(app);
    let mut signals = Signals::new()?;
    let supervisor = Supervisor::from_environment();
    let outcome = tokio::select! {
        served = run_models(flags, &server, lifecycle, vertex_ai_model, &supervisor) => served,
        () = signals.next() => Ok(()),
    };
    let ending = Ending { server, stop, frontends, ending, tracer, alive };
    ending.run(flags, &mut signals, &supervisor).await;
    outcome
}

fn grpc_options(flags: &ServeFlags, security: Security) -> nereid_grpc::Options {
    let set = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
    nereid_grpc::Options {
        connections: ConnectionOptions {
            http1: false,
            tls: security.tls,
            max_connections: flags.access.max_connections,
            keepalive_time: set(flags.grpc_keepalive_time),
            keepalive_timeout: Duration::from_millis(flags.grpc_keepalive_timeout),
            max_age: set(flags.grpc_max_connection_age),
            max_age_grace: set(flags.grpc_max_connection_age_grace),
        },
        access: security.access,
        compress: flags.grpc_infer_response_compression_level != "none",
    }
}

async fn serve_grpc(
    listener: TcpListener,
    app: nereid_grpc::App,
    options: nereid_grpc::Options,
    stopped: impl Future<Output = ()>,
) {
    if let Err(error) = nereid_grpc::serve(listener, app, options, stopped).await {
        tracing::error!("the gRPC service has ended: {error}");
    }
}

fn lifecycle(
    flags: &ServeFlags,
    server: Arc<Server>,
    host: Host,
    cache: Option<Arc<ResponseCache>>,
) -> Result<Lifecycle, Failure> {
    let repositories = Repositories {
        paths: repositories::open(&flags.repositories())?,
        namespaces: flags.model_namespacing,
        backends: backends::all(&flags.backend_directory),
        host,
        backend_settings: flags.backend_config.clone(),
        load_threads: flags.model_load_thread_count,
        load_retries: flags.model_load_retry_count,
        auto_complete: !flags.disable_auto_complete_config && !flags.strict_model_config,
        config_name: flags.model_config_name.clone(),
        cache,
        limiter: flags.limiter(),
        latencies: flags.metrics.latencies(),
        registered: nereid_core::Registered::default(),
    };
    let lifecycle = Lifecycle::new(repositories, server, flags.control_mode());
    Ok(lifecycle.with_auto(flags.auto()))
}

/// Loads what is to be loaded at start, prints what came of it, and follows the repository from
/// there on if told so. Comes back only with an error. Loading has threads of its own.
async fn run_models(
    flags: &ServeFlags,
    server: &Server,
    lifecycle: Arc<Lifecycle>,
    vertex_ai_model: Option<DefaultModel>,
    supervisor: &Supervisor,
) -> Result<(), Failure> {
    let names = flags.models_at_start()?;
    let starting = lifecycle.clone();
    let started = tokio::task::spawn_blocking(move || starting.start(names.as_deref()));
    supervisor.while_starting(started).await??;
    report(flags, &server.catalog())?;
    if let Some(model) = vertex_ai_model {
        model.decide(server)?;
    }
    supervisor.started();
    while flags.control_mode() == ControlMode::Poll {
        tokio::time::sleep(Duration::from_secs(flags.repository_poll_secs)).await;
        let polling = lifecycle.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || polling.poll()).await? {
            tracing::error!("failed to look at the repository: {error}");
        }
    }
    std::future::pending().await
}

/// Prints what became of the models; an error if that is not good enough to serve.
fn report(flags: &ServeFlags, catalog: &Catalog) -> Result<(), Failure> {
    print!("{}", table::models(catalog));
    let failed = catalog.models.values().filter(|model| !model.is_ready()).count();
    if failed == 0 || !flags.exit_on_error {
        return Ok(());
    }
    Err(format!(
        "{failed} of {} models failed to load (--exit-on-error=false serves the others)",
        catalog.models.len()
    )
    .into())
}

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}
