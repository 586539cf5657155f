//! Configurations in text format, and what becomes of them.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use nereid_model_config::{from_json, parse, to_json, validate};

fuzz_target!(|text: &str| {
    let Ok(config) = parse(text, Path::new("config.pbtxt")) else { return };
    let _ = validate(&config, 0);
    let json = to_json(&config);
    let _ = from_json(&json);
});
