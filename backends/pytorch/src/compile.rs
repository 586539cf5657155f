//! Compiles the shim against a libtorch, once, and keeps the result.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::discover::Libtorch;

const SOURCE: &str = include_str!("../shim/torch_shim.cpp");

/// Why there is no shim.
#[derive(Debug)]
pub(crate) enum Failure {
    NoCompiler,
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(format!("the TorchScript shim cannot be compiled: {error}"))
    }
}

/// The shim for `libtorch` in `cache`, compiled now if it was not before.
pub(crate) fn shim(libtorch: &Libtorch, cache: &Path) -> Result<PathBuf, Failure> {
    let path = cache.join(format!("torch-shim-{:016x}.so", fingerprint(libtorch)));
    if path.is_file() {
        return Ok(path);
    }
    let began = Instant::now();
    tracing::info!(
        "compiling the TorchScript shim for {} (once, about a minute)",
        libtorch.libraries.display()
    );
    build(&path, SOURCE, |source, target| compile(libtorch, source, target))?;
    tracing::info!("compiled {} in {:.0?}", path.display(), began.elapsed());
    Ok(path)
}

/// A library without contents that goes by the name `soname`.
pub(crate) fn stand_in(soname: &str, cache: &Path) -> Result<PathBuf, Failure> {
    let path = cache.join(format!("stand-in-{soname}"));
    if !path.is_file() {
        build(&path, "", |source, target| {
            let name = format!("-Wl,-soname,{soname}");
            run(|command| command.args(["-shared", "-fPIC", &name, "-o"]).arg(target).arg(source))
        })?;
    }
    Ok(path)
}

/// Lets `compile` turn `text` into `path`. Another server may be doing the same: both write
/// beside and rename, and the later one wins with the same contents.
fn build(
    path: &Path,
    text: &str,
    compile: impl FnOnce(&Path, &Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let source = path.with_extension(format!("{unique}.cpp"));
    let fresh = path.with_extension(format!("{unique}.tmp"));
    fs::write(&source, text)?;
    let compiled = compile(&source, &fresh);
    let _ = fs::remove_file(&source);
    let renamed = compiled.and_then(|()| Ok(fs::rename(&fresh, path)?));
    if renamed.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    renamed
}

/// Headers of 1.x are C++14, those of 2.x C++17; a later one that asks for more gets it.
fn compile(libtorch: &Libtorch, source: &Path, target: &Path) -> Result<(), Failure> {
    let (first, second) = if libtorch.version.0 == 1 { ("14", "17") } else { ("17", "20") };
    match compile_as(libtorch, first, source, target) {
        Err(Failure::Other(message)) => {
            compile_as(libtorch, second, source, target).map_err(|_| Failure::Other(message))
        }
        other => other,
    }
}

fn compile_as(
    libtorch: &Libtorch,
    standard: &str,
    source: &Path,
    target: &Path,
) -> Result<(), Failure> {
    run(|command| {
        command
            .arg(format!("-std=c++{standard}"))
            .args(["-O1", "-fPIC", "-shared", "-w", "-fvisibility-inlines-hidden"])
            .arg(format!("-D_GLIBCXX_USE_CXX11_ABI={}", u8::from(libtorch.new_abi)));
        for include in &libtorch.includes {
            command.arg("-isystem").arg(include);
        }
        let libraries = &libtorch.libraries;
        command
            .arg(source)
            .arg("-o")
            .arg(target)
            .arg("-L")
            .arg(libraries)
            // libtorch_cpu's own needs (CUDA's libraries among them) are not the linker's business.
            .args(["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", "-ltorch_cpu", "-lc10"])
            .arg(format!("-Wl,-rpath,{}", libraries.display()))
    })
}

/// Runs the compiler with the arguments that `prepare` adds: `CXX` if set, else the first found.
fn run(prepare: impl Fn(&mut Command) -> &mut Command) -> Result<(), Failure> {
    let chosen = std::env::var("CXX").ok().filter(|chosen| !chosen.trim().is_empty());
    let compilers = match chosen.as_deref() {
        Some(chosen) => vec![chosen],
        None => vec!["c++", "g++", "clang++"],
    };
    for compiler in compilers {
        // CXX may hold a launcher or options, as in `ccache g++`.
        let mut words = compiler.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        match prepare(&mut command).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => return Err(Failure::Other(complaint(compiler, &output))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::Other(format!("{compiler}: {error}"))),
        }
    }
    Err(Failure::NoCompiler)
}

/// The first errors among a compiler's messages.
fn complaint(compiler: &str, output: &Output) -> String {
    let messages = String::from_utf8_lossy(&output.stderr);
    let errors = messages.lines().filter(|line| line.contains("error"));
    let first: Vec<&str> = errors.take(3).collect();
    let what = if first.is_empty() { messages.trim().to_owned() } else { first.join("; ") };
    format!("the TorchScript shim does not compile with {compiler}: {what}")
}

/// Tells apart what the shim is made of: its source and the libtorch below it, which may be
/// replaced by another one in the same place.
fn fingerprint(libtorch: &Libtorch) -> u64 {
    let library = fs::metadata(libtorch.libraries.join("libtorch_cpu.so"));
    let state = library.map(|library| (library.len(), library.modified().ok())).ok();
    let made_of = format!("{SOURCE}{libtorch:?}{state:?}");
    // FNV-1a: the same in every build of the server, unlike the standard library's hashes.
    made_of.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libtorch(libraries: &Path) -> Libtorch {
        let libraries = libraries.to_owned();
        Libtorch { includes: Vec::new(), libraries, version: (2, 4), new_abi: true }
    }

    #[test]
    fn a_shim_that_is_there_is_used_as_it_is() {
        let cache = tempfile::tempdir().unwrap();
        let libtorch = libtorch(cache.path());
        let name = format!("torch-shim-{:016x}.so", fingerprint(&libtorch));
        fs::write(cache.path().join(&name), "not compiled by this test").unwrap();
        assert_eq!(shim(&libtorch, cache.path()).unwrap(), cache.path().join(name));
    }

    #[test]
    fn another_libtorch_in_the_same_place_gets_another_shim() {
        let folder = tempfile::tempdir().unwrap();
        let before = fingerprint(&libtorch(folder.path()));
        fs::write(folder.path().join("libtorch_cpu.so"), "new").unwrap();
        assert_ne!(fingerprint(&libtorch(folder.path())), before);
    }

    #[test]
    fn a_failed_build_leaves_nothing_behind() {
        let cache = tempfile::tempdir().unwrap();
        let failed = build(&cache.path().join("x.so"), "text", |source, target| {
            assert_eq!(fs::read_to_string(source).unwrap(), "text");
            fs::write(target, "half").unwrap();
            Err(Failure::NoCompiler)
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}
