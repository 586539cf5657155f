//! What no recorded configuration shows; the rest is in `tests/goldens.rs`.

use crate::{ModelConfig, ModelInstanceGroup, fill_defaults, model_instance_group::Kind, validate};

#[test]
fn a_configuration_needs_a_name_and_a_backend() {
    let message = |config: &ModelConfig| validate(config, 0).unwrap_err().message().to_owned();
    let mut config = ModelConfig::default();
    assert_eq!(message(&config), "model configuration must specify 'name'");
    fill_defaults(&mut config, "m", None, 0);
    assert_eq!(message(&config), "unexpected platform type '' for m");
    fill_defaults(&mut config, "m", Some("model.py"), 0);
    assert_eq!(config.backend, "python");
    assert_eq!(validate(&config, 0), Ok(()));
}

#[test]
fn groups_on_gpus_are_for_all_of_them_or_for_those_that_they_name() {
    let group = |kind: Kind, gpus: &[i32]| {
        let mut group = ModelInstanceGroup { gpus: gpus.to_vec(), ..Default::default() };
        group.set_kind(kind);
        group
    };
    let filled = |group: ModelInstanceGroup, gpus: usize| {
        let mut config = ModelConfig { instance_group: vec![group], ..Default::default() };
        fill_defaults(&mut config, "m", Some("model.py"), gpus);
        let group = &config.instance_group[0];
        (validate(&config, gpus).is_ok(), group.kind(), group.gpus.clone())
    };
    assert_eq!(filled(group(Kind::Auto, &[]), 2), (true, Kind::Gpu, vec![0, 1]));
    assert_eq!(filled(group(Kind::Auto, &[]), 0), (true, Kind::Cpu, vec![]));
    assert_eq!(filled(group(Kind::Cpu, &[]), 2), (true, Kind::Cpu, vec![]));
    assert_eq!(filled(group(Kind::Gpu, &[1]), 2), (true, Kind::Gpu, vec![1]));
    assert_eq!(filled(group(Kind::Gpu, &[1, 2]), 2), (false, Kind::Gpu, vec![1, 2]));
    assert_eq!(filled(group(Kind::Gpu, &[-1]), 2), (false, Kind::Gpu, vec![-1]));
    assert_eq!(filled(group(Kind::Gpu, &[]), 0), (false, Kind::Gpu, vec![]));
}
