//! The only list of backends.

use nereid_backend::Backend;
use nereid_backend_identity::IdentityBackend;
use nereid_backend_onnxruntime::OnnxRuntimeBackend;
use nereid_backend_python::PythonBackend;
use nereid_backend_pytorch::PytorchBackend;

pub(crate) fn all() -> Vec<Box<dyn Backend>> {
    vec![
        Box::new(IdentityBackend),
        Box::new(OnnxRuntimeBackend::new()),
        Box::new(PythonBackend::new()),
        Box::new(PytorchBackend::new()),
    ]
}
