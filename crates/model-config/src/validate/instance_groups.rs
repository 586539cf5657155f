//! Instance groups: where instances may run.

use nereid_inference::Result;

use super::check;
use crate::proto::{ModelConfig, ModelInstanceGroup, model_instance_group::Kind};

pub(super) fn validate(config: &ModelConfig, gpus: usize) -> Result<()> {
    let name = &config.name;
    check(!config.instance_group.is_empty(), || {
        format!("must specify one or more 'instance group's for {name}")
    })?;
    config.instance_group.iter().try_for_each(|group| validate_group(config, group, gpus))
}

fn validate_group(config: &ModelConfig, group: &ModelInstanceGroup, gpus: usize) -> Result<()> {
    let says =
        |what: &str| format!("instance group {} of model {} {what}", group.name, config.name);
    match group.kind() {
        Kind::Gpu => check_gpus(group, gpus, says)?,
        Kind::Cpu => check(group.gpus.is_empty(), || {
            says("has kind KIND_CPU but specifies one or more GPUs")
        })?,
        Kind::Model => check(group.gpus.is_empty(), || {
            says("has kind KIND_MODEL but specifies one or more GPUs")
        })?,
        Kind::Auto => check(false, || says("has unexpected kind KIND_AUTO"))?,
    }
    check(group.profile.is_empty() || config.backend_name() == "tensorrt", || {
        says(&format!(
            "and platform {}specifies profile field which is only supported for TensorRT models",
            config.platform
        ))
    })
}

/// `gpus`: how many there are.
fn check_gpus(
    group: &ModelInstanceGroup,
    gpus: usize,
    says: impl Fn(&str) -> String,
) -> Result<()> {
    check(!group.gpus.is_empty(), || says("has kind KIND_GPU but no GPUs are available"))?;
    let there = |gpu: &i32| usize::try_from(*gpu).is_ok_and(|gpu| gpu < gpus);
    let missing = group.gpus.iter().find(|gpu| !there(gpu));
    check(missing.is_none(), || {
        let known: Vec<String> = (0..gpus).map(|gpu| gpu.to_string()).collect();
        let missing = missing.copied().unwrap_or_default();
        says(&format!(
            "specifies invalid or unsupported gpu id {missing}. GPUs with at least the minimum \
             required CUDA compute compatibility of 6.000000 are: {}",
            known.join(" ")
        ))
    })
}
