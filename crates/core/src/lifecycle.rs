//! Brings models from the repository into the catalog.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nereid_backend::{Backend, Host, Model, ModelSource, Placement};
use nereid_inference::{Error, Result};
use nereid_model_config::{self as model_config, ModelConfig};
use nereid_repository::{ModelFolder, VersionPolicy, scan};

use crate::admit::Signature;
use crate::catalog::{ModelState, VersionState};
use crate::model::ModelVersion;
use crate::pool::Pool;
use crate::reshape::Reshapes;
use crate::scheduling::Scheduling;
use crate::seat::Runner;
use crate::server::Server;
use crate::statistics::Recorder;

/// Where models come from and how they are loaded.
pub struct Repositories {
    pub paths: Vec<PathBuf>,
    pub backends: Vec<Box<dyn Backend>>,
    pub host: Host,
    /// `--backend-config`: backend, key, value. An empty backend means all of them.
    pub backend_settings: Vec<(String, String, String)>,
    /// Models loaded at the same time.
    pub load_threads: usize,
}

impl Repositories {
    /// Loads everything that the repositories hold, publishing each version as it becomes ready.
    /// Blocks until all were tried. An error means that a repository could not be read at all.
    pub fn load_all(&self, server: &Server) -> Result<()> {
        let found = scan(&self.paths)?;
        server.publish_all(found.keys().map(|name| (name.clone(), Arc::default())).collect());
        let waiting = Mutex::new(found.into_iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            for _ in 0..self.load_threads.max(1) {
                scope.spawn(|| {
                    while let Some((name, folders)) = next() {
                        self.load_model(server, &name, &folders);
                    }
                });
            }
        });
        server.finish_start();
        Ok(())
    }

    fn load_model(&self, server: &Server, name: &str, folders: &[ModelFolder]) {
        if let Err(error) = self.try_load_model(server, name, folders) {
            tracing::error!("failed to load '{name}': {error}");
            server.publish(name, |model| model.reason = Some(error.clone()));
        }
    }

    fn try_load_model(&self, server: &Server, name: &str, folders: &[ModelFolder]) -> Result<()> {
        let folder = match folders {
            [folder] => folder,
            _ => {
                let paths: Vec<_> = folders.iter().map(|f| f.path.display().to_string()).collect();
                return Err(Error::invalid_arg(format!(
                    "model '{name}' is in several repositories: {}",
                    paths.join(", ")
                )));
            }
        };
        let mut config = read_config(folder)?;
        if config.backend_name().is_empty() && !config.is_ensemble() {
            config.backend = self.backend_by_files(folder, &config)?.unwrap_or_default().to_owned();
        }
        let backend = self.backend(name, &config)?;
        let versions = chosen_versions(folder, &config)?;
        server.publish(name, |model: &mut ModelState| {
            model.versions =
                versions.iter().map(|&version| (version, VersionState::Loading)).collect();
        });
        for version in versions {
            let state = match self.load_version(folder, version, &config, backend) {
                Ok(loaded) => {
                    tracing::info!("successfully loaded '{name}' version {version}");
                    VersionState::Ready(loaded)
                }
                Err(error) => {
                    tracing::error!("failed to load '{name}' version {version}: {error}");
                    VersionState::Unavailable(error)
                }
            };
            server.publish_version(name, version, &state);
        }
        Ok(())
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

    fn backend(&self, model: &str, config: &ModelConfig) -> Result<&dyn Backend> {
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

    fn load_version(
        &self,
        folder: &ModelFolder,
        version: i64,
        config: &ModelConfig,
        backend: &dyn Backend,
    ) -> Result<Arc<ModelVersion>> {
        let name = &folder.name;
        let mut source = ModelSource {
            name: name.clone(),
            version,
            model_dir: folder.path.clone(),
            version_dir: folder.path.join(version.to_string()),
            config: Arc::new(config.clone()),
            settings: self.settings_for(backend.name()),
        };
        let mut config = config.clone();
        backend.complete_config(&source, &mut config)?;
        model_config::fill_defaults(&mut config, name, backend.default_filename());
        model_config::validate(&config)?;
        refuse_unsupported(&config)?;
        source.config = Arc::new(config);
        let model: Arc<dyn Model> = Arc::from(backend.load(&source, &self.host)?);
        let runners = start_instances(&model, &source.config)?;
        let recorder = Arc::new(Recorder::default());
        let scheduling = Scheduling::new(&source.config, &source.model_dir, runners.len())?;
        let pool = Pool::new(runners, scheduling, recorder.clone(), self.host.reactor.clone());
        Ok(Arc::new(ModelVersion {
            name: name.clone(),
            version,
            signature: Signature::new(&source.config)?,
            reshapes: Reshapes::new(&source.config),
            config: source.config,
            recorder,
            pool,
        }))
    }

    fn settings_for(&self, backend: &str) -> Vec<(String, String)> {
        self.backend_settings
            .iter()
            .filter(|(name, ..)| name.is_empty() || name == backend)
            .map(|(_, key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

fn read_config(folder: &ModelFolder) -> Result<ModelConfig> {
    let mut config = match folder.config_text()? {
        Some((path, text)) => model_config::parse(&text, &path)?,
        None => ModelConfig::default(),
    };
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

fn chosen_versions(folder: &ModelFolder, config: &ModelConfig) -> Result<Vec<i64>> {
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

/// What a configuration may ask for and this version cannot do is refused, not ignored.
fn refuse_unsupported(config: &ModelConfig) -> Result<()> {
    let refused = [
        (
            config.sequence_batching().is_some_and(|sequence| sequence.iterative_sequence),
            "iterative_sequence",
        ),
        (config.ensemble_scheduling().is_some(), "ensemble_scheduling"),
        (config.response_cache.as_ref().is_some_and(|cache| cache.enable), "response_cache"),
        (!config.model_warmup.is_empty(), "model_warmup"),
        (!config.batch_input.is_empty(), "batch_input"),
        (!config.batch_output.is_empty(), "batch_output"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => {
            Err(Error::unsupported(format!("model '{}': {what} is not supported yet", config.name)))
        }
        None => Ok(()),
    }
}

/// Starts every instance of every group, in parallel: a Python worker takes its time to import.
fn start_instances(model: &Arc<dyn Model>, config: &ModelConfig) -> Result<Vec<Runner>> {
    let mut placements = Vec::new();
    for group in config.instance_group.iter().filter(|group| !group.passive) {
        for number in 0..group.count.max(0) {
            let name = format!("{}_{number}", group.name);
            placements.push(Placement { name, index: placements.len(), device_id: 0 });
        }
    }
    std::thread::scope(|scope| {
        let starting: Vec<_> = placements
            .iter()
            .map(|placement| scope.spawn(|| Runner::start(model, placement)))
            .collect();
        starting
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::internal("loading panicked")))
            })
            .collect()
    })
}
