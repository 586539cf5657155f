//! Inputs and outputs: name, type, shape, and the shape that the backend sees.

use nereid_inference::{Result, element_count};

use super::check;
use crate::proto::{ModelConfig, ModelInput, ModelOutput, ModelTensorReshape, model_input::Format};

pub(super) fn validate(config: &ModelConfig) -> Result<()> {
    let tensorrt = config.backend_name() == "tensorrt";
    for input in &config.input {
        validate_input(input, config.max_batch_size, tensorrt)
            .map_err(|error| suffixed(error, &config.name))?;
    }
    for output in &config.output {
        Tensor::from(output)
            .validate(config.max_batch_size, tensorrt)
            .map_err(|error| suffixed(error, &config.name))?;
    }
    Ok(())
}

/// Messages about a tensor end with the model's name.
fn suffixed(error: nereid_inference::Error, model: &str) -> nereid_inference::Error {
    nereid_inference::Error::new(error.code(), format!("{} for {model}", error.message()))
}

/// What inputs and outputs have in common.
struct Tensor<'a> {
    /// `input` or `output`.
    role: &'static str,
    name: &'a str,
    data_type: i32,
    dims: &'a [i64],
    reshape: Option<&'a ModelTensorReshape>,
    is_shape_tensor: bool,
    is_non_linear_format_io: bool,
}

impl<'a> From<&'a ModelInput> for Tensor<'a> {
    fn from(input: &'a ModelInput) -> Self {
        Self {
            role: "input",
            name: &input.name,
            data_type: input.data_type,
            dims: &input.dims,
            reshape: input.reshape.as_ref(),
            is_shape_tensor: input.is_shape_tensor,
            is_non_linear_format_io: input.is_non_linear_format_io,
        }
    }
}

impl<'a> From<&'a ModelOutput> for Tensor<'a> {
    fn from(output: &'a ModelOutput) -> Self {
        Self {
            role: "output",
            name: &output.name,
            data_type: output.data_type,
            dims: &output.dims,
            reshape: output.reshape.as_ref(),
            is_shape_tensor: output.is_shape_tensor,
            is_non_linear_format_io: output.is_non_linear_format_io,
        }
    }
}

fn validate_input(input: &ModelInput, max_batch_size: i32, tensorrt: bool) -> Result<()> {
    Tensor::from(input).validate(max_batch_size, tensorrt)?;
    let is_image = matches!(input.format(), Format::Nhwc | Format::Nchw);
    check(!is_image || input.dims.len() == 3, || "model input NHWC/NCHW require 3 dims".to_owned())
}

impl Tensor<'_> {
    fn validate(&self, max_batch_size: i32, tensorrt: bool) -> Result<()> {
        let Self { role, name, .. } = self;
        check(!name.is_empty(), || format!("model {role} must specify 'name'"))?;
        check(self.data_type != 0, || self.says("must specify 'data_type'"))?;
        check(!self.dims.is_empty(), || self.says("must specify 'dims'"))?;
        self.check_dims("dimension", self.dims)?;
        if let Some(reshape) = self.reshape {
            self.check_reshape(&reshape.shape, max_batch_size)?;
        }
        check(!self.is_shape_tensor || tensorrt, || {
            "shape tensors are only supported for TensorRT platform".to_owned()
        })?;
        check(!self.is_non_linear_format_io || tensorrt, || {
            "Non-linear IO format is only supported for the TensorRT platform".to_owned()
        })
    }

    fn says(&self, what: &str) -> String {
        format!("model {} '{}' {what}", self.role, self.name)
    }

    fn check_dims(&self, what: &str, dims: &[i64]) -> Result<()> {
        check(dims.iter().all(|&dim| dim >= 1 || dim == -1), || {
            self.says(&format!(
                "{what} must be integer >= 1, or -1 to indicate a variable-size dimension"
            ))
        })
    }

    fn check_reshape(&self, reshape: &[i64], max_batch_size: i32) -> Result<()> {
        check(!reshape.is_empty() || max_batch_size > 0, || {
            self.says(
                "cannot have empty reshape for non-batching model as scalar tensors are not \
                 supported",
            )
        })?;
        self.check_dims("reshape dimensions", reshape)?;
        let different_size = || self.says("has different size for dims and reshape");
        check(element_count(self.dims) == element_count(reshape), different_size)?;
        let (dims, reshape) = (parts(self.dims), parts(reshape));
        check(dims.len() == reshape.len(), || {
            self.says("has different number of variable-size dimensions for dims and reshape")
        })?;
        let mut pairs = dims.iter().zip(&reshape);
        check(pairs.all(|(a, b)| element_count(a) == element_count(b)), different_size)
    }
}

/// The runs of fixed dimensions between the variable ones.
fn parts(dims: &[i64]) -> Vec<&[i64]> {
    dims.split(|&dim| dim == -1).collect()
}
