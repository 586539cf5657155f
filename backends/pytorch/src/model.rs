//! A loaded TorchScript model and its instances.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};

use nereid_backend::{
    Batch, BatchLayout, GatheredInput, Instance, Model, ModelSource, Placement, Seat,
};
use nereid_inference::{DataType, Error, Result, Tensor, display_shape, element_count};

use crate::archive::Forward;
use crate::datatypes::scalar_type;
use crate::ffi::{Argument, Module, Options, Shim, TorchOutput};
use crate::mapping::{self, Signature};
use crate::outputs::{OutputSpecs, missing_output};
use crate::parameters::Parameters;
use crate::warmup;

/// One version. Its instances share the module if runs do not change it, so that weights are in
/// memory once; else each has its own, as in Triton.
pub(crate) struct TorchModel {
    shim: Arc<Shim>,
    path: PathBuf,
    plan: Arc<Plan>,
    shared: bool,
    loaded: Mutex<Option<Arc<Module>>>,
}

/// How a module is called: the same for all instances.
pub(crate) struct Plan {
    model: String,
    options: Options,
    signature: Signature,
    /// Name, name for the shim, position among the arguments.
    inputs: Vec<(String, CString, usize)>,
    outputs: OutputSpecs,
    batches: bool,
    layout: BatchLayout,
}

impl TorchModel {
    pub(crate) fn load(
        shim: &Arc<Shim>,
        path: PathBuf,
        source: &ModelSource,
        parameters: &Parameters,
    ) -> Result<Self> {
        set_threads(shim, &source.name, parameters);
        let module = load_module(shim, &path, &source.name, &parameters.options)?;
        let plan = Plan::of(&module, source, parameters.options)?;
        refuse_missing_results(&path, source)?;
        let shared = plan.signature.shared || parameters.share;
        if shared {
            warmup::run(&plan, &module, &source.config);
        }
        let loaded = Mutex::new(Some(Arc::new(module)));
        Ok(Self { shim: shim.clone(), path, plan: Arc::new(plan), shared, loaded })
    }

    /// The module for one more instance.
    fn module(&self) -> Result<Arc<Module>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = if self.shared { loaded.clone() } else { loaded.take() };
        match ready {
            Some(module) => Ok(module),
            None => {
                let options = &self.plan.options;
                load_module(&self.shim, &self.path, &self.plan.model, options).map(Arc::new)
            }
        }
    }
}

/// Where the file says how many values the module returns, an output behind them would never come,
/// and a state least of all.
fn refuse_missing_results(path: &Path, source: &ModelSource) -> Result<()> {
    let Some(results) = Forward::read(path).ok().and_then(|forward| forward.results) else {
        return Ok(());
    };
    match mapping::outputs(&source.config).into_iter().find(|(_, index)| *index >= results) {
        Some((name, _)) => Err(missing_output(name, results)),
        None => Ok(()),
    }
}

pub(crate) fn load_module(
    shim: &Arc<Shim>,
    path: &Path,
    model: &str,
    options: &Options,
) -> Result<Module> {
    Module::load(shim, path, options).map_err(|message| {
        let path = path.display();
        Error::internal(format!("failed to load model '{model}': {path}: {message}"))
    })
}

/// libtorch has these pools once in a process: as in Triton, the first model that asks decides.
fn set_threads(shim: &Shim, model: &str, parameters: &Parameters) {
    static INTRA_OP: Once = Once::new();
    static INTER_OP: Once = Once::new();
    let set = |once: &Once, what: &str, intra_op: i32, inter_op: i32| {
        if intra_op + inter_op == 0 {
            return;
        }
        once.call_once(|| match shim.set_threads(intra_op, inter_op) {
            Ok(()) => tracing::info!("'{model}' sets {what} to {}", intra_op + inter_op),
            Err(message) => tracing::warn!("'{model}' cannot set {what}: {message}"),
        });
    };
    set(&INTRA_OP, "INTRA_OP_THREAD_COUNT", parameters.intra_op, 0);
    set(&INTER_OP, "INTER_OP_THREAD_COUNT", 0, parameters.inter_op);
}

impl Plan {
    pub(crate) fn of(module: &Module, source: &ModelSource, options: Options) -> Result<Self> {
        let described = module.describe().map_err(|message| {
            Error::internal(format!("failed to load model '{}': {message}", source.name))
        })?;
        Self::new(source, options, Signature::parse(&described))
    }

