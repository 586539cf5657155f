//! The backend `square`: a decoupled model that answers the number `IN` as often as it says.
//!
//! | parameter | effect |
//! |---|---|
//! | `CUSTOM_INFER_DELAY_NS` | sleeps before every response is computed |
//! | `CUSTOM_OUTPUT_DELAY_NS` | sleeps before every response is sent |
//! | `CUSTOM_CANCEL_DELAY_NS` | sleeps before a cancelled request is answered |
//! | `CUSTOM_EMPTY_COUNT` | so many of the last responses are left out |
//! | `CUSTOM_FAIL_COUNT` | so many of the responses before those are errors |

use std::time::Duration;

use nereid_backend::{Backend, Batch, Host, Instance, Model, ModelSource, Placement, Seat};
use nereid_inference::{DataType, Error, Request, Result};
use nereid_model_config::ModelConfig;

use crate::decoupled::{Desk, elements, pause, send};

pub struct SquareBackend;

impl Backend for SquareBackend {
    fn name(&self) -> &'static str {
        "square"
    }

    fn load(&self, source: &ModelSource, host: &Host) -> Result<Box<dyn Model>> {
        let desk = Desk::new(host, &source.config, self.name())?;
        Ok(Box::new(Square { desk, manner: Manner::new(&source.config)? }))
    }
}

#[derive(Clone)]
struct Square {
    desk: Desk,
    manner: Manner,
}

/// How the model was told to behave.
#[derive(Clone, Copy)]
struct Manner {
    infer_delay: Duration,
    output_delay: Duration,
    cancel_delay: Duration,
    failing: i64,
    empty: i64,
}

impl Manner {
    fn new(config: &ModelConfig) -> Result<Self> {
        let delay = |key| -> Result<Duration> {
            Ok(Duration::from_nanos(config.number_parameter(key)?.unwrap_or(0)))
        };
        Ok(Self {
            infer_delay: delay("CUSTOM_INFER_DELAY_NS")?,
            output_delay: delay("CUSTOM_OUTPUT_DELAY_NS")?,
            cancel_delay: delay("CUSTOM_CANCEL_DELAY_NS")?,
            failing: config.number_parameter("CUSTOM_FAIL_COUNT")?.unwrap_or(0),
            empty: config.number_parameter("CUSTOM_EMPTY_COUNT")?.unwrap_or(0),
        })
    }
}

impl Model for Square {
    fn instantiate(&self, _: &Placement) -> Result<Seat> {
        Ok(Seat::Handoff { instance: Box::new(self.clone()), depth: 1 })
    }
}

impl Instance for Square {
    fn execute(&mut self, mut batch: Batch) {
        batch.mark_input_ready();
        for request in std::mem::take(&mut batch.requests) {
            match elements(&request, "IN", DataType::Int32) {
                Ok(elements) if !elements.is_empty() => {
                    self.desk.spawn(self.clone().answer(request, elements[0]));
                }
                Ok(_) => request.responder.finish(),
                Err(error) => request.responder.answer(Err(error)),
            }
        }
    }
}

impl Square {
    async fn answer(self, mut request: Request, value: [u8; 4]) {
        let manner = self.manner;
        let count = i64::from(i32::from_le_bytes(value));
        for index in 0..count - manner.empty {
            pause(manner.infer_delay).await;
            if request.cancellation.is_cancelled() {
                pause(manner.cancel_delay).await;
                return request.responder.answer(Err(Error::cancelled()));
            }
            pause(manner.output_delay).await;
            if index >= count - manner.empty - manner.failing {
                let text = format!("response {index} fails, as CUSTOM_FAIL_COUNT asks for");
                request.responder.send(Err(Error::internal(text)));
            } else {
                let out = self.desk.element("OUT", DataType::Int32, value);
                send(&mut request, vec![out]).await;
            }
        }
        request.responder.finish();
    }
}
