//! What a real Triton 2.51 made of the configurations beside this file; `record.py` asked it.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use nereid_inference::Result;
use nereid_model_config::{
    ModelConfig, fill_defaults, from_json, parse, to_json, to_pbtxt, validate,
};

fn configurations(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "pbtxt")).collect()
}

fn load(path: &Path) -> Result<ModelConfig> {
    let mut config = parse(&fs::read_to_string(path).unwrap(), path)?;
    fill_defaults(&mut config, path.file_stem().unwrap().to_str().unwrap(), None, 0);
    validate(&config, 0)?;
    Ok(config)
}

/// The configurations that Triton serves, with its JSON; it refuses some of the newer fields.
fn served() -> impl Iterator<Item = (PathBuf, String)> {
    configurations("served").into_iter().filter_map(|path| {
        let json = fs::read_to_string(path.with_extension("json")).ok()?;
        Some((path, json))
    })
}

/// Our JSON, without the field that came after 2.51.
fn json(path: &Path) -> String {
    to_json(&load(path).unwrap()).replace(",\"max_inflight_requests\":0", "")
}

#[test]
fn the_json_of_a_configuration_is_triton_s() {
    assert!(served().count() > 20);
    for (path, expected) in served() {
        let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json(&path)).unwrap();
        assert_eq!(json, expected, "{}", path.display());
    }
}

#[test]
fn the_keys_are_in_triton_s_order() {
    // The keys of maps are sorted here, while Triton prints them as its hash tables have them.
    let has_map = |path: &Path| {
        ["dynamic_priorities", "decoupled"]
            .iter()
            .any(|name| path.file_stem().is_some_and(|stem| stem == *name))
    };
    for (path, expected) in served().filter(|(path, _)| !has_map(path)) {
        let strings = |json: &str| -> Vec<String> {
            json.split('"').skip(1).step_by(2).map(str::to_owned).collect()
        };
        assert_eq!(strings(&json(&path)), strings(&expected), "{}", path.display());
    }
}

#[test]
fn json_leads_back_to_the_configuration() {
    for path in configurations("served") {
        let config = load(&path).unwrap();
        assert_eq!(from_json(&to_json(&config)).unwrap(), config, "{}", path.display());
    }
}

#[test]
fn text_leads_back_to_the_configuration() {
    for path in configurations("served") {
        let config = load(&path).unwrap();
        let text = to_pbtxt(&config);
        assert_eq!(parse(&text, &path).unwrap(), config, "{text}");
    }
}

#[test]
fn what_triton_rejects_is_rejected_in_its_words() {
    let mut wrong = Vec::new();
    for path in configurations("rejected") {
        let recorded = fs::read_to_string(path.with_extension("txt")).unwrap();
        let expected = recorded.trim_end_matches('\n');
        let expected = expected.strip_prefix("Invalid argument: ").unwrap_or(expected);
        let message = load(&path).err().map(|error| error.message().to_owned());
        if message.as_deref() != Some(expected) {
            wrong.push(format!("{}\n  {expected}\n  {message:?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `rejected_later`: what is wrong with these is seen by the repository, an ensemble or a backend.
#[test]
fn what_triton_accepts_is_accepted() {
    for path in configurations("accepted").into_iter().chain(configurations("rejected_later")) {
        assert_eq!(load(&path).err(), None, "{}", path.display());
    }
}

#[test]
fn what_triton_cannot_read_cannot_be_read() {
    for path in configurations("unreadable") {
        let error = parse(&fs::read_to_string(&path).unwrap(), &path).unwrap_err();
        assert!(error.message().contains(" (near '"), "{error}");
    }
}
