//! Implicit state: tensors that the server keeps between the requests of a sequence. What a model
//! gives as a state's output for one request, it gets as the state's input with the next.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nereid_inference::{
    Answer, Error, Request, Response, ResponseSink, Result, SEQUENCE_END, SEQUENCE_START, Tensor,
    Times,
};
use nereid_model_config::ModelConfig;
use nereid_model_config::proto::model_sequence_batching::State;

use crate::initial_state;
use crate::own::own;

/// The states of a model version.
pub(crate) struct States {
    specs: Arc<[Spec]>,
    kept: Kept,
}

struct Spec {
    output: String,
    /// The output is one that clients may see.
    public: bool,
    /// What a sequence begins with.
    initial: Tensor,
}

/// The states of the sequences that have begun and not ended, by key.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<HashMap<u64, Vec<Tensor>>>>);

/// Takes the new states out of the answers to one request.
struct Keeper {
    inner: Box<dyn ResponseSink>,
    specs: Arc<[Spec]>,
    kept: Kept,
    sequence: u64,
    /// The outputs that the client named, where it named any.
    requested: Vec<String>,
}

impl States {
    /// `None` where the model has no states.
    pub(crate) fn new(config: &ModelConfig, model_dir: &Path) -> Result<Option<Self>> {
        let states = config.sequence_batching().map_or(&[][..], |sequence| &sequence.state);
        let spec = |state: &State| {
            Ok(Spec {
                output: state.output_name.clone(),
                public: config.find_output(&state.output_name).is_some(),
                initial: initial_state::read(state, config.batches(), model_dir)?,
            })
        };
        let specs: Arc<[Spec]> = states.iter().map(spec).collect::<Result<_>>()?;
        Ok((!specs.is_empty()).then(|| Self { specs, kept: Kept::default() }))
    }

    /// Adds the states of its sequence to a request that is about to run, and waits for new ones.
    pub(crate) fn add(&self, request: &mut Request, sequence: u64) {
        request.inputs.extend(self.current(request.flags, sequence));
        // Whoever waits for its new states has been waiting since it ran first.
        if request.rescheduled {
            return;
        }
        let requested = request.requested_outputs.clone();
        if !requested.is_empty() {
            let states = self.specs.iter().map(|spec| &spec.output);
            let unasked = states.filter(|output| !requested.contains(output));
            request.requested_outputs.extend(unasked.cloned());
        }
        let (specs, kept) = (self.specs.clone(), self.kept.clone());
        request.responder.wrap(|inner| Keeper { inner, specs, kept, sequence, requested });
    }

    /// How many inputs [`Self::add`] adds.
    pub(crate) fn count(&self) -> usize {
        self.specs.len()
    }

    fn current(&self, flags: u32, sequence: u64) -> Vec<Tensor> {
        let mut kept = self.kept.lock();
        let current = match kept.remove(&sequence) {
            Some(states) if flags & SEQUENCE_START == 0 => states,
            _ => self.specs.iter().map(|spec| spec.initial.clone()).collect(),
        };
        // There is a place for new states as long as somebody may ask for them.
        if flags & SEQUENCE_END == 0 {
            kept.insert(sequence, current.clone());
        }
        current
    }

    /// Drops the states of sequences that ended without their last request.
    pub(crate) fn forget(&self, sequences: &[u64]) {
        let mut kept = self.kept.lock();
        for sequence in sequences {
            kept.remove(sequence);
        }
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vec<Tensor>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    fn take_states(&self, response: &mut Response) -> Result<()> {
        let new = self.specs.iter().map(|spec| self.take_state(spec, &mut response.outputs));
        let new: Vec<Tensor> = new.collect::<Result<_>>()?;
        if let Some(states) = self.kept.lock().get_mut(&self.sequence) {
            *states = new;
        }
        Ok(())
    }

    fn take_state(&self, spec: &Spec, outputs: &mut Vec<Tensor>) -> Result<Tensor> {
        let index = outputs.iter().position(|output| output.name == spec.output);
        let Some(index) = index else {
            return Err(Error::internal(format!(
                "the model gave no output '{}', which is to become its state '{}'",
                spec.output, spec.initial.name
            )));
        };
        let asked = self.requested.is_empty() || self.requested.contains(&spec.output);
        let mut state = match spec.public && asked {
            true => outputs[index].clone(),
            false => outputs.remove(index),
        };
        if state.datatype != spec.initial.datatype {
            return Err(Error::internal(format!(
                "output '{}' has data type {}, but the state '{}' is {}",
                spec.output, state.datatype, spec.initial.name, spec.initial.datatype
            )));
        }
        state.name.clone_from(&spec.initial.name);
        own(&mut state.data);
        Ok(state)
    }
}

impl ResponseSink for Keeper {
    fn deliver(&mut self, mut answer: Answer, times: &Times) {
        // A request that failed leaves the states as they were.
        if let Some(Ok(response)) = &mut answer.response
            && let Err(error) = self.take_states(response)
        {
            answer.response = Some(Err(error));
        }
        self.inner.deliver(answer, times);
    }
}

#[cfg(test)]
#[path = "states_tests.rs"]
mod tests;
