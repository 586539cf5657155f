//! Finds an installation of libtorch: headers, libraries, C++ ABI. Nothing is imported.

use std::fs;
use std::path::{Path, PathBuf};

use nereid_inference::{Error, Result};

/// Where libtorch is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Libtorch {
    pub(crate) includes: Vec<PathBuf>,
    pub(crate) libraries: PathBuf,
    /// `_GLIBCXX_USE_CXX11_ABI`: which of the two string layouts it was compiled with.
    pub(crate) new_abi: bool,
}

const CURE: &str = "install PyTorch (`pip install torch`) or Debian's libtorch-dev, or name its \
    folder with --backend-config=pytorch,libtorch=PATH";

/// Searches: the folder given, `LIBTORCH`, pip's torch in the active environment and in that of
/// the `python3` on the PATH, Debian's libtorch-dev.
pub(crate) fn find(given: Option<&str>) -> Result<Libtorch> {
    let named = given.map(PathBuf::from);
    let from_env = std::env::var_os("LIBTORCH").map(PathBuf::from);
    let roots = named.clone().into_iter().chain(from_env).chain(pip_folders());
    for root in roots {
        if let Some(found) = in_root(&root) {
            return Ok(found);
        }
    }
    if let Some(path) = named {
        let message = format!("there is no libtorch in {}: {CURE}", path.display());
        return Err(Error::unavailable(message));
    }
    debian().ok_or_else(|| Error::unavailable(format!("no libtorch was found: {CURE}")))
}

/// Layout of pip's torch and of the archives from pytorch.org.
fn in_root(root: &Path) -> Option<Libtorch> {
    let (include, libraries) = (root.join("include"), root.join("lib"));
    let usable = include.join("torch/script.h").is_file()
        || include.join("torch/csrc/api/include/torch/script.h").is_file();
    let new_abi = has_new_abi(&libraries.join("libc10.so"))?;
    let includes = vec![include.join("torch/csrc/api/include"), include];
    usable.then_some(Libtorch { includes, libraries, new_abi })
}

fn debian() -> Option<Libtorch> {
    let include = PathBuf::from("/usr/include");
    let script = include.join("torch/csrc/api/include/torch/script.h");
    if !script.is_file() {
        return None;
    }
    let libraries = fs::read_dir("/usr/lib")
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.join("libtorch_cpu.so").exists())?;
    let new_abi = has_new_abi(&libraries.join("libc10.so"))?;
    Some(Libtorch {
        includes: vec![include.join("torch/csrc/api/include"), include],
        libraries,
        new_abi,
    })
}

/// A symbol with a string in it says which ABI a library was compiled with.
fn has_new_abi(c10: &Path) -> Option<bool> {
    let library = fs::read(c10).ok()?;
    let marker = b"__cxx1112basic_string";
    Some(library.windows(marker.len()).any(|window| window == marker))
}

fn pip_folders() -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter().collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let python = std::env::split_paths(&path).map(|folder| folder.join("python3"));
    // An environment's python3 lies in its bin folder; following the link would leave it.
    for python in python.filter(|python| python.is_file()) {
        prefixes.extend(python.parent().and_then(Path::parent).map(Path::to_owned));
    }
    prefixes
        .iter()
        .filter_map(|prefix| fs::read_dir(prefix.join("lib")).ok())
        .flat_map(|entries| entries.filter_map(|entry| entry.ok().map(|entry| entry.path())))
        .map(|python| python.join("site-packages/torch"))
        .filter(|torch| torch.is_dir())
        .collect()
}
