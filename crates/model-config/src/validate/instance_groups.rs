//! Instance groups: where instances may run. Nereid computes on the CPU.

use nereid_inference::Result;

use super::check;
use crate::proto::{ModelConfig, ModelInstanceGroup, model_instance_group::Kind};

pub(super) fn validate(config: &ModelConfig) -> Result<()> {
    let name = &config.name;
    check(!config.instance_group.is_empty(), || {
        format!("must specify one or more 'instance group's for {name}")
    })?;
    config.instance_group.iter().try_for_each(|group| validate_group(config, group))
}

fn validate_group(config: &ModelConfig, group: &ModelInstanceGroup) -> Result<()> {
    let says =
        |what: &str| format!("instance group {} of model {} {what}", group.name, config.name);
    match group.kind() {
        Kind::Gpu => check_gpu(group, says)?,
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

/// Always fails; the words depend on what exactly was asked for.
fn check_gpu(group: &ModelInstanceGroup, says: impl Fn(&str) -> String) -> Result<()> {
    check(false, || match group.gpus.first() {
        None => says("has kind KIND_GPU but no GPUs are available"),
        Some(gpu) => says(&format!(
            "specifies invalid or unsupported gpu id {gpu}. GPUs with at least the minimum \
             required CUDA compute compatibility of 6.000000 are: "
        )),
    })
}
