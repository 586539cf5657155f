//! Tells systemd how the server is (`Type=notify`): that it is ready, that it needs more time, that it
//! is alive. Without `NOTIFY_SOCKET` nothing is told to anybody.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::task::JoinHandle;

/// How often a start that goes on asks for more time, and for how much.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTENSION: Duration = Duration::from_secs(30);

pub(crate) struct Supervisor(Option<UnixDatagram>);

impl Supervisor {
    /// Begins to show signs of life, too, if these are asked for.
    pub(crate) fn from_environment() -> Self {
        let supervisor = Self(connect());
        if let (Some(socket), Some(period)) = (&supervisor.0, watchdog())
            && let Ok(socket) = socket.try_clone()
        {
            tokio::spawn(show_life(Self(Some(socket)), period));
        }
        supervisor
    }

    /// Waits for the start, asking for more time as long as it takes.
    pub(crate) async fn while_starting<T>(
        &self,
        mut start: JoinHandle<T>,
    ) -> Result<T, tokio::task::JoinError> {
        loop {
            match tokio::time::timeout(EXTEND_EVERY, &mut start).await {
                Ok(started) => return started,
                Err(_) => self.tell(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros())),
            }
        }
    }

    pub(crate) fn started(&self) {
        self.tell("READY=1");
    }

    /// The end may take this long.
    pub(crate) fn stopping(&self, at_most: Duration) {
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", at_most.as_micros()));
    }

    fn tell(&self, what: &str) {
        // Who does not listen has to live with it.
        let _ = self.0.as_ref().map(|socket| socket.send(what.as_bytes()));
    }
}

fn connect() -> Option<UnixDatagram> {
    let path = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
    let connected = || {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // Nobody waits for whoever watches.
        socket.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(socket)
    };
    let warn = |error: &std::io::Error| tracing::warn!("NOTIFY_SOCKET {path:?}: {error}");
    connected().inspect_err(warn).ok()
}

/// How often a sign of life is expected of this process.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let pid = number("WATCHDOG_PID").unwrap_or_else(|| u64::from(std::process::id()));
    let period = number("WATCHDOG_USEC").filter(|period| *period > 0)?;
    (pid == u64::from(std::process::id())).then(|| Duration::from_micros(period))
}

/// The signs come from the reactor: while it does not turn, there are none.
async fn show_life(supervisor: Supervisor, period: Duration) {
    loop {
        supervisor.tell("WATCHDOG=1");
        tokio::time::sleep(period / 2).await;
    }
}
