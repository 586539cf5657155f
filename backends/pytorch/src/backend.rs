//! The backend `pytorch`: from a model's source to a model, or to the fallback.

use nereid_backend::{Backend, Finding, Host, Model, ModelSource};
use nereid_inference::{Error, Result};
use nereid_model_config::ModelConfig;

use crate::check;
use crate::complete;
use crate::fallback::{self, Fallback};
use crate::model::TorchModel;
use crate::parameters::Parameters;
use crate::runtime::{Runtime, Unusable};

pub(crate) const DEFAULT_FILE: &str = "model.pt";

/// The backend `pytorch`. Its setting: `libtorch`, the folder of an installation.
#[derive(Default)]
pub struct PytorchBackend {
    runtime: Runtime,
    fallback: Option<Fallback>,
}

impl PytorchBackend {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `fallback` load the models where libtorch cannot be used in this process.
    pub fn with_fallback(fallback: Fallback) -> Self {
        Self { fallback: Some(fallback), ..Self::default() }
    }

    /// Called where there is no libtorch, no compiler, or the two do not fit together.
    fn fall_back(
        &self,
        source: &ModelSource,
        host: &Host,
        unusable: Unusable,
    ) -> Result<Box<dyn Model>> {
        let Unusable { reason, cure } = unusable;
        let Some(fallback) = &self.fallback else {
            return Err(Error::unavailable(format!(
                "failed to load model '{}': TorchScript needs libtorch and a C++ compiler, and \
                 {reason}: {cure}",
                source.name
            )));
        };
        tracing::warn!(
            "'{}' runs in a Python process, which is slower: {reason}; {cure}",
            source.name
        );
        fallback(source, host, fallback::model_py())
    }
}

impl Backend for PytorchBackend {
    fn name(&self) -> &'static str {
        "pytorch"
    }

    fn default_filename(&self) -> Option<&'static str> {
        Some(DEFAULT_FILE)
    }

    /// As far as that is possible: outputs can be found out, inputs cannot.
    fn complete_config(&self, source: &ModelSource, config: &mut ModelConfig) -> Result<()> {
        if !complete::is_wanted(config) || !source.model_file(DEFAULT_FILE).is_file() {
            return Ok(());
        }
        match self.runtime.shim(source.setting("libtorch")) {
            Ok(shim) => complete::complete(&shim, source, config),
            // Whatever it runs in then, its outputs have to be written down.
            Err(_) => Ok(()),
        }
    }

    fn check(&self, source: &ModelSource) -> Vec<Finding> {
        check::check(source, &source.model_file(DEFAULT_FILE))
    }

    fn draft(&self, source: &ModelSource) -> Result<ModelConfig> {
        check::draft(&source.model_file(DEFAULT_FILE))
    }

    fn load(&self, source: &ModelSource, host: &Host) -> Result<Box<dyn Model>> {
        let path = source.model_file(DEFAULT_FILE);
        if !path.is_file() {
            return Err(Error::unavailable(format!(
                "unable to find '{}' for model instance '{}'",
                path.display(),
                source.name
            )));
        }
        let parameters = Parameters::read(&source.config)?;
        match self.runtime.shim(source.setting("libtorch")) {
            Ok(shim) => Ok(Box::new(TorchModel::load(&shim, path, source, &parameters)?)),
            Err(unusable) => self.fall_back(source, host, unusable),
        }
    }
}
