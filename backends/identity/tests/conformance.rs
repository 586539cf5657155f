//! The rules of the contract.
#![allow(clippy::unwrap_used)] // clippy's exception for tests does not reach their helpers

use std::sync::Arc;

use nereid_backend::ModelSource;
use nereid_backend::conformance::{Subject, check};
use nereid_backend_identity::IdentityBackend;
use nereid_inference::{DataType, Tensor};
use nereid_model_config::{ModelConfig, ModelInput, ModelOutput, ModelParameter, datatype_number};

fn tensor(rows: usize, columns: usize) -> Vec<Tensor> {
    let shape = vec![rows as i64, columns as i64];
    let data = vec![7; rows * columns].into();
    vec![Tensor { name: "IN".to_owned(), datatype: DataType::Uint8, shape, data }]
}

fn source(delay: bool) -> ModelSource {
    let (data_type, dims) = (datatype_number(DataType::Uint8), vec![-1]);
    let input =
        ModelInput { name: "IN".to_owned(), data_type, dims: dims.clone(), ..Default::default() };
    let output = ModelOutput { name: "OUT".to_owned(), data_type, dims, ..Default::default() };
    let one = ModelParameter { string_value: "1".to_owned() };
    let parameters = delay.then(|| ("execute_delay_ms".to_owned(), one));
    let config = ModelConfig {
        max_batch_size: 8,
        input: vec![input],
        output: vec![output],
        parameters: parameters.into_iter().collect(),
        ..Default::default()
    };
    ModelSource {
        name: "m".to_owned(),
        version: 1,
        model_dir: "/m".into(),
        version_dir: "/m/1".into(),
        config: Arc::new(config),
        settings: Vec::new(),
    }
}

#[test]
fn the_contract_is_kept() {
    for delay in [false, true] {
        check(&Subject {
            backend: &IdentityBackend,
            source: source(delay),
            good: |rows| tensor(rows, 100),
            bad: None,
            large: Some(|| tensor(1, 100_000)),
        });
    }
}