    fn new(source: &ModelSource, options: Options, signature: Signature) -> Result<Self> {
        let named = mapping::inputs(&source.config, &signature)?.into_iter();
        let inputs = named.map(|(name, position)| {
            let for_shim = CString::new(name.as_str())
                .map_err(|_| Error::invalid_arg("an input's name cannot have a zero byte"))?;
            Ok((name, for_shim, position))
        });
        Ok(Self {
            model: source.name.clone(),
            options: Options { dict_input: i32::from(signature.dict), ..options },
            inputs: inputs.collect::<Result<_>>()?,
            outputs: OutputSpecs::new(&source.config)?,
            batches: source.config.batches(),
            layout: BatchLayout::new(&source.config),
            signature,
        })
    }

    /// Runs a module on the inputs of a whole batch.
    pub(crate) fn run(&self, module: &Module, inputs: &[GatheredInput]) -> Result<Computed<'_>> {
        Ok(Computed { plan: self, returned: self.returned(module, inputs)? })
    }

    /// What a module returns, whatever the configuration says of it.
    pub(crate) fn returned(
        &self,
        module: &Module,
        inputs: &[GatheredInput],
    ) -> Result<Vec<TorchOutput>> {
        let arguments = self.arguments(inputs)?;
        module
            .forward(&self.options, &arguments)
            .map_err(|message| Error::internal(format!("PyTorch execute failure: {message}")))
    }

    /// Puts inputs where the module expects them. Inputs that were not sent are `None` in front of
    /// others and left out behind them, where the module's own defaults apply.
    fn arguments<'a>(&'a self, inputs: &'a [GatheredInput]) -> Result<Vec<Argument<'a>>> {
        let mut arguments = Vec::new();
        for (name, for_shim, position) in &self.inputs {
            let Some(input) = inputs.iter().find(|input| input.name == *name) else { continue };
            while arguments.len() <= *position {
                arguments.push(Argument::Absent);
            }
            arguments[*position] = Argument::Tensor {
                name: for_shim,
                scalar_type: checked_type(input)?,
                shape: &input.shape,
                data: &input.data,
                copy: self.signature.writes(*position),
            };
        }
        Ok(arguments)
    }
}

/// libtorch's number for the input's type, once its memory is known to be what its shape says.
fn checked_type(input: &GatheredInput) -> Result<i32> {
    let GatheredInput { name, datatype, shape, data } = input;
    if *datatype == DataType::Bytes && shape.len() != 1 {
        let elements = shape.iter().skip(1).product::<i64>();
        if elements != 1 {
            return Err(Error::invalid_arg(format!(
                "PyTorch takes strings in one dimension only, input '{name}' has shape {}",
                display_shape(shape)
            )));
        }
    }
    let expected = datatype.byte_size().map(|size| element_count(shape).map(|n| n * size));
    if let Some(expected) = expected
        && expected != Some(data.len())
    {
        return Err(Error::invalid_arg(format!(
            "input '{name}' has {} bytes, which do not fill shape {}",
            data.len(),
            display_shape(shape)
        )));
    }
    scalar_type(*datatype).ok_or_else(|| {
        Error::invalid_arg(format!(
            "unsupported datatype TYPE_{datatype} for input '{name}': PyTorch has no such tensors"
        ))
    })
}

/// What a module returned, not yet compared with the configuration.
pub(crate) struct Computed<'a> {
    plan: &'a Plan,
    returned: Vec<TorchOutput>,
}

impl Computed<'_> {
    pub(crate) fn outputs(&self, batch: usize) -> Result<Vec<Tensor>> {
        self.plan.outputs.name(&self.returned, self.plan.batches.then_some(batch))
    }
}

impl Model for TorchModel {
    fn instantiate(&self, _placement: &Placement) -> Result<Seat> {
        let instance = TorchInstance { plan: self.plan.clone(), module: self.module()? };
        Ok(Seat::Thread(Box::new(instance)))
    }
}

struct TorchInstance {
    plan: Arc<Plan>,
    module: Arc<Module>,
}

impl Instance for TorchInstance {
    fn execute(&mut self, mut batch: Batch) {
        let inputs = self.plan.layout.gather(&batch.requests);
        batch.mark_input_ready();
        let computed = inputs.and_then(|inputs| self.plan.run(&self.module, &inputs));
        batch.mark_computed();
        match computed.and_then(|computed| computed.outputs(batch.size())) {
            Ok(outputs) => self.plan.layout.scatter(batch, outputs),
            Err(error) => batch.fail(&error),
        }
    }
}
