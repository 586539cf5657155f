//! Elements of a tensor that were sent as typed values.

use nereid_inference::{DataType, Error, Result, push_bytes_element};

use crate::proto::InferTensorContents;

/// The bytes of the input `input` of `model`. Exactly one field may hold values, the one that fits
/// `datatype`.
pub(crate) fn read_contents(
    contents: &InferTensorContents,
    datatype: Option<DataType>,
    input: &str,
    model: &str,
) -> Result<Vec<u8>> {
    let mut tensor = Explicit { input, model, datatype, bytes: Vec::new() };
    tensor.take(DataType::Bool, &contents.bool_contents, |value| [u8::from(value)])?;
    let ints = &contents.int_contents;
    // Narrow types travel in wide fields; what does not fit is cut off, as Triton does.
    match datatype {
        Some(DataType::Int8) => tensor.take(DataType::Int8, ints, |value| [value as u8])?,
        Some(DataType::Int16) => {
            tensor.take(DataType::Int16, ints, |value| (value as i16).to_le_bytes())?;
        }
        _ => tensor.take(DataType::Int32, ints, i32::to_le_bytes)?,
    }
    tensor.take(DataType::Int64, &contents.int64_contents, i64::to_le_bytes)?;
    let uints = &contents.uint_contents;
    match datatype {
        Some(DataType::Uint8) => tensor.take(DataType::Uint8, uints, |value| [value as u8])?,
        Some(DataType::Uint16) => {
            tensor.take(DataType::Uint16, uints, |value| (value as u16).to_le_bytes())?;
        }
        _ => tensor.take(DataType::Uint32, uints, u32::to_le_bytes)?,
    }
    tensor.take(DataType::Uint64, &contents.uint64_contents, u64::to_le_bytes)?;
    tensor.take(DataType::Fp32, &contents.fp32_contents, f32::to_le_bytes)?;
    tensor.take(DataType::Fp64, &contents.fp64_contents, f64::to_le_bytes)?;
    if !contents.bytes_contents.is_empty() {
        tensor.check(DataType::Bytes)?;
        contents.bytes_contents.iter().for_each(|e| push_bytes_element(&mut tensor.bytes, e));
    }
    Ok(tensor.bytes)
}

/// A tensor of which one field after another is looked at.
struct Explicit<'a> {
    input: &'a str,
    model: &'a str,
    datatype: Option<DataType>,
    bytes: Vec<u8>,
}

impl Explicit<'_> {
    /// Takes the values of a field that is for tensors of type `field`.
    fn take<T: Copy, const N: usize>(
        &mut self,
        field: DataType,
        values: &[T],
        to_bytes: impl Fn(T) -> [u8; N],
    ) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.check(field)?;
        self.bytes.reserve_exact(values.len() * N);
        self.bytes.extend(values.iter().flat_map(|&value| to_bytes(value)));
        Ok(())
    }

    fn check(&self, field: DataType) -> Result<()> {
        let Self { input, model, .. } = self;
        let unexpected = format!(
            "unexpected explicit tensor data for input tensor '{input}' for model '{model}'"
        );
        if !self.bytes.is_empty() {
            return Err(Error::invalid_arg(format!(
                "{unexpected}, binary data was already supplied."
            )));
        }
        if self.datatype != Some(field) {
            let expected = self.datatype.map_or("<invalid>", DataType::name);
            return Err(Error::invalid_arg(format!(
                "{unexpected} of type '{field}', expected datatype '{expected}'"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(contents: &InferTensorContents, datatype: DataType) -> Result<Vec<u8>> {
        read_contents(contents, Some(datatype), "IN", "m")
    }

    #[test]
    fn each_datatype_has_its_field() {
        let signed = InferTensorContents { int_contents: vec![1, 300], ..Default::default() };
        assert_eq!(read(&signed, DataType::Int8), Ok(vec![1, 44]));
        assert_eq!(read(&signed, DataType::Int16), Ok(vec![1, 0, 44, 1]));
        assert_eq!(read(&signed, DataType::Int32), Ok(vec![1, 0, 0, 0, 44, 1, 0, 0]));
        let unsigned = InferTensorContents { uint_contents: vec![258], ..Default::default() };
        assert_eq!(read(&unsigned, DataType::Uint8), Ok(vec![2]));
        assert_eq!(read(&unsigned, DataType::Uint16), Ok(vec![2, 1]));
        assert_eq!(read(&unsigned, DataType::Uint32), Ok(vec![2, 1, 0, 0]));
        let bools = InferTensorContents { bool_contents: vec![true, false], ..Default::default() };
        assert_eq!(read(&bools, DataType::Bool), Ok(vec![1, 0]));
        let bytes = InferTensorContents {
            bytes_contents: vec!["ab".into(), "".into()],
            ..Default::default()
        };
        assert_eq!(read(&bytes, DataType::Bytes), Ok(b"\x02\0\0\0ab\0\0\0\0".to_vec()));
        assert_eq!(read(&InferTensorContents::default(), DataType::Fp16), Ok(vec![]));
    }

    #[test]
    fn other_fields_are_refused() {
        let mut contents = InferTensorContents { fp32_contents: vec![1.0], ..Default::default() };
        let wrong = read(&contents, DataType::Fp16).unwrap_err();
        assert!(wrong.message().ends_with("of type 'FP32', expected datatype 'FP16'"), "{wrong}");
        contents.int64_contents = vec![1];
        let both = read(&contents, DataType::Int64).unwrap_err();
        assert!(both.message().ends_with("'m', binary data was already supplied."), "{both}");
    }
}
