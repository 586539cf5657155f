//! Reading `config.pbtxt`, protobuf's text format.

mod lexer;
mod literal;
mod parser;
mod problem;

use std::path::Path;

use nereid_inference::Result;
use prost_reflect::DynamicMessage;

use crate::{ModelConfig, descriptor};

/// Reads a configuration in text format; `path` is only named in error messages.
///
/// # Errors
/// Invalid argument, as `<path>:<line>:<column>: <what> (near '<text>')`.
pub fn parse(text: &str, path: &Path) -> Result<ModelConfig> {
    let mut message = DynamicMessage::new(descriptor::model_config());
    match parser::parse(text, &mut message) {
        Ok(()) => descriptor::from_dynamic(&message),
        Err(problem) => Err(problem.into_error(text, path)),
    }
}

#[cfg(test)]
mod tests;
