//! Ensembles: graphs of models whose tensors pass from step to step by reference.
//!
//! An ensemble is a scheduler, not a backend: it makes requests of other models, which find their
//! way through the server like all requests. What each of them still waits for is decided by
//! [`Graph`], which is pure; `run.rs` sends the requests and brings the answers together.

mod cycle;
mod gates;
mod graph;
mod patience;
mod run;
mod validate;

use std::sync::Arc;

use nereid_backend::Service;
use nereid_inference::Request;
use nereid_model_config::ModelConfig;
use tokio::runtime::Handle;

use crate::namespaces::of_step;
use crate::statistics::Recorder;
use gates::Gates;
use graph::Graph;

pub(crate) use validate::{loaded_member, validate};

pub(crate) struct Ensemble {
    name: String,
    graph: Graph,
    /// Where `max_inflight_requests` is set.
    gates: Option<Gates>,
    service: Arc<dyn Service>,
    reactor: Handle,
    recorder: Arc<Recorder>,
}

impl Ensemble {
    pub(crate) fn new(
        config: &ModelConfig,
        service: &Arc<dyn Service>,
        reactor: &Handle,
        recorder: &Arc<Recorder>,
        decoupled: &[bool],
    ) -> Arc<Self> {
        let graph = Graph::new(config, decoupled);
        let limit = config.ensemble_scheduling().map_or(0, |own| own.max_inflight_requests);
        let gates = (limit > 0).then(|| Gates::new(limit as usize, graph.steps.len()));
        Arc::new(Self {
            name: config.name.clone(),
            graph,
            gates,
            service: service.clone(),
            reactor: reactor.clone(),
            recorder: recorder.clone(),
        })
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
