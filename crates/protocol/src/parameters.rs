//! What the parameters of a request mean. Each protocol reads their values in its own types.

use nereid_inference::{CorrelationId, Error, Result};

/// How long a text may be that names a sequence, in bytes.
const MAX_CORRELATION_TEXT: usize = 128;

/// The meaning of a request parameter, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKey {
    SequenceId,
    SequenceStart,
    SequenceEnd,
    Priority,
    /// In microseconds.
    Timeout,
    /// Kept for what the server itself may want to say: no client may set it.
    Reserved,
    /// For the model.
    Custom,
}

impl ParameterKey {
    pub fn of(key: &str) -> Self {
        match key {
            "sequence_id" => Self::SequenceId,
            "sequence_start" => Self::SequenceStart,
            "sequence_end" => Self::SequenceEnd,
            "priority" => Self::Priority,
            "timeout" => Self::Timeout,
            key if key.starts_with("triton_") => Self::Reserved,
            _ => Self::Custom,
        }
    }
}

/// A text that names a sequence.
pub fn correlation_text(id: String) -> Result<CorrelationId> {
    if id.len() > MAX_CORRELATION_TEXT {
        return Err(Error::unsupported(format!(
            "string correlation ID cannot be longer than {MAX_CORRELATION_TEXT} characters"
        )));
    }
    Ok(id.into())
}
