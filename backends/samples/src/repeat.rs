//! The backend `repeat`: a decoupled model that answers each element of its input on its own.
//!
//! `OUT` and `IDX` are the elements of `IN` and their numbers, each `DELAY` milliseconds after the
//! one before. The instance takes its next request `WAIT` milliseconds after it took one, whether
//! that has been answered or not.

use std::time::Duration;

use nereid_backend::{Backend, Batch, Host, Instance, Model, ModelSource, Placement, Seat};
use nereid_inference::{DataType, Error, Request, Result};

use crate::decoupled::{Desk, elements, pause, send};

pub struct RepeatBackend;

impl Backend for RepeatBackend {
    fn name(&self) -> &'static str {
        "repeat"
    }

    fn load(&self, source: &ModelSource, host: &Host) -> Result<Box<dyn Model>> {
        Ok(Box::new(Repeat { desk: Desk::new(host, &source.config, self.name())? }))
    }
}

#[derive(Clone)]
struct Repeat {
    desk: Desk,
}

impl Model for Repeat {
    fn instantiate(&self, _: &Placement) -> Result<Seat> {
        Ok(Seat::Handoff { instance: Box::new(self.clone()), depth: 1 })
    }
}

impl Instance for Repeat {
    fn execute(&mut self, mut batch: Batch) {
        batch.mark_input_ready();
        let mut wait = Duration::ZERO;
        for request in std::mem::take(&mut batch.requests) {
            match Wish::of(&request) {
                Ok(wish) => {
                    wait = wait.max(wish.wait);
                    self.desk.spawn(answer(self.desk.clone(), request, wish));
                }
                Err(error) => request.responder.answer(Err(error)),
            }
        }
        self.desk.spawn(async move {
            pause(wait).await;
            drop(batch);
        });
    }
}

/// What a request asks for.
struct Wish {
    elements: Vec<([u8; 4], Duration)>,
    wait: Duration,
}

impl Wish {
    fn of(request: &Request) -> Result<Self> {
        let values = elements(request, "IN", DataType::Int32)?;
        let delays = elements(request, "DELAY", DataType::Uint32)?;
        if values.len() != delays.len() {
            return Err(Error::invalid_arg("expected IN and DELAY shape to match"));
        }
        let wait = elements(request, "WAIT", DataType::Uint32)?;
        let wait = wait.first().copied().map_or(Duration::ZERO, milliseconds);
        let elements = values.into_iter().zip(delays.into_iter().map(milliseconds)).collect();
        Ok(Self { elements, wait })
    }
}

fn milliseconds(element: [u8; 4]) -> Duration {
    Duration::from_millis(u32::from_le_bytes(element).into())
}

async fn answer(desk: Desk, mut request: Request, wish: Wish) {
    for (index, (value, delay)) in (0u32..).zip(wish.elements) {
        pause(delay).await;
        if request.cancellation.is_cancelled() {
            return request.responder.answer(Err(Error::cancelled()));
        }
        let out = desk.element("OUT", DataType::Int32, value);
        let idx = desk.element("IDX", DataType::Uint32, index.to_le_bytes());
        send(&mut request, vec![out, idx]).await;
    }
    request.responder.finish();
}
