//! From a model's folder to versions that can serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use nereid_backend::{Backend, Host, Model, ModelSource};
use nereid_cache::ResponseCache;
use nereid_inference::{Error, Result};
use nereid_model_config::{
    self as model_config, ModelConfig, ModelTransactionPolicy, model_ensembling::Step,
};
use nereid_repository::{ModelFolder, Repository, VersionPolicy, scan};
use nereid_scheduler::Hold;

use crate::admit::Signature;
use crate::agents;
use crate::caching::Caching;
use crate::catalog::Catalog;
use crate::ensemble::{self, Ensemble};
use crate::instances::{self, Instances};
use crate::labels::Labels;
use crate::latencies::{Latencies, LatencySettings};
use crate::latency_target::LatencyTarget;
use crate::limits::{Limiter, Limits};
use crate::metrics::metric_labels;
use crate::model::{ModelVersion, Scheduler};
use crate::namespaces::Names;
use crate::pool::Pool;
use crate::registered::Registered;
use crate::reshape::Reshapes;
use crate::scheduling::Scheduling;
use crate::statistics::Recorder;
use crate::warmup::{Recipe, Warmup};

/// Where models come from and what runs them.
pub struct Repositories {
    pub paths: Vec<Repository>,
    /// Whether models of one name may be in several of them.
    pub namespaces: bool,
    pub backends: Vec<Box<dyn Backend>>,
    pub host: Host,
    /// `--backend-config`: backend, key, value. An empty backend means all of them.
    pub backend_settings: Vec<(String, String, String)>,
    /// Models loaded at the same time.
    pub load_threads: usize,
    /// How often a version is loaded again that could not be loaded.
    pub load_retries: u32,
    /// Whether configurations are completed from the models' files.
    pub auto_complete: bool,
    /// `--model-config-name`: a model's `configs/<name>.pbtxt` goes before its `config.pbtxt`.
    pub config_name: Option<String>,
    /// Where the responses of models that ask for it are kept.
    pub cache: Option<Arc<ResponseCache>>,
    /// What models have to share, if anything.
    pub limiter: Option<Arc<Limiter>>,
    pub latencies: LatencySettings,
    /// Repositories that have become known since.
    pub registered: Registered,
}

/// What repositories hold, by name or identifier.
pub(crate) type Found = BTreeMap<String, Vec<ModelFolder>>;

/// What was found in repositories, and why others could not be read.
#[derive(Default)]
pub(crate) struct Look {
    pub(crate) found: Found,
    pub(crate) silent: Vec<Error>,
}

/// A model as its folder describes it.
pub(crate) struct Prepared {
    pub(crate) folder: ModelFolder,
    pub(crate) config: ModelConfig,
}

impl Repositories {
    /// What they hold now.
    pub(crate) fn found(&self) -> Result<Found> {
        let Look { found, silent } = self.look();
        silent.into_iter().next().map_or(Ok(found), Err)
    }

    /// What they hold now, as far as they can be read.
    pub(crate) fn look(&self) -> Look {
        let mut look = Look::default();
        for repository in &self.paths {
            match scan(std::slice::from_ref(repository), self.namespaces) {
                Ok(found) => {
                    for (id, folders) in found {
                        look.found.entry(id).or_default().extend(folders);
                    }
                }
                Err(error) => look.silent.push(error),
            }
        }
        self.add_registered(&mut look);
        look
    }

    /// Reads what is needed to know of a model before it is loaded. `config`: JSON that takes the
    /// place of its configuration file. `names`: the models that there are.
    pub(crate) fn prepare(
        &self,
        folder: &ModelFolder,
        config: Option<&str>,
        names: &Names,
    ) -> Result<Prepared> {
        folder.fetch()?;
        let mut config = match config {
            Some(json) => accepted(folder, model_config::from_json(json)?)?,
            None => self.read_config(folder)?,
        };
        folder.fetch_versions(&version_policy(&config).choose(&folder.versions()?))?;
        agents::run(folder, &config)?;
        names.resolve(&mut config, &folder.namespace);
        if self.auto_complete && config.backend_name().is_empty() && !config.is_ensemble() {
            config.backend = self.backend_by_files(folder, &config)?.unwrap_or_default().to_owned();
        }
        Ok(Prepared { folder: folder.clone(), config })
    }

    fn read_config(&self, folder: &ModelFolder) -> Result<ModelConfig> {
        match folder.config_text(self.config_name.as_deref())? {
            Some((path, text)) => {
                let mut config = model_config::parse(&text, &path)?;
                if self.registered.renames(&folder.name) {
                    config.name.clear();
                }
                accepted(folder, config)
            }
            None => accepted(folder, ModelConfig::default()),
        }
    }

