//! Ensembles: graphs of models whose tensors pass from step to step by reference.
//!
//! An ensemble is a scheduler, not a backend: it makes requests of other models, which find their
//! way through the server like all requests. What each of them still waits for is decided by
//! [`Graph`], which is pure; `run.rs` sends the requests and brings the answers together.

mod cycle;
mod graph;
mod run;
mod validate;

use std::sync::Arc;

use nereid_backend::Service;
use nereid_inference::Request;
use nereid_model_config::ModelConfig;

use crate::namespaces::of_step;
use crate::statistics::Recorder;
use graph::Graph;

pub(crate) use validate::{loaded_member, validate};

pub(crate) struct Ensemble {
    name: String,
    graph: Graph,
    service: Arc<dyn Service>,
    recorder: Arc<Recorder>,
}

impl Ensemble {
    pub(crate) fn new(
        config: &ModelConfig,
        service: Arc<dyn Service>,
        recorder: Arc<Recorder>,
        decoupled: &[bool],
    ) -> Arc<Self> {
        let graph = Graph::new(config, decoupled);
        Arc::new(Self { name: config.name.clone(), graph, service, recorder })
    }

    pub(crate) fn submit(self: &Arc<Self>, request: Request) {
        run::start(self, request);
    }
}

/// The models that an ensemble is made of, each once; empty for other models.
pub(crate) fn members(config: &ModelConfig) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for step in config.ensemble_scheduling().iter().flat_map(|ensemble| &ensemble.step) {
        let name = of_step(step);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
