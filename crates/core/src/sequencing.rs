//! Makes the batches of a model with sequences: adds what clients do not send.

use std::path::Path;

use nereid_inference::{Request, Result};
use nereid_model_config::ModelConfig;

use crate::controls::Controls;
use crate::states::States;

pub(crate) struct Sequencing {
    controls: Controls,
    states: Option<States>,
}

impl Sequencing {
    /// `None` where a model has no sequences.
    pub(crate) fn new(config: &ModelConfig, model_dir: &Path) -> Result<Option<Self>> {
        let Some(controls) = Controls::new(config) else { return Ok(None) };
        Ok(Some(Self { controls, states: States::new(config, model_dir)? }))
    }

    /// Completes a batch: states, control inputs, and rows that have nothing to run. `sequences`
    /// names the sequence of each request.
    pub(crate) fn complete(
        &self,
        requests: &mut Vec<Request>,
        idle_rows: &[usize],
        sequences: &[u64],
    ) {
        if let Some(states) = &self.states {
            for (request, &sequence) in requests.iter_mut().zip(sequences) {
                states.add(request, sequence);
            }
        }
        let idle: Vec<Request> = match requests.first() {
            Some(first) => idle_rows.iter().map(|_| self.controls.idle_row(first)).collect(),
            None => Vec::new(),
        };
        requests.iter_mut().for_each(|request| self.controls.add(request));
        for (&row, request) in idle_rows.iter().zip(idle) {
            requests.insert(row.min(requests.len()), request);
        }
    }

    /// Takes off again what [`Self::complete`] added, from a request that is to run once more.
    pub(crate) fn undo(&self, request: &mut Request) {
        let added = self.controls.count() + self.states.as_ref().map_or(0, States::count);
        request.inputs.truncate(request.inputs.len().saturating_sub(added));
    }

    /// These sequences have ended without their last request.
    pub(crate) fn forget(&self, sequences: &[u64]) {
        if let Some(states) = &self.states
            && !sequences.is_empty()
        {
            states.forget(sequences);
        }
    }
}
