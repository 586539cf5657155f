//! Triton's element types and libtorch's numbers for them.

use nereid_inference::{DataType, Error, Result};

/// The shim's number for a list of strings.
pub(crate) const STRINGS: i32 = -1;

/// `c10::ScalarType`.
const SCALAR_TYPES: [(i32, DataType); 11] = [
    (STRINGS, DataType::Bytes),
    (0, DataType::Uint8),
    (1, DataType::Int8),
    (2, DataType::Int16),
    (3, DataType::Int32),
    (4, DataType::Int64),
    (5, DataType::Fp16),
    (6, DataType::Fp32),
    (7, DataType::Fp64),
    (11, DataType::Bool),
    (15, DataType::Bf16),
];

/// libtorch's number for `datatype`; `None` where TorchScript has no such tensors.
pub(crate) fn scalar_type(datatype: DataType) -> Option<i32> {
    SCALAR_TYPES.iter().find(|(_, known)| *known == datatype).map(|(number, _)| *number)
}

/// The element type of an output.
pub(crate) fn datatype(scalar_type: i32) -> Result<DataType> {
    let found = SCALAR_TYPES.iter().find(|(number, _)| *number == scalar_type);
    found.map(|(_, datatype)| *datatype).ok_or_else(|| {
        Error::internal(format!(
            "the model returned a tensor of PyTorch's scalar type {scalar_type}, which has no \
             counterpart in the protocol"
        ))
    })
}
