//! Reading `config.pbtxt`, protobuf's text format.

mod lexer;
mod literal;
mod parser;
mod places;
mod problem;
mod spot;

use std::path::Path;

use nereid_inference::Result;
use prost_reflect::DynamicMessage;

use crate::{ModelConfig, descriptor};

pub use places::Places;
pub use problem::Problem;
pub use spot::Spot;

/// Reads a configuration in text format; `path` is only named in error messages.
///
/// # Errors
/// Invalid argument, as `<path>:<line>:<column>: <what> (near '<text>')`.
pub fn parse(text: &str, path: &Path) -> Result<ModelConfig> {
    match read(text) {
        Ok((config, _)) => Ok(config),
        Err(problem) => Err(problem.into_error(text, path)),
    }
}

/// As [`parse`], for those who show where things stand.
///
/// # Errors
/// What is wrong first.
pub fn read(text: &str) -> std::result::Result<(ModelConfig, Places), Problem> {
    let mut message = DynamicMessage::new(descriptor::model_config());
    let places = parser::parse(text, &mut message)?;
    let config =
        descriptor::from_dynamic(&message).map_err(|error| Problem::new(error.message(), 0..0))?;
    Ok((config, places))
}

#[cfg(test)]
mod tests;
