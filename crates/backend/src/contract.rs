//! The three traits that a backend implements.

use std::path::PathBuf;
use std::sync::Arc;

use nereid_inference::Result;
use nereid_model_config::ModelConfig;

use crate::{Batch, Finding, Host};

/// A framework that can load models: one value per process, chosen by `backend:` in config.pbtxt.
pub trait Backend: Send + Sync + 'static {
    /// What `backend:` says to choose it.
    fn name(&self) -> &'static str;

    /// Another backend that runs its models; that one's settings count for it, too.
    fn based_on(&self) -> Option<&'static str> {
        None
    }

    /// The file in a version folder that holds the model, where a configuration names none.
    fn default_filename(&self) -> Option<&'static str> {
        None
    }

    /// On how many GPUs it can run models.
    fn gpus(&self) -> usize {
        0
    }

    /// Fills in what the model's files know and its configuration leaves out. Called once per
    /// version, before [`Backend::load`], on the same thread.
    fn complete_config(&self, _source: &ModelSource, _config: &mut ModelConfig) -> Result<()> {
        Ok(())
    }

    /// Judges a version without loading it: whether its files are there, can be read, and fit the
    /// configuration, which may still be incomplete where completing it failed.
    fn check(&self, _source: &ModelSource) -> Vec<Finding> {
        Vec::new()
    }

    /// A configuration to start from, as far as the model's file tells: parts that it does not
    /// know are left empty.
    fn draft(&self, source: &ModelSource) -> Result<ModelConfig> {
        let mut config = ModelConfig::default();
        self.complete_config(source, &mut config)?;
        Ok(config)
    }

    /// Loads one version. Called on a loading thread, which it may block for as long as it takes.
    fn load(&self, source: &ModelSource, host: &Host) -> Result<Box<dyn Model>>;
}

/// A backend that others use, too.
impl<B: Backend> Backend for Arc<B> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn based_on(&self) -> Option<&'static str> {
        (**self).based_on()
    }

    fn default_filename(&self) -> Option<&'static str> {
        (**self).default_filename()
    }

    fn gpus(&self) -> usize {
        (**self).gpus()
    }

    fn complete_config(&self, source: &ModelSource, config: &mut ModelConfig) -> Result<()> {
        (**self).complete_config(source, config)
    }

    fn check(&self, source: &ModelSource) -> Vec<Finding> {
        (**self).check(source)
    }

    fn draft(&self, source: &ModelSource) -> Result<ModelConfig> {
        (**self).draft(source)
    }

    fn load(&self, source: &ModelSource, host: &Host) -> Result<Box<dyn Model>> {
        (**self).load(source, host)
    }
}

/// What is to be loaded.
#[derive(Clone, Debug)]
pub struct ModelSource {
    pub name: String,
    pub version: i64,
    /// The model's folder.
    pub model_dir: PathBuf,
    /// The version's folder inside it. It need not exist: some backends need no files.
    pub version_dir: PathBuf,
    /// Completed and validated.
    pub config: Arc<ModelConfig>,
    /// `--backend-config` settings for this backend and for all of them, in the order given.
    pub settings: Vec<(String, String)>,
}

impl ModelSource {
    /// The file that holds the model: as configured, else the backend's default.
    pub fn model_file(&self, default: &str) -> PathBuf {
        let configured = self.config.default_model_filename.as_str();
        self.version_dir.join(if configured.is_empty() { default } else { configured })
    }

    /// The last `--backend-config` value given for `key`.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// One loaded version: its weights, shared by its instances. Dropping it unloads it.
pub trait Model: Send + Sync + 'static {
    /// Makes one instance, on a loading thread. Instances of a model are made one after another
    /// or in parallel; all of them are dropped before the model is.
    fn instantiate(&self, placement: &Placement) -> Result<Seat>;

    /// Says, now or a little later, whether it would execute a request: for health checks.
    fn is_ready(&self, answer: Box<dyn FnOnce(bool) + Send>) {
        answer(true);
    }

    /// Whether inputs may lie in the memory of a GPU. Others get them in the host's.
    fn takes_devices(&self) -> bool {
        false
    }
}

/// Which instance of its model is to be made.
#[derive(Clone, Debug)]
pub struct Placement {
    /// As Triton names it: the group's name and the index in it, `model_0_1`.
    pub name: String,
    /// Counts through all instances of the model, from 0.
    pub index: usize,
    pub kind: InstanceKind,
    pub device_id: i32,
}

/// Where an instance is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InstanceKind {
    #[default]
    Cpu,
    /// On the GPU that the placement names.
    Gpu,
    /// Wherever the model itself says.
    Model,
}

impl InstanceKind {
    /// As a Python model is told it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Model => "MODEL",
        }
    }
}

/// An instance and how it wants to be driven.
pub enum Seat {
    /// Computes in this process and blocks while it does, so it gets a thread of its own.
    Thread(Box<dyn Instance>),
    /// Passes the batch on (to a process, to another machine) or is done at once, and never
    /// blocks: it is called by whoever brings the request, with no thread in between. It may hold
    /// `depth` batches at a time.
    Handoff { instance: Box<dyn Instance>, depth: usize },
}

/// One execution context.
pub trait Instance: Send + 'static {
    /// Runs a batch.
    ///
    /// Every request must be answered through its responder, exactly once (or, by a decoupled
    /// model, any number of times and then finished), or given back by [`Batch::reschedule`]. The batch may be kept and completed later,
    /// from another thread; dropping it tells the scheduler that its place is free. `&mut` is the
    /// rule that an instance is never entered twice at the same time.
    fn execute(&mut self, batch: Batch);
}
