//! What the calls of a worker's own need of its link: what they take over from the batch that they
//! are made for, who waits for whom, and the memory that goes back and forth with them.

use bytes::Bytes;
use nereid_inference::{Cancellation, Response, Result};

use super::devices::new_leases;
use super::{Link, State};
use crate::executing::{Executing, Heritage};
use crate::extras;
use crate::frame::{CALL_ANSWER, begin_frame, end_frame, write_block};
use crate::tensors::{move_to_arena, outgoing, shared_bytes, slice_at};

/// One of several answers to a call.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) last: bool,
}

impl Link {
    /// What a request made on behalf of the batch `id` takes over; little if that is over, or if
    /// the worker does not say for whom it is made: then anybody may wait for it.
    pub(crate) fn heritage(&self, id: Option<u64>) -> Heritage {
        let state = self.lock();
        match id.and_then(|id| state.executing.get(&id)) {
            Some(batch) => batch.heritage(),
            None => {
                let holds = state.executing.values().any(Executing::holds);
                Heritage { holds, ..Heritage::default() }
            }
        }
    }

    /// Answers a call of the worker, unless that worker has died meanwhile. `part`: this is one of
    /// several answers.
    pub(crate) fn answer_call(
        &self,
        generation: u64,
        call: u64,
        answer: Result<Response>,
        part: Option<Part>,
    ) {
        let answer = answer.and_then(|mut response| {
            move_to_arena(&self.host.arena, &mut response.outputs)?;
            Ok(response)
        });
        let mut state = self.lock();
        let State { worker, next_id, .. } = &mut *state;
        let Some(worker) = worker.as_mut().filter(|w| w.generation == generation) else {
            return;
        };
        if part.is_none_or(|part| part.last) {
            worker.open_calls.remove(&call);
        }
        // Each of several answers is lent, and given back, by itself.
        let lease = match part {
            None => call,
            Some(_) => new_leases(next_id, 1),
        };
        if let Ok(response) = &answer {
            let lent: Vec<Bytes> =
                shared_bytes(&self.host.arena, &response.outputs).cloned().collect();
            if !lent.is_empty() {
                worker.lent.insert(lease, lent);
            }
        }
        let part = part.map(|part| (part, lease));
        let outputs = answer.iter().flat_map(|response| &response.outputs);
        let mut lease = state.lend_devices(outputs);
        self.send(&mut state, |out| {
            let start = begin_frame(out, CALL_ANSWER, 1, call);
            match &answer {
                Ok(response) => {
                    let tensors = outgoing(&self.host.arena, &response.outputs, &mut lease);
                    write_block(out, &extras::of_response(response, part), &tensors);
                }
                Err(error) => write_block(out, &extras::of_error(error, part), &[]),
            }
            end_frame(out, start);
        });
    }

    /// Notes how a call can be cancelled, unless the worker that made it has died.
    pub(crate) fn open_call(&self, generation: u64, call: u64, cancellation: &Cancellation) {
        let mut state = self.lock();
        match state.worker.as_mut().filter(|worker| worker.generation == generation) {
            Some(worker) => {
                worker.open_calls.insert(call, cancellation.clone());
            }
            None => {
                drop(state);
                cancellation.cancel();
            }
        }
    }

    /// The model does not want the answer to a call any more.
    pub(crate) fn cancel_call(&self, call: u64) {
        let cancellation =
            self.lock().worker.as_mut().and_then(|worker| worker.open_calls.remove(&call));
        if let Some(cancellation) = cancellation {
            cancellation.cancel();
        }
    }

    /// The tensor that the worker means by a place in shared memory: one that was lent to it, or one
    /// that it wrote into its own span. Anything else is not its to give away.
    pub(crate) fn tensor_at(&self, offset: usize, len: usize) -> Option<Bytes> {
        let state = self.lock();
        let worker = state.worker.as_ref()?;
        let arena = &self.host.arena;
        let mut lent = worker.lent.values().flatten();
        lent.find_map(|owner| slice_at(arena, owner, offset, len))
            .or_else(|| {
                state.executing.values().find_map(|batch| batch.input_at(arena, offset, len))
            })
            .or_else(|| worker.span.borrow(offset, len))
    }

    /// The model holds on to inputs after their batch: their memory must not be used for others.
    pub(crate) fn keep_inputs(&self, id: u64, triples: &[u64]) {
        let mut state = self.lock();
        let State { worker: Some(worker), executing, .. } = &mut *state else { return };
        let Some(executing) = executing.get(&id) else { return };
        for triple in triples.chunks_exact(3) {
            let (offset, len) = (triple[1] as usize, triple[2] as usize);
            if let Some(input) = executing.input_at(&self.host.arena, offset, len) {
                worker.lent.insert(triple[0], vec![input]);
            }
        }
    }

    /// The worker has dropped the answers of these calls, or inputs that it held on to.
    pub(crate) fn release_answers(&self, calls: impl Iterator<Item = u64>) {
        let mut state = self.lock();
        let Some(worker) = &mut state.worker else { return };
        let released: Vec<_> = calls
            .map(|call| (worker.lent.remove(&call), worker.lent_devices.remove(&call)))
            .collect();
        drop(state);
        drop(released);
    }

    /// The instance waits for an answer from `model`.
    pub(crate) fn begin_wait(&self, generation: u64, model: &str) {
        let mut state = self.lock();
        if let Some(worker) = state.worker.as_mut().filter(|w| w.generation == generation) {
            worker.waits_for.push(model.to_owned());
        }
    }

    pub(crate) fn end_wait(&self, generation: u64, model: &str) {
        let mut state = self.lock();
        if let Some(worker) = state.worker.as_mut().filter(|w| w.generation == generation)
            && let Some(found) = worker.waits_for.iter().position(|other| other == model)
        {
            worker.waits_for.swap_remove(found);
        }
    }

    /// The models whose answers it waits for.
    pub(crate) fn waits_for(&self) -> Vec<String> {
        self.lock().worker.as_ref().map(|worker| worker.waits_for.clone()).unwrap_or_default()
    }

    /// How many batches it runs within others.
    pub(crate) fn nested(&self) -> usize {
        self.lock().executing.values().filter(|executing| executing.nested).count()
    }
}
