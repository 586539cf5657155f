//! Compiles the shim against a libtorch, once, and keeps the result.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use nereid_inference::{Error, Result};

use crate::discover::Libtorch;

const SOURCE: &str = include_str!("../shim/torch_shim.cpp");

/// The shim for `libtorch`, compiled now if it was not before.
pub(crate) fn shim(libtorch: &Libtorch) -> Result<PathBuf> {
    let folder = cache_folder()?;
    let path = folder.join(format!("torch-shim-{:016x}.so", fingerprint(libtorch)));
    if path.is_file() {
        return Ok(path);
    }
    tracing::info!(
        "compiling the TorchScript shim for {} (once, about a minute)",
        libtorch.libraries.display()
    );
    // Written beside and renamed: another server may be doing the same.
    let unique = std::process::id();
    let source = folder.join(format!("torch-shim-{unique}.cpp"));
    let fresh = folder.join(format!("torch-shim-{unique}.so"));
    let failed = |error: std::io::Error| {
        Error::internal(format!("failed to write to {}: {error}", folder.display()))
    };
    fs::write(&source, SOURCE).map_err(failed)?;
    let compiled = compile(libtorch, &source, &fresh);
    let _ = fs::remove_file(&source);
    compiled?;
    fs::rename(&fresh, &path).map_err(failed)?;
    Ok(path)
}

fn compile(libtorch: &Libtorch, source: &Path, target: &Path) -> Result<()> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut command = Command::new(&compiler);
    command
        .args(["-std=c++17", "-O1", "-fPIC", "-shared", "-w"])
        .arg(format!("-D_GLIBCXX_USE_CXX11_ABI={}", u8::from(libtorch.new_abi)));
    for include in &libtorch.includes {
        command.arg("-isystem").arg(include);
    }
    command
        .arg(source)
        .arg("-o")
        .arg(target)
        .arg("-L")
        .arg(&libtorch.libraries)
        .args(["-Wl,--no-as-needed", "-ltorch_cpu", "-lc10"])
        .arg(format!("-Wl,-rpath,{}", libtorch.libraries.display()));
    let output = command.output().map_err(|error| {
        Error::unavailable(format!(
            "TorchScript needs a C++ compiler, and '{compiler}' cannot be run ({error}): install \
             one (`apt-get install g++`) or set CXX"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    let first: Vec<&str> = messages.lines().filter(|line| line.contains("error")).take(3).collect();
    Err(Error::internal(format!("the TorchScript shim does not compile: {}", first.join("; "))))
}

fn fingerprint(libtorch: &Libtorch) -> u64 {
    let mut hasher = DefaultHasher::new();
    (SOURCE, libtorch).hash(&mut hasher);
    if let Ok(library) = fs::metadata(libtorch.libraries.join("libtorch_cpu.so")) {
        (library.len(), library.modified().ok()).hash(&mut hasher);
    }
    hasher.finish()
}

fn cache_folder() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let mut last = String::new();
    for root in cache.into_iter().chain([std::env::temp_dir()]) {
        let folder = root.join("nereid");
        match fs::create_dir_all(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) => last = format!("{}: {error}", folder.display()),
        }
    }
    Err(Error::internal(format!("no folder for the TorchScript shim ({last})")))
}
