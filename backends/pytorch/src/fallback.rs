//! What takes over where libtorch cannot be used in this process: a Python worker.

use std::sync::Arc;

use nereid_backend::{Host, Model, ModelSource};
use nereid_inference::Result;

/// Loads a TorchScript model in a Python worker; the text is that of its `model.py`.
pub type Fallback = Arc<
    dyn Fn(&ModelSource, &Host, &'static str) -> Result<Box<dyn Model>> + Send + Sync + 'static,
>;

/// A `model.py` that runs the version's TorchScript file with the user's own torch.
pub fn model_py() -> &'static str {
    include_str!("torchscript_model.py")
}
