//! What no recorded configuration shows; the rest is in `tests/goldens.rs`.

use crate::{ModelConfig, fill_defaults, validate};

#[test]
fn a_configuration_needs_a_name_and_a_backend() {
    let message = |config: &ModelConfig| validate(config).unwrap_err().message().to_owned();
    let mut config = ModelConfig::default();
    assert_eq!(message(&config), "model configuration must specify 'name'");
    fill_defaults(&mut config, "m", None);
    assert_eq!(message(&config), "unexpected platform type '' for m");
    fill_defaults(&mut config, "m", Some("model.py"));
    assert_eq!(config.backend, "python");
    assert_eq!(validate(&config), Ok(()));
}
