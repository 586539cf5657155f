//! The contract's three traits for Python models.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};

use nereid_backend::{
    Backend, Batch, Finding, Host, Instance, Model, ModelSource, Placement, Seat,
};
use nereid_inference::{Error, Result, Watch};
use nereid_model_config::ModelConfig;

use crate::check;
use crate::complete::complete;
use crate::devices;
use crate::environment::Environment;
use crate::launch::{Files, Launch, python_path};
use crate::link::Link;
use crate::options::Options;
use crate::peers::Peers;
use crate::supervise::supervise;
use crate::worker_files;

const DEFAULT_FILE: &str = "model.py";

/// Requests that a worker is sent before it has answered the first: while it computes, the next
/// ones are already in its pipe. They can no longer be taken back, so the number is small.
const DEPTH: usize = 8;

/// The backend `python`. Its settings: `python` (the interpreter, default `python3` of the PATH).
#[derive(Default)]
pub struct PythonBackend {
    /// Where the worker package was unpacked, once the first model asked for it.
    worker_dir: Mutex<Option<PathBuf>>,
    peers: Arc<Peers>,
}

impl PythonBackend {
    pub fn new() -> Self {
        Self::default()
    }

    fn worker_dir(&self) -> Result<PathBuf> {
        let mut unpacked = self.worker_dir.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &*unpacked {
            return Ok(path.clone());
        }
        let path = worker_files::unpack().map_err(|error| {
            Error::internal(format!("failed to unpack the Python worker: {error}"))
        })?;
        Ok(unpacked.insert(path).clone())
    }

    /// Loads a model whose `model.py` is not in the repository: `text` is what stands in it.
    pub fn load_text(
        &self,
        source: &ModelSource,
        host: &Host,
        text: &str,
    ) -> Result<Box<dyn Model>> {
        let file = worker_files::keep(text).map_err(|error| {
            Error::internal(format!("failed to keep a file for Python: {error}"))
        })?;
        self.load_file(source, host, file, None)
    }

    fn load_file(
        &self,
        source: &ModelSource,
        host: &Host,
        model_file: PathBuf,
        backend_dir: Option<&Path>,
    ) -> Result<Box<dyn Model>> {
        if !model_file.is_file() {
            return Err(Error::not_found(format!("{} is not a file", model_file.display())));
        }
        warn_of_stub(source);
        Ok(Box::new(PythonModel {
            options: Options::read(source)?,
            environment: Environment::of(source)?,
            source: source.clone(),
            host: host.clone(),
            peers: self.peers.clone(),
            links: Mutex::default(),
            files: Files {
                model: model_file,
                backend_dir: backend_dir.map(Path::to_owned),
                worker: self.worker_dir()?,
            },
        }))
    }

    fn complete(
        &self,
        source: &ModelSource,
        config: &mut ModelConfig,
        model_file: &Path,
        backend_dir: Option<&Path>,
    ) -> Result<()> {
        let python_path = python_path(&self.worker_dir()?);
        if let Some(completed) = complete(source, config, model_file, backend_dir, python_path)? {
            *config = completed;
        }
        Ok(())
    }
}

impl Backend for PythonBackend {
    fn name(&self) -> &'static str {
        "python"
    }

    fn default_filename(&self) -> Option<&'static str> {
        Some(DEFAULT_FILE)
    }

    fn gpus(&self) -> usize {
        devices::count()
    }

    fn complete_config(&self, source: &ModelSource, config: &mut ModelConfig) -> Result<()> {
        self.complete(source, config, &source.model_file(DEFAULT_FILE), None)
    }

    fn check(&self, source: &ModelSource) -> Vec<Finding> {
        match self.worker_dir() {
            Ok(worker_dir) => check::check(source, &source.model_file(DEFAULT_FILE), &worker_dir),
            Err(error) => vec![error.into()],
        }
    }

    fn draft(&self, source: &ModelSource) -> Result<ModelConfig> {
        check::draft(source, &source.model_file(DEFAULT_FILE), &self.worker_dir()?)
    }

    fn load(&self, source: &ModelSource, host: &Host) -> Result<Box<dyn Model>> {
        self.load_file(source, host, source.model_file(DEFAULT_FILE), None)
    }
}

/// A backend that is itself written in Python: its `model.py` runs the models that name it, unless
/// one has its own.
pub struct PythonBased {
    name: &'static str,
    folder: PathBuf,
    python: Arc<PythonBackend>,
}

