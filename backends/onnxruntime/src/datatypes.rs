//! Element types by their numbers in ONNX files, which are those of ONNX Runtime as well.

use nereid_inference::DataType;

const TYPES: [(i32, DataType); 14] = [
    (1, DataType::Fp32),
    (2, DataType::Uint8),
    (3, DataType::Int8),
    (4, DataType::Uint16),
    (5, DataType::Int16),
    (6, DataType::Int32),
    (7, DataType::Int64),
    (8, DataType::Bytes),
    (9, DataType::Bool),
    (10, DataType::Fp16),
    (11, DataType::Fp64),
    (12, DataType::Uint32),
    (13, DataType::Uint64),
    (16, DataType::Bf16),
];

/// `None`: complex numbers, eight-bit floats and others that no protocol carries.
pub(crate) fn datatype(number: i32) -> Option<DataType> {
    TYPES.into_iter().find(|(known, _)| *known == number).map(|(_, datatype)| datatype)
}

pub(crate) fn number(datatype: DataType) -> i32 {
    TYPES.into_iter().find(|(_, known)| *known == datatype).map_or(0, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_number() {
        for known in DataType::ALL {
            assert_eq!(datatype(number(known)), Some(known));
        }
        assert_eq!(datatype(0), None);
    }
}
