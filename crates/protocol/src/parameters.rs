//! What the parameters of a request mean. Each protocol reads their values in its own types.

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
