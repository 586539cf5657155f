//! What a model answers.

use crate::{Parameters, Tensor};

/// One response of a model. Backends fill `outputs` and `parameters`; the server adds who answered.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub model: String,
    pub version: i64,
    pub parameters: Parameters,
    pub outputs: Vec<Tensor>,
}

impl Response {
    pub fn new(outputs: Vec<Tensor>) -> Self {
        Self { outputs, ..Self::default() }
    }
}
