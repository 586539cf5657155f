//! `reshape` in a configuration: clients see one shape, the model another one of the same size.

use nereid_inference::Tensor;
use nereid_model_config::{ModelConfig, ModelTensorReshape};

/// The tensors of a model that change their shape on the way in or out.
pub(crate) struct Reshapes {
    inputs: Vec<Reshape>,
    outputs: Vec<Reshape>,
    /// Dimensions in front of the configured ones: 1 where the model batches.
    batch_dims: usize,
}

/// Both shapes are without the batch dimension, with -1 where a size is left open.
struct Reshape {
    name: String,
    from: Vec<i64>,
    to: Vec<i64>,
}

impl Reshapes {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let pair = |name: &String, from: &Vec<i64>, to: &Vec<i64>| Reshape {
            name: name.clone(),
            from: from.clone(),
            to: to.clone(),
        };
        let shape = |reshape: &ModelTensorReshape| reshape.shape.clone();
        let inputs = config.input.iter().filter_map(|input| {
            Some(pair(&input.name, &input.dims, &input.reshape.as_ref().map(shape)?))
        });
        let outputs = config.output.iter().filter_map(|output| {
            Some(pair(&output.name, &output.reshape.as_ref().map(shape)?, &output.dims))
        });
        Self {
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            batch_dims: usize::from(config.batches()),
        }
    }

    /// From the client's shapes to the model's.
    pub(crate) fn apply_to_inputs(&self, tensors: &mut [Tensor]) {
        self.apply(&self.inputs, tensors);
    }

    /// From the model's shapes to the client's.
    pub(crate) fn apply_to_outputs(&self, tensors: &mut [Tensor]) {
        self.apply(&self.outputs, tensors);
    }

    fn apply(&self, reshapes: &[Reshape], tensors: &mut [Tensor]) {
        for reshape in reshapes {
            let named = tensors.iter_mut().filter(|tensor| tensor.name == reshape.name);
            for tensor in named {
                reshape.apply(&mut tensor.shape, self.batch_dims);
            }
        }
    }
}

impl Reshape {
    /// Open sizes go over in their order. A model's shape that is not as configured stays as it is.
    fn apply(&self, shape: &mut Vec<i64>, batch_dims: usize) {
        if shape.len() != batch_dims + self.from.len() {
            return;
        }
        let inner = shape.split_off(batch_dims);
        let mut open =
            inner.iter().zip(&self.from).filter(|(_, dim)| **dim == -1).map(|(size, _)| *size);
        let dims =
            self.to.iter().map(|&dim| if dim == -1 { open.next().unwrap_or(-1) } else { dim });
        shape.extend(dims);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reshaped(from: &[i64], to: &[i64], shape: &[i64], batch_dims: usize) -> Vec<i64> {
        let reshape = Reshape { name: String::new(), from: from.to_vec(), to: to.to_vec() };
        let mut shape = shape.to_vec();
        reshape.apply(&mut shape, batch_dims);
        shape
    }

    #[test]
    fn sizes_go_over_in_order() {
        assert_eq!(reshaped(&[1], &[], &[4, 1], 1), [4]);
        assert_eq!(reshaped(&[], &[1], &[4], 1), [4, 1]);
        assert_eq!(reshaped(&[-1, 4, -1], &[-1, 2, 2, -1], &[3, 4, 5], 0), [3, 2, 2, 5]);
        assert_eq!(reshaped(&[2], &[2, 1], &[2, 2], 0), [2, 2], "not as configured");
    }
}
