//! A loaded ONNX model and its instances.

use std::sync::Arc;

use nereid_backend::{Batch, BatchLayout, GatheredInput, Instance, Model, Placement, Seat};
use nereid_inference::{Result, Tensor};
use nereid_model_config::ModelConfig;

use crate::graph::Graph;

/// What runs a graph, for any number of instances at a time.
pub(crate) trait Engine: Send + Sync {
    /// Computes `outputs`, in this order, from the inputs of a whole batch.
    fn run(&self, inputs: &[GatheredInput], outputs: &[&str]) -> Result<Vec<Tensor>>;
}

/// One version. Its instances share the weights.
pub(crate) struct OnnxModel(Arc<Plan>);

struct Plan {
    engine: Box<dyn Engine>,
    /// Inputs that are scalars in the graph: a configuration can only call them `[1]`.
    scalar_inputs: Vec<String>,
    outputs: Vec<OutputSpec>,
    layout: BatchLayout,
}

struct OutputSpec {
    name: String,
    /// For a scalar of the graph, the dimensions that the configuration gives it.
    scalar: Option<Vec<i64>>,
}

impl OnnxModel {
    pub(crate) fn new(engine: Box<dyn Engine>, config: &ModelConfig, graph: &Graph) -> Self {
        let scalars = graph.inputs.iter().chain(&graph.overridable).filter(|p| p.is_scalar());
        let output = |name: &String, dims: &Vec<i64>| OutputSpec {
            name: name.clone(),
            scalar: graph.output(name).filter(|port| port.is_scalar()).map(|_| dims.clone()),
        };
        // What becomes a state need not be an output that clients see.
        let states = config.hidden_states();
        let states = states.map(|state| output(&state.output_name, &state.dims));
        Self(Arc::new(Plan {
            engine,
            scalar_inputs: scalars.map(|port| port.name.clone()).collect(),
            outputs: config
                .output
                .iter()
                .map(|public| output(&public.name, &public.dims))
                .chain(states)
                .collect(),
            layout: BatchLayout::new(config),
        }))
    }
}

impl Model for OnnxModel {
    fn instantiate(&self, _placement: &Placement) -> Result<Seat> {
        Ok(Seat::Thread(Box::new(OnnxInstance(self.0.clone()))))
    }
}

struct OnnxInstance(Arc<Plan>);

impl Instance for OnnxInstance {
    fn execute(&mut self, mut batch: Batch) {
        let inputs = self.0.layout.gather(&batch.requests);
        batch.mark_input_ready();
        match inputs.and_then(|inputs| self.0.run(inputs, &batch)) {
            Ok(outputs) => self.0.layout.scatter(batch, outputs),
            Err(error) => {
                batch.mark_computed();
                batch.fail(&error);
            }
        }
    }
}

impl Plan {
    fn run(&self, mut inputs: Vec<GatheredInput>, batch: &Batch) -> Result<Vec<Tensor>> {
        for input in &mut inputs {
            if self.scalar_inputs.contains(&input.name) {
                input.shape.clear();
            }
        }
        let wants = |name: &str| batch.requests.iter().any(|request| request.wants(name));
        let wanted: Vec<&OutputSpec> = self.outputs.iter().filter(|o| wants(&o.name)).collect();
        let names: Vec<&str> = wanted.iter().map(|output| output.name.as_str()).collect();
        let mut outputs = self.engine.run(&inputs, &names)?;
        for (spec, output) in wanted.iter().zip(&mut outputs) {
            if let Some(dims) = &spec.scalar {
                output.shape.clone_from(dims);
            }
        }
        Ok(outputs)
    }
}
