//! What can be said of folders by their names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nereid_backend::Finding;
use nereid_repository::{ModelFolder, Repository};

/// People like to name a model's folder where a repository is asked for.
pub(super) fn not_a_repository(
    repository: &Repository,
    found: &BTreeMap<String, Vec<ModelFolder>>,
) -> Option<Finding> {
    let is_version = |folder: &ModelFolder| folder.name.parse::<i64>().is_ok();
    let path = PathBuf::from(repository.name());
    if path.join("config.pbtxt").exists()
        || (!found.is_empty() && found.values().flatten().all(is_version))
    {
        let message = format!("{} is the folder of a model, not a repository", path.display());
        return Some(Finding::error(message).in_file(&path).cured_by("name the folder it lies in"));
    }
    found.is_empty().then(|| {
        Finding::warning(format!("{} holds no models", path.display()))
            .in_file(&path)
            .cured_by("a model is a folder in it: <name>/config.pbtxt and <name>/1/<file>")
    })
}

/// Folders that look like versions and are not taken for ones.
pub(super) fn misnamed_versions(folder: &ModelFolder) -> Vec<Finding> {
    let Ok(entries) = std::fs::read_dir(&folder.path) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            let digits = name.trim_start_matches(['v', 'V', '-', '.']);
            !digits.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
                && (digits != name || name.starts_with('0') || name.contains('.'))
        })
        .collect();
    names.sort();
    let misnamed = |name: String| {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        let right = match digits.trim_start_matches('0') {
            "" => "1",
            number => number,
        };
        Finding::warning(format!("'{name}' is ignored: it is not the number of a version"))
            .in_file(folder.path.join(&name))
            .cured_by(format!("versions are whole numbers from 1 on: rename it to '{right}'"))
    };
    names.into_iter().map(misnamed).collect()
}
