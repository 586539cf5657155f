//! The contract's three traits for TorchScript models.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use nereid_backend::{
    Backend, Batch, GatheredInput, Host, Instance, Model, ModelSource, Placement, Seat, gather,
    scatter,
};
use nereid_inference::{Buffer, DataType, Error, Result, Tensor, element_count};
use nereid_model_config::ModelConfig;

use crate::library::{Module, Shim};
use crate::{build, discover};

const DEFAULT_FILE: &str = "model.pt";

/// The backend `pytorch`. Its settings: `libtorch` (the folder of an installation).
#[derive(Default)]
pub struct PytorchBackend {
    /// Opened when the first model asks for it; there can only be one libtorch in a process.
    shim: Mutex<Option<Arc<Shim>>>,
}

impl PytorchBackend {
    pub fn new() -> Self {
        Self::default()
    }

    fn shim(&self, source: &ModelSource) -> Result<Arc<Shim>> {
        let mut shim = self.shim.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*shim {
            return Ok(open.clone());
        }
        let libtorch = discover::find(source.setting("libtorch"))?;
        let opened = Shim::open(&build::shim(&libtorch)?)?;
        Ok(shim.insert(opened).clone())
    }
}

impl Backend for PytorchBackend {
    fn name(&self) -> &'static str {
        "pytorch"
    }

    fn default_filename(&self) -> Option<&'static str> {
        Some(DEFAULT_FILE)
    }

    fn load(&self, source: &ModelSource, _host: &Host) -> Result<Box<dyn Model>> {
        let path = source.model_file(DEFAULT_FILE);
        if !path.is_file() {
            return Err(Error::not_found(format!("{} is not a file", path.display())));
        }
        let shim = self.shim(source)?;
        if let Some(threads) = source.config.parameter("INTRA_OP_THREAD_COUNT") {
            shim.set_threads(threads.parse().map_err(|_| {
                Error::invalid_arg(format!(
                    "parameter 'INTRA_OP_THREAD_COUNT' must be a number, got '{threads}'"
                ))
            })?);
        }
        let module = Module::load(&shim, &path)?;
        let order = argument_order(&source.config, &module.arguments());
        let torchscript = Arc::new(TorchScript { module, order, config: source.config.clone() });
        torchscript.warm_up();
        Ok(Box::new(TorchModel(torchscript)))
    }
}

/// For each argument of the module, which input of the configuration it is: by the number in
/// `<name>__<number>`, else by the argument's name, else by order.
fn argument_order(config: &ModelConfig, arguments: &[String]) -> Vec<usize> {
    let names: Vec<&str> = config.input.iter().map(|input| input.name.as_str()).collect();
    if let Some(numbers) = names.iter().map(|name| number_of(name)).collect::<Option<Vec<_>>>() {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|&index| numbers[index]);
        return order;
    }
    let by_name = arguments.iter().take(names.len());
    let by_name: Option<Vec<usize>> =
        by_name.map(|argument| names.iter().position(|name| name == argument)).collect();
    by_name.filter(|order| order.len() == names.len()).unwrap_or((0..names.len()).collect())
}

/// The number behind the last `__` of a name.
fn number_of(name: &str) -> Option<usize> {
    name.rsplit_once("__")?.1.parse().ok()
}

struct TorchScript {
    module: Module,
    order: Vec<usize>,
    config: Arc<ModelConfig>,
}

impl TorchScript {
    fn run(&self, inputs: &[GatheredInput]) -> Result<Vec<Tensor>> {
        let ordered: Vec<&GatheredInput> = self
            .order
            .iter()
            .filter_map(|&index| {
                let name = &self.config.input[index].name;
                inputs.iter().find(|input| input.name == *name)
            })
            .collect();
        let mut outputs: Vec<Option<_>> =
            self.module.forward(&ordered)?.into_iter().map(Some).collect();
        let mut named = Vec::with_capacity(self.config.output.len());
        for (position, output) in self.config.output.iter().enumerate() {
            let index = number_of(&output.name).unwrap_or(position);
            let found = outputs.get_mut(index).and_then(Option::take).ok_or_else(|| {
                Error::internal(format!(
                    "the model returned no tensor for output '{}' (number {index})",
                    output.name
                ))
            })?;
            if output.datatype() != Some(found.datatype) {
                return Err(Error::internal(format!(
                    "configuration expects datatype {} for output '{}', the model gives {}",
                    output.datatype().map_or("<invalid>", DataType::name),
                    output.name,
                    found.datatype
                )));
            }
            named.push(Tensor {
                name: output.name.clone(),
                datatype: found.datatype,
                shape: found.shape,
                data: Buffer::One(found.data),
            });
        }
        Ok(named)
    }

    /// The first runs of a module optimise it and are slow. Where the shapes are known, they are
    /// done here, with zeros; a module that cannot take zeros says so in the log only.
    fn warm_up(&self) {
        let batch = (self.config.max_batch_size > 0).then_some(1);
        let inputs: Option<Vec<GatheredInput>> = self
            .config
            .input
            .iter()
            .map(|input| {
                let shape: Vec<i64> = batch.into_iter().chain(input.dims.iter().copied()).collect();
                let datatype = input.datatype()?;
                let len = element_count(&shape)? * datatype.byte_size()?;
                let data = Bytes::from(vec![0; len]);
                Some(GatheredInput { name: input.name.clone(), datatype, shape, data })
            })
            .collect();
        for _ in 0..2 {
            if let Some(Err(error)) = inputs.as_deref().map(|inputs| self.run(inputs)) {
                tracing::info!("warm-up of '{}' failed: {error}", self.config.name);
                return;
            }
        }
    }
}

struct TorchModel(Arc<TorchScript>);

impl Model for TorchModel {
    fn instantiate(&self, _placement: &Placement) -> Result<Seat> {
        Ok(Seat::Thread(Box::new(TorchInstance(self.0.clone()))))
    }
}

struct TorchInstance(Arc<TorchScript>);

impl Instance for TorchInstance {
    fn execute(&mut self, mut batch: Batch) {
        let inputs = gather(&batch.requests);
        batch.mark_input_ready();
        match inputs.and_then(|inputs| self.0.run(&inputs)) {
            Ok(outputs) => scatter(batch, outputs),
            Err(error) => batch.fail(&error),
        }
    }
}
