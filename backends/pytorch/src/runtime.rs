//! The one libtorch of the process: found, its shim compiled, opened.

use std::sync::{Arc, Mutex, PoisonError};

use nereid_backend::cache_folder;

use crate::compile::{self, Failure};
use crate::ffi::Shim;
use crate::{cuda, discover};

/// Opened when the first model asks for it; a process can only have one libtorch.
#[derive(Default)]
pub(crate) struct Runtime(Mutex<Option<Arc<Shim>>>);

/// Why TorchScript cannot run in this process, and what the user can do about it.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) reason: String,
    pub(crate) cure: &'static str,
}

impl Runtime {
    /// `libtorch`: where the user says it is. A failure is not kept: the next load tries again.
    pub(crate) fn shim(&self, libtorch: Option<&str>) -> Result<Arc<Shim>, Unusable> {
        let mut shim = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*shim {
            return Ok(open.clone());
        }
        Ok(shim.insert(open(libtorch)?).clone())
    }
}

fn open(given: Option<&str>) -> Result<Arc<Shim>, Unusable> {
    let libtorch = discover::find(given).map_err(|reason| Unusable {
        reason,
        cure: "install PyTorch with a C++ compiler (Debian and Ubuntu: `apt-get install g++ \
               libtorch-dev`), or name the folder of a PyTorch installation with \
               --backend-config=pytorch,libtorch=PATH",
    })?;
    let (major, minor) = libtorch.version;
    tracing::info!("TorchScript runs on libtorch {major}.{minor} in {:?}", libtorch.libraries);
    let opened = || {
        let cache = cache_folder().map_err(|error| Failure::Other(error.to_string()))?;
        let shim = compile::shim(&libtorch, &cache)?;
        cuda::open_libtorch(&libtorch, &cache)?;
        Shim::open(&shim).map_err(|error| Failure::Other(format!("{}: {error}", shim.display())))
    };
    opened().map_err(|failure| match failure {
        Failure::NoCompiler => Unusable {
            reason: "there is no C++ compiler".to_owned(),
            cure: "install one (Debian and Ubuntu: `apt-get install g++`) or set CXX",
        },
        Failure::Other(reason) => Unusable {
            reason,
            cure: "install a matching C++ compiler (`apt-get install g++`) or another libtorch",
        },
    })
}
