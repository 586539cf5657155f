//! What the targets have in common.

use nereid_inference::DataType;
use nereid_model_config::{ConfigDataType, ModelConfig, ModelInput, ModelOutput};

/// A model with an input and an output of every kind.
pub fn config() -> ModelConfig {
    let kinds = [
        ("IN", ConfigDataType::TypeFp32, vec![-1]),
        ("WORDS", ConfigDataType::TypeString, vec![2]),
        ("SMALL", ConfigDataType::TypeInt8, vec![-1, 2]),
        ("data", ConfigDataType::TypeBool, vec![1]),
    ];
    let input = kinds.iter().map(|(name, kind, dims)| ModelInput {
        name: (*name).to_owned(),
        data_type: (*kind).into(),
        dims: dims.clone(),
        ..Default::default()
    });
    let output = kinds.iter().map(|(name, kind, dims)| ModelOutput {
        name: format!("{name}_OUT"),
        data_type: (*kind).into(),
        dims: dims.clone(),
        ..Default::default()
    });
    ModelConfig {
        name: "m".to_owned(),
        max_batch_size: 8,
        input: input.collect(),
        output: output.collect(),
        ..Default::default()
    }
}

/// Whether a tensor is what it says, for those whose bytes were made here.
pub fn is_whole(datatype: DataType, shape: &[i64], len: usize) -> bool {
    let count = nereid_inference::element_count(shape).unwrap_or(usize::MAX);
    datatype.byte_size().is_none_or(|size| count == 0 || count.saturating_mul(size) == len)
}
