//! The rules of the contract, with real worker processes.
#![allow(clippy::unwrap_used)] // clippy's exception for tests does not reach their helpers

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nereid_backend::ModelSource;
use nereid_backend::conformance::{Subject, check};
use nereid_backend_python::PythonBackend;
use nereid_inference::{DataType, Tensor};
use nereid_model_config::{ModelConfig, ModelInput, ModelOutput, datatype_number};

const MODEL: &str = "
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, 'IN').as_numpy()
            if array.flat[0] == 255:
                raise ValueError('no')
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', array)]))
        return responses
";

fn tensor(rows: usize, columns: usize, value: u8) -> Vec<Tensor> {
    let shape = vec![rows as i64, columns as i64];
    let data = vec![value; rows * columns].into();
    vec![Tensor { name: "IN".to_owned(), datatype: DataType::Uint8, shape, data }]
}

/// The tests' environment, else the system's interpreter, if it has numpy.
fn python() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    [venv, "python3".into()].into_iter().find(|python| {
        let mut command = Command::new(python);
        command.args(["-c", "import numpy"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

fn source(folder: &Path, python: &Path) -> ModelSource {
    let (data_type, dims) = (datatype_number(DataType::Uint8), vec![-1]);
    let input =
        ModelInput { name: "IN".to_owned(), data_type, dims: dims.clone(), ..Default::default() };
    let output = ModelOutput { name: "OUT".to_owned(), data_type, dims, ..Default::default() };
    let config = ModelConfig {
        name: "m".to_owned(),
        max_batch_size: 8,
        input: vec![input],
        output: vec![output],
        ..Default::default()
    };
    ModelSource {
        name: "m".to_owned(),
        version: 1,
        model_dir: folder.to_owned(),
        version_dir: folder.join("1"),
        config: Arc::new(config),
        settings: vec![("python".to_owned(), python.display().to_string())],
    }
}

#[test]
fn the_contract_is_kept() {
    let Some(python) = python() else {
        println!("skipped: there is no Python with numpy");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("1")).unwrap();
    std::fs::write(folder.path().join("1/model.py"), MODEL).unwrap();
    check(&Subject {
        backend: &PythonBackend::new(),
        source: source(folder.path(), &python),
        good: |rows| tensor(rows, 100, 7),
        bad: Some(|| tensor(1, 100, 255)),
        large: Some(|| tensor(1, 100_000, 7)),
    });
}