impl PythonBased {
    /// The backends of this kind in a backend directory: every `<name>/model.py`.
    pub fn find(directory: &Path, python: &Arc<PythonBackend>) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
        let mut folders: Vec<PathBuf> =
            entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        folders.sort();
        let backend = |folder: PathBuf| {
            let name = folder.file_name()?.to_str().filter(|&name| name != "python")?;
            folder.join(DEFAULT_FILE).is_file().then(|| Self {
                // A few bytes, once for each backend of the server.
                name: String::from(name).leak(),
                folder: folder.clone(),
                python: python.clone(),
            })
        };
        folders.into_iter().filter_map(backend).collect()
    }

    fn model_file(&self, source: &ModelSource) -> PathBuf {
        let own = source.model_file(DEFAULT_FILE);
        if own.is_file() { own } else { self.folder.join(DEFAULT_FILE) }
    }
}

impl Backend for PythonBased {
    fn name(&self) -> &'static str {
        self.name
    }

    fn based_on(&self) -> Option<&'static str> {
        Some(self.python.name())
    }

    fn gpus(&self) -> usize {
        self.python.gpus()
    }

    fn complete_config(&self, source: &ModelSource, config: &mut ModelConfig) -> Result<()> {
        self.python.complete(source, config, &self.model_file(source), Some(&self.folder))
    }

    fn load(&self, source: &ModelSource, host: &Host) -> Result<Box<dyn Model>> {
        self.python.load_file(source, host, self.model_file(source), Some(&self.folder))
    }
}

/// Triton needs a program of its own for every version of Python; here any interpreter will do.
fn warn_of_stub(source: &ModelSource) {
    let stub = source.model_dir.join("triton_python_backend_stub");
    if stub.exists() {
        tracing::warn!(
            "{}: {} is not used; the model's parameter 'python' or 'EXECUTION_ENV_PATH' chooses \
             another interpreter",
            source.name,
            stub.display()
        );
    }
}

struct PythonModel {
    options: Options,
    environment: Environment,
    source: ModelSource,
    host: Host,
    peers: Arc<Peers>,
    /// Of its instances.
    links: Mutex<Vec<Weak<Link>>>,
    files: Files,
}

impl Model for PythonModel {
    /// Starts a worker and waits until its `initialize` has returned.
    fn instantiate(&self, placement: &Placement) -> Result<Seat> {
        let launch = Launch::new(
            &self.source,
            &self.files,
            &self.host,
            placement,
            &self.options,
            &self.environment,
        );
        let (host, peers) = (self.host.clone(), self.peers.clone());
        let link = Arc::new(Link::new(&self.source, placement, host, peers));
        let starting = Arc::downgrade(&link);
        let ending = self.host.ending.watch(move || {
            if let Some(link) = starting.upgrade() {
                link.give_up();
            }
        });
        let (report, first_start) = mpsc::channel();
        self.host.reactor.spawn(supervise(link.clone(), launch, report));
        let instance = Box::new(PythonInstance { link: link.clone(), _ending: ending });
        first_start.recv().unwrap_or_else(|_| Err(Error::unavailable("the server is stopping")))?;
        self.peers.join(&link);
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.push(Arc::downgrade(&link));
        Ok(Seat::Handoff { instance, depth: DEPTH.max(self.options.threads) })
    }

    /// Ready are all of its instances, or it is not.
    fn is_ready(&self, answer: Box<dyn FnOnce(bool) + Send>) {
        let links: Vec<_> = {
            let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.iter().filter_map(Weak::upgrade).collect()
        };
        let rest = Arc::new(Mutex::new((links.len(), true, Some(answer))));
        for link in &links {
            let rest = rest.clone();
            link.ask_ready(Box::new(move |ready| {
                let mut rest = rest.lock().unwrap_or_else(PoisonError::into_inner);
                rest.0 -= 1;
                rest.1 &= ready;
                if rest.0 == 0
                    && let Some(answer) = rest.2.take()
                {
                    answer(rest.1);
                }
            }));
        }
        if links.is_empty()
            && let Some(answer) = rest.lock().unwrap_or_else(PoisonError::into_inner).2.take()
        {
            answer(true);
        }
    }

    fn takes_devices(&self) -> bool {
        self.options.device_inputs && devices::count() > 0
    }
}

/// Dropping it lets the worker finalize and ends it.
struct PythonInstance {
    link: Arc<Link>,
    _ending: Watch,
}

impl Instance for PythonInstance {
    fn execute(&mut self, batch: Batch) {
        self.link.execute(batch);
    }
}

impl Drop for PythonInstance {
    fn drop(&mut self) {
        self.link.stop();
    }
}
