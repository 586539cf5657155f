//! The only list of backends.

use std::path::Path;
use std::sync::Arc;

use nereid_backend::Backend;
use nereid_backend_identity::IdentityBackend;
use nereid_backend_onnxruntime::OnnxRuntimeBackend;
use nereid_backend_python::{PythonBackend, PythonBased};
use nereid_backend_pytorch::PytorchBackend;
use nereid_backend_samples::{
    DynaSequenceBackend, IterativeSequenceBackend, RepeatBackend, SequenceBackend, SquareBackend,
};

/// The backends of this binary, and those written in Python in the backend directory.
pub(crate) fn all(directory: &Path) -> Vec<Box<dyn Backend>> {
    let python = Arc::new(PythonBackend::new());
    let worker = python.clone();
    // Where libtorch cannot be used in this process, the user's own torch may be, in a worker.
    let pytorch = PytorchBackend::with_fallback(Arc::new(move |source, host, model_py| {
        worker.load_text(source, host, model_py)
    }));
    let python_based = PythonBased::find(directory, &python);
    let mut all: Vec<Box<dyn Backend>> = vec![
        Box::new(IdentityBackend),
        Box::new(OnnxRuntimeBackend::new()),
        Box::new(pytorch),
        Box::new(python),
        Box::new(RepeatBackend),
        Box::new(SquareBackend),
        Box::new(SequenceBackend),
        Box::new(DynaSequenceBackend),
        Box::new(IterativeSequenceBackend),
    ];
    for backend in python_based {
        if all.iter().all(|known| known.name() != backend.name()) {
            all.push(Box::new(backend));
        }
    }
    all
}
