//! Finds the library of ONNX Runtime. Nothing is imported.

use std::fs;
use std::path::{Path, PathBuf};

use nereid_backend::python_packages;

/// The oldest version with the interface that is used here: 1.24.
const OLDEST: (u32, u32) = (1, 24);

/// Searches: the file or folder given, `ORT_DYLIB_PATH`, the onnxruntime packages of Python
/// installations, the folders of system libraries. A place that was given ends the search.
pub(crate) fn find(given: Option<&str>) -> Result<PathBuf, String> {
    let from_env = || std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
    if let Some(named) = given.map(PathBuf::from).or_else(|| from_env().map(PathBuf::from)) {
        return in_named(&named)
            .ok_or_else(|| format!("there is no ONNX Runtime library in {}", named.display()));
    }
    let mut too_old = None;
    let in_packages = python_packages("onnxruntime").map(|package| package.join("capi"));
    for folder in in_packages.chain(system_folders()) {
        let Some(library) = in_folder(&folder) else { continue };
        if version(&library).is_none_or(|version| version >= OLDEST) {
            return Ok(library);
        }
        too_old.get_or_insert(library);
    }
    Err(match too_old {
        Some(library) => format!("{} is older than 1.24", library.display()),
        None => "no ONNX Runtime library was found".to_owned(),
    })
}

/// A place that a user named: the library, its folder, or the package or environment around it.
fn in_named(place: &Path) -> Option<PathBuf> {
    if place.is_file() {
        return Some(place.to_owned());
    }
    let inside = ["", "capi", "lib", "onnxruntime/capi"].map(|inner| place.join(inner));
    let environment = nereid_backend::environment_packages(place, "onnxruntime");
    inside
        .into_iter()
        .chain(environment.into_iter().map(|package| package.join("capi")))
        .find_map(|folder| in_folder(&folder))
}

/// `libonnxruntime.so` or the newest `libonnxruntime.so.1.x.y` in a folder.
fn in_folder(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok().map(|e| e.path()));
    let libraries = files.filter(|file| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("libonnxruntime.so")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    libraries.max_by_key(|library| version(library))
}

/// The numbers in the name of a library or of the file that it is a link to.
fn version(library: &Path) -> Option<(u32, u32)> {
    let library = library.canonicalize().ok()?;
    let name = library.file_name()?.to_str()?;
    let mut numbers = name.strip_prefix("libonnxruntime.so.")?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn system_folders() -> impl Iterator<Item = PathBuf> {
    let architecture = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    ["/usr/local/lib".to_owned(), architecture, "/usr/lib".to_owned()]
        .into_iter()
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_of_a_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.24.4", "libonnxruntime_x.so"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find(folder.path().to_str()).unwrap();
        assert_eq!(found, folder.path().join("libonnxruntime.so.1.24.4"));
        assert_eq!(version(&found), Some((1, 24)));
        assert_eq!(find(found.to_str()), Ok(found));
    }

    #[test]
    fn a_place_without_a_library_ends_the_search() {
        let error = find(Some("/nonexistent")).unwrap_err();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
