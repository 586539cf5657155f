//! Drives one instance: on a thread of its own if it blocks, else on the caller's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use nereid_backend::{Batch, Instance, Model, Placement, Seat};
use nereid_inference::{Error, Result};

pub(crate) struct Runner {
    way: Way,
    depth: usize,
}

enum Way {
    Thread(mpsc::Sender<Batch>),
    Handoff(Mutex<Box<dyn Instance>>),
}

impl Runner {
    /// Makes an instance of `model` and gives it what it runs on.
    pub(crate) fn start(model: &Arc<dyn Model>, placement: &Placement) -> Result<Self> {
        match model.instantiate(placement)? {
            Seat::Handoff { instance, depth } => {
                Ok(Self { way: Way::Handoff(Mutex::new(instance)), depth })
            }
            Seat::Thread(instance) => {
                let (sender, batches) = mpsc::channel();
                let (model, placement) = (model.clone(), placement.clone());
                std::thread::Builder::new()
                    .name(placement.name.clone())
                    .spawn(move || run_thread(instance, &batches, &model, &placement))
                    .map_err(|error| Error::internal(format!("no thread to be had: {error}")))?;
                Ok(Self { way: Way::Thread(sender), depth: 1 })
            }
        }
    }

    /// How many batches it takes before the first is done.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Seventh stop of a request: to the instance.
    pub(crate) fn run(&self, batch: Batch) {
        match &self.way {
            Way::Handoff(instance) => {
                let mut instance = instance.lock().unwrap_or_else(PoisonError::into_inner);
                // A panic must not reach the reactor; the requests are answered by their drop.
                if catch_unwind(AssertUnwindSafe(|| instance.execute(batch))).is_err() {
                    tracing::error!("an instance panicked while a batch was handed to it");
                }
            }
            Way::Thread(sender) => {
                if let Err(mpsc::SendError(batch)) = sender.send(batch) {
                    batch.fail(&Error::unavailable("the model's instance has ended"));
                }
            }
        }
    }
}

/// Runs batches until the sender is gone. An instance that panics is made anew: its state cannot
/// be trusted, the rest of the server can.
fn run_thread(
    mut instance: Box<dyn Instance>,
    batches: &mpsc::Receiver<Batch>,
    model: &Arc<dyn Model>,
    placement: &Placement,
) {
    for batch in batches {
        let ran = catch_unwind(AssertUnwindSafe(|| instance.execute(batch)));
        if ran.is_ok() {
            continue;
        }
        tracing::error!("instance '{}' panicked and is made anew", placement.name);
        match model.instantiate(placement) {
            Ok(Seat::Thread(fresh)) => instance = fresh,
            Ok(Seat::Handoff { instance: fresh, .. }) => instance = fresh,
            Err(error) => {
                tracing::error!("instance '{}' could not be made anew: {error}", placement.name);
                return;
            }
        }
    }
}
