//! Opens libtorch's CPU half where it was built for CUDA and there is no CUDA.
//!
//! The `libtorch_cpu.so` of such a build names CUDA's runtime and profiler as libraries that it
//! needs, though it calls them for GPU work only. They are opened before it where they can be
//! found, as pip packages or in CUDA's folder; else empty libraries take their names.

use std::fs;
use std::path::{Path, PathBuf};

use crate::compile::{self, Failure};
use crate::discover::Libtorch;
use crate::ffi;

/// More libraries than a libtorch ever missed.
const ATTEMPTS: usize = 16;

/// Opens `libtorch_cpu.so`, with the libraries of CUDA that it misses.
pub(crate) fn open_libtorch(libtorch: &Libtorch, cache: &Path) -> Result<(), Failure> {
    let library = libtorch.libraries.join("libtorch_cpu.so");
    let mut message = String::new();
    for _ in 0..ATTEMPTS {
        match ffi::open_dependency(&library) {
            Ok(()) => return Ok(()),
            Err(error) => message = error,
        }
        let Some(soname) = missing(&message).filter(|soname| is_cuda(soname)) else { break };
        open_cuda(soname, libtorch, cache)?;
    }
    Err(Failure::Other(format!("{} cannot be opened: {message}", library.display())))
}

/// The library that the dynamic linker asks for in `libX.so.1: cannot open shared object file`.
fn missing(message: &str) -> Option<&str> {
    let (soname, _) = message.split_once(": cannot open shared object file")?;
    let soname = soname.rsplit([' ', '/']).next()?;
    soname.contains(".so").then_some(soname)
}

fn is_cuda(soname: &str) -> bool {
    ["libcu", "libnv", "libnccl"].iter().any(|prefix| soname.starts_with(prefix))
}

fn open_cuda(soname: &str, libtorch: &Libtorch, cache: &Path) -> Result<(), Failure> {
    let real = folders(libtorch).into_iter().map(|folder| folder.join(soname));
    if real.filter(|path| path.is_file()).any(|path| ffi::open_dependency(&path).is_ok()) {
        return Ok(());
    }
    tracing::debug!("{soname} is not on this machine: an empty library stands in for it");
    let stand_in = compile::stand_in(soname, cache)?;
    ffi::open_dependency(&stand_in).map_err(Failure::Other)
}

/// Where CUDA's libraries may lie: pip's packages beside torch, and CUDA's own folder.
fn folders(libtorch: &Libtorch) -> Vec<PathBuf> {
    let site_packages = libtorch.libraries.ancestors().nth(2).unwrap_or(Path::new("/"));
    let packages = fs::read_dir(site_packages.join("nvidia")).into_iter().flatten();
    let of_packages = packages.filter_map(|entry| entry.ok().map(|entry| entry.path().join("lib")));
    of_packages.chain([PathBuf::from("/usr/local/cuda/lib64")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_library_is_read_from_the_linkers_message() {
        let message = "libcupti.so.12: cannot open shared object file: No such file or directory";
        assert_eq!(missing(message), Some("libcupti.so.12"));
        assert_eq!(missing("/x/libtorch_cpu.so: undefined symbol: y"), None);
        assert!(is_cuda("libcudart.so.12") && !is_cuda("libgomp.so.1"));
    }
}
