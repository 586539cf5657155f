//! Element types of ONNX Runtime, whose numbers are those of ONNX files as well.

use nereid_inference::DataType;
use ort::sys::ONNXTensorElementDataType as ElementType;

const TYPES: [(ElementType, DataType); 14] = [
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, DataType::Fp32),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, DataType::Uint8),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, DataType::Int8),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, DataType::Uint16),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, DataType::Int16),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, DataType::Int32),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, DataType::Int64),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, DataType::Bytes),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, DataType::Bool),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, DataType::Fp16),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, DataType::Fp64),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, DataType::Uint32),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, DataType::Uint64),
    (ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, DataType::Bf16),
];

/// `None`: complex numbers, eight-bit floats and others that no protocol carries.
pub(crate) fn datatype(number: i32) -> Option<DataType> {
    TYPES.into_iter().find(|(known, _)| *known as i32 == number).map(|(_, datatype)| datatype)
}

pub(crate) fn element_type(datatype: DataType) -> ElementType {
    let found = TYPES.into_iter().find(|(_, known)| *known == datatype);
    found.map_or(ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, |(known, _)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_number() {
        for known in DataType::ALL {
            assert_eq!(datatype(element_type(known) as i32), Some(known));
        }
        assert_eq!(datatype(0), None);
    }
}
