//! Tensors as Triton writes them into traces.

use nereid_inference::{BytesElements, DataType, Tensor};
use serde_json::{Value, json};

/// `{"name":…,"data":"1,2,3","shape":"3","dtype":"FP32"}`
pub(crate) fn tensor(tensor: &Tensor) -> Value {
    let shape: Vec<String> = tensor.shape.iter().map(i64::to_string).collect();
    json!({
        "name": tensor.name,
        "data": tensor_text(tensor),
        "shape": shape.join(","),
        "dtype": tensor.datatype.name(),
    })
}

/// The elements, with commas between them.
fn tensor_text(tensor: &Tensor) -> String {
    let data = tensor.data.contiguous();
    let texts: Vec<String> = match tensor.datatype {
        DataType::Bytes => BytesElements::new(&data)
            .map_while(Result::ok)
            .map(|element| String::from_utf8_lossy(element).into_owned())
            .collect(),
        DataType::Bool => texts(&data, |[byte]: [u8; 1]| i32::from(byte != 0)),
        DataType::Uint8 => texts(&data, u8::from_le_bytes),
        DataType::Uint16 => texts(&data, u16::from_le_bytes),
        DataType::Uint32 => texts(&data, u32::from_le_bytes),
        DataType::Uint64 => texts(&data, u64::from_le_bytes),
        DataType::Int8 => texts(&data, i8::from_le_bytes),
        DataType::Int16 => texts(&data, i16::from_le_bytes),
        DataType::Int32 => texts(&data, i32::from_le_bytes),
        DataType::Int64 => texts(&data, i64::from_le_bytes),
        DataType::Fp32 => texts(&data, f32::from_le_bytes),
        DataType::Fp64 => texts(&data, f64::from_le_bytes),
        // Triton writes no halves, either.
        DataType::Fp16 | DataType::Bf16 => Vec::new(),
    };
    texts.join(",")
}

fn texts<const N: usize, T: ToString>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<String> {
    data.as_chunks::<N>().0.iter().map(|bytes| read(*bytes).to_string()).collect()
}