    pub(crate) fn load_version(
        &self,
        prepared: &Prepared,
        version: i64,
        catalog: &Catalog,
    ) -> Result<Arc<ModelVersion>> {
        if prepared.config.is_ensemble() {
            self.load_ensemble(prepared, version, catalog)
        } else {
            self.load_model(prepared, version)
        }
    }

    fn load_ensemble(
        &self,
        prepared: &Prepared,
        version: i64,
        catalog: &Catalog,
    ) -> Result<Arc<ModelVersion>> {
        let began = Instant::now();
        let mut config = complete_ensemble(prepared)?;
        let id = prepared.folder.id();
        let member = |step: &Step| ensemble::loaded_member(&id, step, catalog);
        let decoupled = ensemble::validate(&config, member)?;
        if decoupled.contains(&true) {
            config.model_transaction_policy = Some(ModelTransactionPolicy { decoupled: true });
            model_config::validate(&config, 0)?;
        }
        let recorder = self.recorder(&config);
        let ensemble =
            Ensemble::new(&config, &self.host.service, &self.host.reactor, &recorder, &decoupled);
        let scheduler = Scheduler::Ensemble(ensemble);
        self.finished(prepared, version, Arc::new(config), recorder, scheduler, began)
    }

    fn load_model(&self, prepared: &Prepared, version: i64) -> Result<Arc<ModelVersion>> {
        let began = Instant::now();
        let backend = self.backend(&prepared.folder.name, &prepared.config)?;
        let source = self.complete(self.source(prepared, version, backend), backend)?;
        let model: Arc<dyn Model> = Arc::from(backend.load(&source, &self.host)?);
        let limits = Limits::new(&source.config, self.limiter.as_ref())?;
        let active = instances::active_count(&source.config);
        let hold = Hold::from_environment();
        let scheduling = Scheduling::new(&source.config, &source.model_dir, active, hold)?;
        let warmup = warmup(&source)?;
        let planned = instances::plan(&source.config);
        let instances = Instances::start(&model, planned, |runner, placement| {
            warmup.run(runner, placement, scheduling.sequencing.as_ref())
        })?;
        let recorder = self.recorder(&source.config);
        let reactor = self.host.reactor.clone();
        let pool = Pool::new(instances, scheduling, limits, recorder.clone(), reactor);
        self.finished(prepared, version, source.config, recorder, Scheduler::Pool(pool), began)
    }

    /// A version with the configuration as it was written.
    pub(crate) fn source(
        &self,
        prepared: &Prepared,
        version: i64,
        backend: &dyn Backend,
    ) -> ModelSource {
        let folder = &prepared.folder;
        ModelSource {
            name: folder.name.clone(),
            version,
            model_dir: folder.path.clone(),
            version_dir: folder.path.join(version.to_string()),
            config: Arc::new(prepared.config.clone()),
            settings: self.settings_for(backend),
        }
    }

    /// The version with its configuration completed and validated.
    pub(crate) fn complete(
        &self,
        mut source: ModelSource,
        backend: &dyn Backend,
    ) -> Result<ModelSource> {
        let mut config = ModelConfig::clone(&source.config);
        if self.auto_complete {
            backend.complete_config(&source, &mut config)?;
        }
        fill_and_validate(&mut config, &source.name, backend)?;
        source.config = Arc::new(config);
        Ok(source)
    }

    pub(crate) fn finished(
        &self,
        prepared: &Prepared,
        version: i64,
        config: Arc<ModelConfig>,
        recorder: Arc<Recorder>,
        scheduler: Scheduler,
        began: Instant,
    ) -> Result<Arc<ModelVersion>> {
        Ok(Arc::new(ModelVersion {
            name: config.name.clone(),
            version,
            _folder: prepared.folder.clone(),
            signature: Signature::new(&config)?,
            reshapes: Reshapes::new(&config),
            labels: Labels::read(&config, &prepared.folder.path)?,
            limiter: self.limiter.clone(),
            latency_target: LatencyTarget::new(&config)?,
            caching: Caching::new(&config, self.cache.as_ref()),
            metric_labels: metric_labels(&config, &prepared.folder.namespace, version),
            config,
            recorder,
            scheduler,
            load_duration: began.elapsed(),
        }))
    }

