//! Finds an installation of libtorch: headers, libraries, version, C++ ABI. Nothing is imported.

use std::fs;
use std::path::{Path, PathBuf};

use nereid_backend::{environment_packages, python_packages};

/// Where libtorch is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Libtorch {
    pub(crate) includes: Vec<PathBuf>,
    pub(crate) libraries: PathBuf,
    /// Major and minor number.
    pub(crate) version: (u32, u32),
    /// `_GLIBCXX_USE_CXX11_ABI`: which of the two string layouts it was compiled with.
    pub(crate) new_abi: bool,
}

/// Searches: the folder given, the environment, the torch packages of Python installations,
/// Debian's libtorch-dev. A folder that was given and holds no libtorch ends the search.
pub(crate) fn find(given: Option<&str>) -> Result<Libtorch, String> {
    let from_env = || ["NEREID_LIBTORCH", "LIBTORCH"].iter().find_map(std::env::var_os);
    if let Some(named) = given.map(PathBuf::from).or_else(|| from_env().map(PathBuf::from)) {
        return in_named(&named)
            .ok_or_else(|| format!("there is no libtorch with headers in {}", named.display()));
    }
    python_packages("torch")
        .find_map(|package| in_root(&package))
        .or_else(debian)
        .ok_or_else(|| "no libtorch with headers was found".to_owned())
}

/// A folder that a user named: an installation itself, or the environment or prefix around it.
fn in_named(folder: &Path) -> Option<Libtorch> {
    let inside = [folder.to_owned(), folder.join("torch")].into_iter();
    inside.chain(environment_packages(folder, "torch")).find_map(|root| in_root(&root))
}

/// Layout of pip's torch and of the archives from pytorch.org.
fn in_root(root: &Path) -> Option<Libtorch> {
    describe(&root.join("include"), &root.join("lib"))
}

/// Debian's libtorch-dev: headers in `/usr/include/torch`, libraries among all others.
fn debian() -> Option<Libtorch> {
    let folders = fs::read_dir("/usr/lib").ok()?;
    folders
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find_map(|libraries| describe(Path::new("/usr/include"), &libraries))
}

fn describe(include: &Path, libraries: &Path) -> Option<Libtorch> {
    let api = include.join("torch/csrc/api/include");
    let complete =
        include.join("torch/script.h").is_file() && libraries.join("libtorch_cpu.so").is_file();
    if !complete {
        return None;
    }
    let header = fs::read_to_string(api.join("torch/version.h")).unwrap_or_default();
    let new_abi = has_new_abi(&fs::read(libraries.join("libc10.so")).ok()?);
    let mut includes = vec![api];
    // The compiler knows /usr/include; naming it would put it before its own C++ headers.
    if include != Path::new("/usr/include") {
        includes.push(include.to_owned());
    }
    let libraries = libraries.to_owned();
    Some(Libtorch { includes, libraries, version: version(&header), new_abi })
}

/// Reads `torch/version.h`; what it does not say counts as 0.
fn version(header: &str) -> (u32, u32) {
    let number = |name: &str| {
        header
            .lines()
            .find_map(|line| line.strip_prefix("#define ")?.trim().strip_prefix(name))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    };
    (number("TORCH_VERSION_MAJOR "), number("TORCH_VERSION_MINOR "))
}

/// Which ABI libc10.so was compiled with: the name of a function that takes a string tells, and
/// `torchCheckFail(…, const std::string&)` has been there since 1.8.
fn has_new_abi(libc10: &[u8]) -> bool {
    const OLD: &[u8] = b"_ZN3c106detail14torchCheckFailEPKcS2_jRKSs";
    const NEW: &[u8] = b"_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_string";
    let has = |symbol: &[u8]| libc10.windows(symbol.len()).any(|window| window == symbol);
    has(NEW) || !has(OLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_abi_is_read_from_symbols() {
        let old = b"\0_ZN3c106detail14torchCheckFailEPKcS2_jRKSs\0";
        let new =
            b"\0_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_\0";
        assert!(!has_new_abi(old));
        assert!(has_new_abi(new));
        assert!(has_new_abi(b"nothing known"));
    }

    #[test]
    fn the_version_is_read_from_the_header() {
        let header =
            "#pragma once\n#define TORCH_VERSION_MAJOR 2\n\n#define TORCH_VERSION_MINOR 4\n";
        assert_eq!(version(header), (2, 4));
        assert_eq!(version(""), (0, 0));
    }

    #[test]
    fn a_folder_without_libtorch_ends_the_search() {
        let error = find(Some("/nonexistent")).unwrap_err();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
