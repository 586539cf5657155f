//! The backend `onnxruntime`: from a model's source to a model, on one of two engines.

use std::path::{Path, PathBuf};

use nereid_backend::{Backend, Finding, Host, Model, ModelSource};
use nereid_inference::{Error, Result};
use nereid_model_config::ModelConfig;

use crate::check::check;
use crate::complete;
use crate::embedded::EmbeddedEngine;
use crate::graph::Graph;
use crate::model::{Engine, OnnxModel};
use crate::options::Options;
use crate::runtime::Runtime;
use crate::session::OrtEngine;
use crate::validate::validate;

const DEFAULT_FILE: &str = "model.onnx";

const CURE: &str = "install ONNX Runtime with `pip install onnxruntime` (1.24 or newer), or name \
    its library with --backend-config=onnxruntime,library=PATH";

/// The backend `onnxruntime`. Its settings:
///
/// | setting | meaning |
/// |---|---|
/// | `library` | the library of ONNX Runtime, or a folder with it |
/// | `engine` | `onnxruntime` or `rten`: runs models on this one only; else on the first if it is there |
/// | `intra_op_thread_count`, `inter_op_thread_count` | threads that all models share |
/// | `default-max-batch-size` | `max_batch_size` of models that batch and do not say (4) |
#[derive(Default)]
pub struct OnnxRuntimeBackend {
    runtime: Runtime,
}

impl OnnxRuntimeBackend {
    pub fn new() -> Self {
        Self::default()
    }

    fn engine(
        &self,
        source: &ModelSource,
        host: &Host,
        path: &Path,
        graph: &Graph,
    ) -> Result<Box<dyn Engine>> {
        let options = Options::read(&source.config)?;
        let fail = |reason: String| {
            Error::internal(format!("failed to load model '{}': {reason}", source.name))
        };
        let on_ort = || {
            let environment = self.runtime.environment(source)?;
            Ok::<_, String>(OrtEngine::load(
                &environment,
                path,
                graph,
                &options,
                host.arena.clone(),
            ))
        };
        match source.setting("engine") {
            Some("rten") => Ok(Box::new(EmbeddedEngine::load(path, graph).map_err(fail)?)),
            Some("onnxruntime") => match on_ort() {
                Ok(engine) => Ok(Box::new(engine.map_err(fail)?)),
                Err(reason) => Err(fail(format!("{reason}; {CURE}"))),
            },
            Some(other) => Err(Error::invalid_arg(format!(
                "setting 'engine' of backend 'onnxruntime' must be 'onnxruntime' or 'rten', got \
                 '{other}'"
            ))),
            None => match on_ort() {
                Ok(engine) => Ok(Box::new(engine.map_err(fail)?)),
                Err(reason) => fall_back(source, path, graph, &reason),
            },
        }
    }
}

/// Runs the model without ONNX Runtime, and says so.
fn fall_back(
    source: &ModelSource,
    path: &Path,
    graph: &Graph,
    reason: &str,
) -> Result<Box<dyn Engine>> {
    let engine = EmbeddedEngine::load(path, graph).map_err(|lack| {
        Error::unavailable(format!(
            "failed to load model '{}': {reason}, and the built-in engine (rten) cannot run this \
             model: {lack}; {CURE}",
            source.name
        ))
    })?;
    tracing::warn!(
        "'{}' runs on the built-in engine (rten), which is slower: {reason}; {CURE}",
        source.name
    );
    Ok(Box::new(engine))
}

/// The model's file. A folder of that name holds the file beside its external weights.
pub(crate) fn model_path(source: &ModelSource) -> Result<PathBuf> {
    let mut path = source.model_file(DEFAULT_FILE);
    if path.is_dir() {
        path.push(DEFAULT_FILE);
    }
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::unavailable(format!(
        "unable to find '{}' for model '{}'",
        path.display(),
        source.name
    )))
}

impl Backend for OnnxRuntimeBackend {
    fn name(&self) -> &'static str {
        "onnxruntime"
    }

    fn default_filename(&self) -> Option<&'static str> {
        Some(DEFAULT_FILE)
    }

    fn complete_config(&self, source: &ModelSource, config: &mut ModelConfig) -> Result<()> {
        if complete::is_complete(config) {
            return Ok(());
        }
        complete::complete(&Graph::read(&model_path(source)?)?, source, config)
    }

    fn check(&self, source: &ModelSource) -> Vec<Finding> {
        check(source)
    }

    fn load(&self, source: &ModelSource, host: &Host) -> Result<Box<dyn Model>> {
        let path = model_path(source)?;
        let graph = Graph::read(&path)?;
        validate(&source.config, &graph)?;
        let engine = self.engine(source, host, &path, &graph)?;
        Ok(Box::new(OnnxModel::new(engine, &source.config, &graph)))
    }
}
