//! Listens to `tracing` and writes lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use nereid_inference::{Error, Result};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber, set_global_default};
use tracing::{Event, Level, Metadata, callsite};

use crate::line::line;
use crate::settings::{Change, Settings};

/// The target of the lines of the access log.
pub const ACCESS: &str = "nereid::access";

/// The log of this process. Copies are the same log.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    settings: RwLock<Settings>,
    /// `None`: standard error.
    file: Option<Mutex<File>>,
    escape: bool,
}

impl Log {
    /// Begins to log; once in a process. `escape`: whether messages stay on one line each.
    pub fn start(settings: Settings, escape: bool) -> Result<Self> {
        let file = match settings.file.as_str() {
            "" => None,
            path => {
                let opened = OpenOptions::new().create(true).append(true).open(path);
                let open = |error| Error::internal(format!("failed to open log '{path}': {error}"));
                Some(Mutex::new(opened.map_err(open)?))
            }
        };
        let log = Self(Arc::new(Shared { settings: RwLock::new(settings), file, escape }));
        set_global_default(log.clone()).map_err(|error| Error::internal(error.to_string()))?;
        Ok(log)
    }

    pub fn settings(&self) -> Settings {
        self.read().clone()
    }

    pub fn change(&self, change: &Change) {
        self.0.settings.write().unwrap_or_else(PoisonError::into_inner).change(change);
        // Every place that logs keeps whether it does; now they ask again.
        callsite::rebuild_interest_cache();
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let settings = self.read();
        let ours = metadata.target().starts_with("nereid");
        match *metadata.level() {
            _ if metadata.is_span() => false,
            Level::INFO if metadata.target() == ACCESS => settings.info && settings.access,
            Level::ERROR => settings.error,
            Level::WARN => settings.warning,
            Level::INFO => settings.info,
            // The libraries have a lot to say, too.
            Level::DEBUG => settings.verbose_level >= if ours { 1 } else { 2 },
            Level::TRACE => settings.verbose_level >= if ours { 2 } else { 3 },
        }
    }

    fn write(&self, line: &str) -> io::Result<()> {
        match &self.0.file {
            Some(file) => {
                file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
            }
            None => io::stderr().write_all(line.as_bytes()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Settings> {
        self.0.settings.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let settings = self.read();
        Some(match settings.verbose_level {
            2.. => LevelFilter::TRACE,
            1 => LevelFilter::DEBUG,
            0 if settings.info => LevelFilter::INFO,
            0 if settings.warning => LevelFilter::WARN,
            0 if settings.error => LevelFilter::ERROR,
            0 => LevelFilter::OFF,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let line = line(self.read().format, self.0.escape, event);
        // There is nowhere to complain to.
        let _ = self.write(&line);
    }

    // Spans are never enabled.

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
