//! What is kept of a response.

use bytes::Bytes;
use nereid_inference::{Buffer, Parameter, Parameters, Response, Tensor};

/// Tensors of at least this size are kept where they lie. Smaller ones are often a slice of
/// something larger (a frame, a batch), which would have to be kept with them.
const KEPT_IN_PLACE: usize = 64 << 10;

/// What an entry, each of its tensors and each of its parameters take beside their bytes.
const ENTRY_OVERHEAD: usize = 256;
const TENSOR_OVERHEAD: usize = 128;
const PARAMETER_OVERHEAD: usize = 64;

/// A response as it was sent to its client, without who sent it.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub outputs: Vec<Tensor>,
    pub parameters: Parameters,
}

impl Entry {
    /// Large tensors are shared with the response, unless they are themselves a part of something
    /// that others share, such as a batch.
    pub fn of(response: &mut Response) -> Self {
        let kept = |output: &mut Tensor| {
            output.data = compact(&output.data);
            output.clone()
        };
        let outputs = response.outputs.iter_mut().map(kept).collect();
        Self { outputs, parameters: response.parameters.clone() }
    }

    /// Bytes of memory that keeping it takes, about.
    pub fn byte_size(&self) -> usize {
        let tensor = |tensor: &Tensor| {
            TENSOR_OVERHEAD + tensor.name.len() + 8 * tensor.shape.len() + tensor.data.len()
        };
        let parameter = |(name, value): &(String, Parameter)| {
            let text = if let Parameter::String(text) = value { text.len() } else { 0 };
            PARAMETER_OVERHEAD + name.len() + text
        };
        ENTRY_OVERHEAD
            + self.outputs.iter().map(tensor).sum::<usize>()
            + self.parameters.iter().map(parameter).sum::<usize>()
    }
}

fn compact(data: &Buffer) -> Buffer {
    match data {
        Buffer::One(bytes) if bytes.len() >= KEPT_IN_PLACE && bytes.is_unique() => data.clone(),
        Buffer::One(bytes) => Buffer::One(Bytes::copy_from_slice(bytes)),
        Buffer::Segments(_) => Buffer::One(data.contiguous()),
        Buffer::Device(_) => data.clone(),
    }
}

#[cfg(test)]
mod tests {
    use nereid_inference::DataType;

    use super::*;

    fn kept(data: Bytes) -> (Bytes, Bytes) {
        let tensor = Tensor {
            name: "OUT".into(),
            datatype: DataType::Uint8,
            shape: vec![data.len() as i64],
            data: Buffer::One(data),
        };
        let mut response = Response::new(vec![tensor]);
        let entry = Entry::of(&mut response);
        (entry.outputs[0].data.contiguous(), response.outputs[0].data.contiguous())
    }

    #[test]
    fn large_tensors_are_kept_in_place_and_slices_are_not() {
        let large = Bytes::from(vec![1; KEPT_IN_PLACE]);
        let place = large.as_ptr();
        let (entry, response) = kept(large);
        assert_eq!((entry.as_ptr(), response.as_ptr()), (place, place));

        let batch = Bytes::from(vec![1; 2 * KEPT_IN_PLACE]);
        let (entry, _) = kept(batch.slice(..KEPT_IN_PLACE));
        assert_ne!(entry.as_ptr(), batch.as_ptr(), "the batch can go");

        let frame = Bytes::from(vec![1; 100]);
        let place = frame.as_ptr();
        let (entry, response) = kept(frame);
        assert_ne!(entry.as_ptr(), place);
        assert_eq!(entry, response);
    }
}
