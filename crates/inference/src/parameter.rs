//! Named values that travel with a request or a response beside its tensors.

/// Value of a request or response parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    Bool(bool),
    Int(i64),
    Double(f64),
    String(String),
}

/// In the order in which they were given.
pub type Parameters = Vec<(String, Parameter)>;
