//! What a client asks of a model.

use std::sync::Arc;
use std::time::Instant;

use crate::{Cancellation, Nesting, Parameters, Responder, Tensor, Trace, Window};

/// First request of a sequence.
pub const SEQUENCE_START: u32 = 1;
/// Last request of a sequence.
pub const SEQUENCE_END: u32 = 2;

/// Which sequence a request belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum CorrelationId {
    #[default]
    None,
    Number(u64),
    Text(String),
}

/// 0 stands for no sequence.
impl From<u64> for CorrelationId {
    fn from(id: u64) -> Self {
        if id == 0 { Self::None } else { Self::Number(id) }
    }
}

/// An empty text stands for no sequence.
impl From<String> for CorrelationId {
    fn from(id: String) -> Self {
        if id.is_empty() { Self::None } else { Self::Text(id) }
    }
}

/// An inference request. It is moved from the socket to the backend, never shared; the way back is
/// the responder inside it.
pub struct Request {
    pub model: String,
    /// `None`: the highest ready version.
    pub version: Option<i64>,
    /// The client's own name for the request; empty if it gave none.
    pub id: String,
    pub correlation: CorrelationId,
    /// [`SEQUENCE_START`] and [`SEQUENCE_END`].
    pub flags: u32,
    /// 1 is the highest; 0 asks for the model's default.
    pub priority: u64,
    /// How long it may wait in a queue, in microseconds; 0 asks for the model's default.
    pub timeout_us: u64,
    pub parameters: Parameters,
    pub inputs: Vec<Tensor>,
    /// Names of the outputs that the client wants; empty: all of them.
    pub requested_outputs: Vec<String>,
    /// How many requests it counts for: the first dimension of its inputs where the model batches,
    /// else 1. Set when the request is admitted.
    pub batch_size: usize,
    /// It has run before and its model asked for it to run again (iterative sequences).
    pub rescheduled: bool,
    pub cancellation: Cancellation,
    /// Who follows it, if anybody does.
    pub trace: Option<Arc<dyn Trace>>,
    pub nesting: Nesting,
    /// When its answer will be of no use any more, where models have latency targets.
    pub deadline: Option<Instant>,
    /// Where its responses must not come faster than they are used (decoupled models).
    pub window: Option<Window>,
    pub responder: Responder,
}

impl Request {
    /// A request with nothing but its destination and its way back.
    pub fn new(model: impl Into<String>, version: Option<i64>, responder: Responder) -> Self {
        Self {
            model: model.into(),
            version,
            id: String::new(),
            correlation: CorrelationId::None,
            flags: 0,
            priority: 0,
            timeout_us: 0,
            parameters: Vec::new(),
            inputs: Vec::new(),
            requested_outputs: Vec::new(),
            batch_size: 1,
            rescheduled: false,
            cancellation: Cancellation::default(),
            trace: None,
            nesting: Nesting::default(),
            deadline: None,
            window: None,
            responder,
        }
    }

    pub fn input(&self, name: &str) -> Option<&Tensor> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// Whether the client asked for the output `name`.
    pub fn wants(&self, name: &str) -> bool {
        self.requested_outputs.is_empty() || self.requested_outputs.iter().any(|o| o == name)
    }
}

/// How Triton names the request `id` at the start of an error message.
pub fn log_prefix(id: &str) -> String {
    let id = if id.is_empty() { "<id_unknown>" } else { id };
    format!("[request id: {id}] ")
}
