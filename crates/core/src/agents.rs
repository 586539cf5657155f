//! Repository agents: what is done with a model's folder before the model is loaded. Triton opens
//! libraries for them; the one that it comes with is built in here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use md5::{Digest, Md5};
use nereid_inference::{Error, Result};
use nereid_model_config::ModelConfig;
use nereid_repository::{ModelFolder, version_number};

/// Runs the agents that a configuration names, in its order; none of them changes the folder.
pub(crate) fn run(folder: &ModelFolder, config: &ModelConfig) -> Result<()> {
    for agent in config.model_repository_agents.iter().flat_map(|agents| &agents.agents) {
        if agent.name != "checksum" {
            return Err(Error::unsupported(format!(
                "unable to find repo agent '{}' of model '{}': only 'checksum' is built in",
                agent.name, folder.name
            )));
        }
        let mut sums: Vec<_> = agent.parameters.iter().collect();
        sums.sort();
        for (key, expected) in sums {
            check_sum(folder, key, expected)?;
        }
    }
    Ok(())
}

/// Holds a file against its sum. `key`: the algorithm, a colon, and the file's path in the folder.
fn check_sum(folder: &ModelFolder, key: &str, expected: &str) -> Result<()> {
    let Some((algorithm, name)) = key.split_once(':') else {
        return Err(Error::invalid_arg(format!("failed to parse key: {key}")));
    };
    if !algorithm.eq_ignore_ascii_case("md5") {
        let message = format!("Unsupported checksum algorithm: {algorithm}");
        return Err(Error::unsupported(message));
    }
    let path = Path::new(name);
    if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        let message = format!("checksum of {name}: not a file in the folder of the model");
        return Err(Error::invalid_arg(message));
    }
    // Versions that are not served may have sums, too.
    let version = name.split_once('/').and_then(|(first, _)| version_number(first));
    folder.fetch_versions(version.as_slice())?;
    let found = md5(&folder.path.join(path)).map_err(|error| {
        Error::invalid_arg(format!("failed to open text file for read {name}: {error}"))
    })?;
    if expected == found {
        return Ok(());
    }
    Err(Error::invalid_arg(format!(
        "Mismatched MD5 hash for file {name}, expect: {expected}, got: {found}"
    )))
}

fn md5(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn checked(agents: &str) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("1")).unwrap();
        std::fs::write(folder.path().join("1/model.py"), "one").unwrap();
        let text = format!("model_repository_agents {{ {agents} }}");
        let config = nereid_model_config::parse(&text, &PathBuf::from("config.pbtxt")).unwrap();
        run(&ModelFolder::local("m", folder.path()), &config)
    }

    fn sum(key: &str, value: &str) -> String {
        format!("agents [ {{ name: 'checksum' parameters {{ key: '{key}' value: '{value}' }} }} ]")
    }

    #[test]
    fn a_file_is_held_against_its_sum() {
        let right = "f97c5d29941bfb1b2fdab0874906ab82";
        checked(&sum("MD5:1/model.py", right)).unwrap();
        checked(&sum("md5:1/model.py", right)).unwrap();
        let error = checked(&sum("MD5:1/model.py", "f97c")).unwrap_err();
        let expected =
            format!("Mismatched MD5 hash for file 1/model.py, expect: f97c, got: {right}");
        assert_eq!(error.message(), expected);
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        let message = |agents: &str| checked(agents).unwrap_err().message().to_owned();
        assert_eq!(message(&sum("SHA256:x", "")), "Unsupported checksum algorithm: SHA256");
        assert_eq!(message(&sum("x", "")), "failed to parse key: x");
        assert!(message(&sum("MD5:2/model.py", "")).starts_with("failed to open text file"));
        assert!(message(&sum("MD5:../other", "")).contains("not a file in the folder"));
        let unknown = message("agents [ { name: 'relocate' } ]");
        assert!(unknown.starts_with("unable to find repo agent 'relocate' of model 'm'"));
    }
}