    fn recorder(&self, config: &ModelConfig) -> Arc<Recorder> {
        Arc::new(Recorder::new(Latencies::new(&self.latencies, config)))
    }

    /// The backend of a model whose configuration names none: the one whose file lies in a version
    /// folder, else the one in the folder's name (`<model>.<backend>`).
    fn backend_by_files(
        &self,
        folder: &ModelFolder,
        config: &ModelConfig,
    ) -> Result<Option<&'static str>> {
        let versions = version_policy(config).choose(&folder.versions()?);
        let has = |file: &str| {
            versions.iter().any(|version| folder.path.join(version.to_string()).join(file).exists())
        };
        let mut backends = self.backends.iter();
        let by_file = backends.find(|backend| backend.default_filename().is_some_and(has));
        let by_name = || {
            let (_, extension) = folder.name.rsplit_once('.')?;
            self.backends.iter().find(|backend| backend.name() == extension)
        };
        Ok(by_file.or_else(by_name).map(|backend| backend.name()))
    }

    pub(crate) fn backend(&self, model: &str, config: &ModelConfig) -> Result<&dyn Backend> {
        let name = config.backend_name();
        if name.is_empty() {
            return Err(Error::invalid_arg(format!(
                "unexpected platform type '{}' for {model}: must specify 'platform' or 'backend'",
                config.platform
            )));
        }
        let found = self.backends.iter().find(|backend| backend.name() == name);
        found.map(Box::as_ref).ok_or_else(|| {
            Error::invalid_arg(format!(
                "unable to find backend library for backend '{name}', try specifying runtime on \
                 the model configuration."
            ))
        })
    }

    fn settings_for(&self, backend: &dyn Backend) -> Vec<(String, String)> {
        self.backend_settings
            .iter()
            .filter(|(name, ..)| {
                name.is_empty()
                    || name == backend.name()
                    || backend.based_on().is_some_and(|base| name == base)
            })
            .map(|(_, key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// The configuration of an ensemble, completed and validated but for its models.
pub(crate) fn complete_ensemble(prepared: &Prepared) -> Result<ModelConfig> {
    let mut config = prepared.config.clone();
    model_config::fill_defaults(&mut config, &prepared.folder.name, None, 0);
    model_config::validate(&config, 0)?;
    Ok(config)
}

/// Completes and validates the configuration of a model that `backend` runs.
pub(crate) fn fill_and_validate(
    config: &mut ModelConfig,
    model_name: &str,
    backend: &dyn Backend,
) -> Result<()> {
    let gpus = backend.gpus();
    model_config::fill_defaults(config, model_name, backend.default_filename(), gpus);
    model_config::validate(config, gpus)
}

/// A configuration that does not name its model gets the folder's name; another one is a mistake.
pub(crate) fn accepted(folder: &ModelFolder, mut config: ModelConfig) -> Result<ModelConfig> {
    if config.name.is_empty() {
        config.name.clone_from(&folder.name);
    } else if config.name != folder.name {
        return Err(Error::invalid_arg(format!(
            "unexpected directory name '{}' for model '{}', directory name must equal model name",
            folder.name, config.name
        )));
    }
    Ok(config)
}

/// The versions that the model's policy chooses, ascending.
pub(crate) fn chosen_versions(folder: &ModelFolder, config: &ModelConfig) -> Result<Vec<i64>> {
    let versions = version_policy(config).choose(&folder.versions()?);
    if versions.is_empty() {
        return Err(Error::invalid_arg(format!(
            "at least one version must be available under the version policy of model '{}'",
            folder.name
        )));
    }
    Ok(versions)
}

fn version_policy(config: &ModelConfig) -> VersionPolicy {
    use model_config::proto::model_version_policy::PolicyChoice;
    match config.version_policy.as_ref().and_then(|policy| policy.policy_choice.as_ref()) {
        Some(PolicyChoice::All(_)) => VersionPolicy::All,
        Some(PolicyChoice::Specific(specific)) => {
            VersionPolicy::Specific(specific.versions.clone())
        }
        Some(PolicyChoice::Latest(latest)) => VersionPolicy::Latest(latest.num_versions as usize),
        None => VersionPolicy::Latest(1),
    }
}

/// What every instance of a model runs before its version serves.
pub(crate) fn warmup(source: &ModelSource) -> Result<Warmup> {
    let config = &source.config;
    let recipe = Recipe {
        config,
        signature: &Signature::new(config)?,
        reshapes: &Reshapes::new(config),
        model_dir: &source.model_dir,
    };
    Warmup::new(config, &recipe)
}
