//! Requests whose whole body is the data of a model's only input.

use bytes::{BufMut, Bytes, BytesMut};
use nereid_inference::{Buffer, DataType, Error, Result, Tensor, log_prefix};
use nereid_model_config::ModelConfig;

use crate::infer_request::{InferRequest, OutputFormat};

/// Makes a request of a body without JSON. The one dimension that the model leaves open follows
/// from the body's length; all outputs are sent in binary.
pub fn raw_infer_request(config: &ModelConfig, body: Bytes) -> Result<InferRequest> {
    let refuse = |message: String| Err(Error::invalid_arg(format!("{}{message}", log_prefix(""))));
    let [input] = config.input.as_slice() else {
        let count = config.input.len();
        return refuse(format!(
            "Raw request must only have 1 input (found 1) to be deduced but got {count} inputs in \
             '{}' model configuration",
            config.name
        ));
    };
    let datatype = input.datatype().unwrap_or(DataType::Uint8);
    let batch = (config.max_batch_size > 0).then_some(1);
    let mut shape: Vec<i64> = batch.into_iter().chain(input.dims.iter().copied()).collect();
    let data = match datatype.byte_size() {
        None if shape.iter().all(|&dim| dim == 1 || dim == -1) => {
            shape.fill(1);
            string_element(&body)
        }
        None => {
            return refuse(format!(
                "For BYTE datatype raw input '{}', the model must have input shape [1]",
                input.name
            ));
        }
        Some(element_size) => {
            if shape.iter().filter(|&&dim| dim == -1).count() > 1 {
                return refuse(format!(
                    "The shape of the raw input '{}' can not be deduced because there are more \
                     than one variable-sized dimension",
                    input.name
                ));
            }
            // Saturating: what does not fit is larger than any body, and refused as too large.
            let fixed = shape.iter().filter(|&&dim| dim != -1).fold(1usize, |product, &dim| {
                product.saturating_mul(usize::try_from(dim).unwrap_or_default())
            });
            let row = fixed.max(1).saturating_mul(element_size);
            let open = (body.len() / row) as i64;
            shape.iter_mut().filter(|dim| **dim == -1).for_each(|dim| *dim = open);
            body
        }
    };
    let tensor = Tensor { name: input.name.clone(), datatype, shape, data: Buffer::One(data) };
    Ok(InferRequest {
        inputs: vec![tensor],
        format: OutputFormat::all_binary(),
        ..InferRequest::default()
    })
}

/// The body as the only element of a tensor of strings.
fn string_element(body: &[u8]) -> Bytes {
    let mut element = BytesMut::with_capacity(4 + body.len());
    element.put_u32_le(u32::try_from(body.len()).unwrap_or(u32::MAX));
    element.put_slice(body);
    element.freeze()
}

#[cfg(test)]
mod tests {
    use nereid_model_config::{ConfigDataType, ModelInput};

    use super::*;

    fn config(max_batch_size: i32, data_type: ConfigDataType, dims: &[i64]) -> ModelConfig {
        let data_type = data_type.into();
        let input =
            ModelInput { name: "IN".into(), data_type, dims: dims.to_vec(), ..Default::default() };
        ModelConfig { name: "m".into(), max_batch_size, input: vec![input], ..Default::default() }
    }

    fn tensor(config: &ModelConfig, body: &'static [u8]) -> Result<Tensor> {
        raw_infer_request(config, Bytes::from_static(body)).map(|mut r| r.inputs.remove(0))
    }

    #[test]
    fn the_open_dimension_follows_from_the_length() {
        let fp32 = ConfigDataType::TypeFp32;
        for (batch, dims, shape) in [
            (0, &[-1][..], &[6][..]),
            (4, &[-1], &[1, 6]),
            (4, &[2, -1], &[1, 2, 3]),
            (0, &[6], &[6]),
            (0, &[i64::MAX, i64::MAX, -1], &[i64::MAX, i64::MAX, 0]),
        ] {
            let tensor = tensor(&config(batch, fp32, dims), &[0; 24]).unwrap();
            assert_eq!(tensor.shape, shape);
        }
    }

    #[test]
    fn a_string_gets_its_length() {
        let tensor = tensor(&config(4, ConfigDataType::TypeString, &[1]), b"abc").unwrap();
        assert_eq!(tensor.shape, [1, 1]);
        assert_eq!(&tensor.data.contiguous()[..], b"\x03\0\0\0abc");
    }

    #[test]
    fn what_cannot_be_deduced_is_refused() {
        let two_open = config(0, ConfigDataType::TypeFp32, &[-1, -1]);
        let strings = config(0, ConfigDataType::TypeString, &[2]);
        let mut two_inputs = config(0, ConfigDataType::TypeFp32, &[-1]);
        two_inputs.input.push(ModelInput::default());
        for (config, message) in [
            (two_open, "more than one variable-sized dimension"),
            (strings, "For BYTE datatype raw input 'IN', the model must have input shape [1]"),
            (two_inputs, "(found 1) to be deduced but got 2 inputs in 'm' model configuration"),
        ] {
            let error = tensor(&config, b"abcd").unwrap_err();
            assert!(error.message().contains(message), "{error}");
        }
    }
}
