//! The one ONNX Runtime of the process: found, opened, with its threads.

use std::sync::{Arc, Mutex, PoisonError};

use nereid_backend::ModelSource;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;

use crate::discover;

/// Opened when the first model asks for it; a process can only have one.
#[derive(Default)]
pub(crate) struct Runtime(Mutex<Option<Environment>>);

impl Runtime {
    /// An error says why ONNX Runtime cannot be used. It is not kept: the next load tries again.
    pub(crate) fn environment(&self, source: &ModelSource) -> Result<Environment, String> {
        let mut environment = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*environment {
            return Ok(open.clone());
        }
        Ok(environment.insert(open(source)?).clone())
    }
}

/// Settings: `library`, and `intra_op_thread_count` and `inter_op_thread_count` of the threads that
/// all sessions share.
fn open(source: &ModelSource) -> Result<Environment, String> {
    let library = discover::find(source.setting("library"))?;
    let builder = ort::init_from(&library).map_err(|error| error.to_string())?;
    tracing::info!("ONNX models run on {}", library.display());
    let threads = |key: &str| source.setting(key).and_then(|value| value.parse().ok()).unwrap_or(0);
    let pool = GlobalThreadPoolOptions::default()
        .with_intra_threads(threads("intra_op_thread_count"))
        .and_then(|pool| pool.with_inter_threads(threads("inter_op_thread_count")))
        // Threads that spin after their work would take the processor from everything else.
        .and_then(|pool| pool.with_spin_control(false));
    let pool = pool.map_err(|error| error.message().to_owned())?;
    builder
        .with_name("nereid")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .with_global_thread_pool(pool)
        .build()
        .map_err(|error| error.message().to_owned())
}

/// Passes on what ONNX Runtime says; its own news are details to us.
fn log(level: LogLevel, _category: &str, id: &str, _place: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error => tracing::error!("onnxruntime {id}: {message}"),
        LogLevel::Warning => tracing::warn!("onnxruntime {id}: {message}"),
        LogLevel::Info => tracing::debug!("onnxruntime {id}: {message}"),
        LogLevel::Verbose => tracing::trace!("onnxruntime {id}: {message}"),
    }
}
