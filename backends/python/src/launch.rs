//! How a worker process is started.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use nereid_arena::Arena;
use nereid_backend::{Host, ModelSource, Placement};
use nereid_model_config as model_config;
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use crate::devices;
use crate::environment::Environment;
use crate::options::Options;
use crate::span::Span;

/// Room for many small frames, so that a writer rarely waits.
const PIPE_SIZE: usize = 1 << 20;

/// What a worker runs.
pub(crate) struct Files {
    /// The model's Python file.
    pub(crate) model: PathBuf,
    /// The folder of a backend that is written in Python.
    pub(crate) backend_dir: Option<PathBuf>,
    /// Where the worker's own package lies.
    pub(crate) worker: PathBuf,
}

/// Everything that is needed to start a worker, again and again.
pub(crate) struct Launch {
    pub(crate) options: Options,
    environment: Environment,
    /// Of the instance.
    name: String,
    worker_dir: PathBuf,
    arena: Arena,
    init: Value,
}

/// A process that has just been started.
pub(crate) struct Launched {
    pub(crate) child: Child,
    pub(crate) requests: Arc<AsyncFd<OwnedFd>>,
    pub(crate) answers: AsyncFd<OwnedFd>,
    pub(crate) span: Arc<Span>,
    /// Extras of the first frame.
    pub(crate) init: Vec<u8>,
}

impl Launch {
    pub(crate) fn new(
        source: &ModelSource,
        files: &Files,
        host: &Host,
        placement: &Placement,
        options: &Options,
        environment: &Environment,
    ) -> Self {
        let args = json!({
            "model_config": model_config::to_json(&source.config),
            "model_instance_kind": placement.kind.as_str(),
            "model_instance_name": placement.name,
            "model_instance_device_id": placement.device_id.to_string(),
            "model_repository": source.model_dir,
            "model_version": source.version.to_string(),
            "model_name": source.name,
        });
        Self {
            options: options.clone(),
            environment: environment.clone(),
            name: placement.name.clone(),
            worker_dir: files.worker.clone(),
            arena: host.arena.clone(),
            init: json!({
                "model_dir": source.model_dir,
                "version_dir": source.version_dir,
                "model_file": files.model,
                "backend_dir": files.backend_dir,
                "args": args,
                "execute_threads": options.threads,
                "devices": devices::count() > 0,
            }),
        }
    }

    /// Starts a process. Must run on the reactor's thread: the kernel ends a worker when the
    /// thread that started it ends, and that one lives as long as the server.
    pub(crate) fn start(&self) -> io::Result<Launched> {
        let span = Span::reserve(&self.arena).ok_or_else(|| {
            io::Error::other("no address space left in the arena for another worker")
        })?;
        let (their_requests, our_requests) = pipe_with(PipeFlags::CLOEXEC)?;
        let (our_answers, their_answers) = pipe_with(PipeFlags::CLOEXEC)?;
        for pipe in [&our_requests, &our_answers] {
            // A smaller pipe works too: unprivileged users have a limit over all their pipes.
            let _ = fcntl_setpipe_size(pipe, PIPE_SIZE);
            rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        let arena = self.arena.as_fd().try_clone_to_owned()?;
        let child = self.command(&their_requests, &their_answers, &arena).spawn()?;
        let mut init = self.init.clone();
        init["span"] = json!([span.range().0, span.range().1]);
        Ok(Launched {
            child,
            requests: Arc::new(registered(our_requests)?),
            answers: registered(our_answers)?,
            span,
            init: init.to_string().into_bytes(),
        })
    }

    fn command(&self, requests: &OwnedFd, answers: &OwnedFd, arena: &OwnedFd) -> Command {
        let inherited = [requests.as_raw_fd(), answers.as_raw_fd(), arena.as_raw_fd()];
        let mut command = Command::new(&self.environment.python);
        command
            .envs(self.environment.variables.iter().map(|(name, value)| (name, value)))
            .args(["-u", "-m", "nereid_worker"])
            // Nobody reads it but people who look at the list of processes.
            .arg(&self.name)
            .env("PYTHONPATH", python_path(&self.worker_dir))
            .env("NEREID_REQUESTS_FD", inherited[0].to_string())
            .env("NEREID_ANSWERS_FD", inherited[1].to_string())
            .env("NEREID_ARENA_FD", inherited[2].to_string())
            .env("NEREID_ARENA_LEN", self.arena.len().to_string())
            .env("NEREID_SERVER_PID", std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        inherit(&mut command, inherited);
        command
    }

    pub(crate) fn python(&self) -> &Path {
        &self.environment.python
    }
}

/// Where Python finds the worker's package, and what the user added.
pub(crate) fn python_path(worker_dir: &Path) -> OsString {
    let mut path = worker_dir.to_owned().into_os_string();
    if let Some(given) = std::env::var_os("PYTHONPATH").filter(|given| !given.is_empty()) {
        path.push(":");
        path.push(given);
    }
    path
}

fn registered(pipe: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps the same descriptor open for as long as it lives.
    Ok(unsafe { AsyncFd::register(pipe) }?)
}

/// Lets a child keep the descriptors, which close on exec in every other process.
fn inherit(command: &mut Command, descriptors: [i32; 3]) {
    let keep = move || {
        for descriptor in descriptors {
            // SAFETY: the descriptors are open: `Launch::start` holds their owners until after
            // the fork, and a child starts with copies of all of them.
            let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and only makes system calls: it neither
    // allocates nor takes a lock.
    unsafe { command.pre_exec(keep) };
}
