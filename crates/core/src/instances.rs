//! From the instance groups of a configuration to instances that run.

use std::sync::Arc;

use nereid_backend::{InstanceKind, Model, Placement};
use nereid_inference::{Error, Result};
use nereid_model_config::model_instance_group::Kind;
use nereid_model_config::{ModelConfig, ModelInstanceGroup};

use crate::seat::Runner;

/// The instances of a version.
pub(crate) struct Instances {
    pub(crate) model: Arc<dyn Model>,
    /// Those that get requests.
    pub(crate) active: Vec<Placed>,
    /// Those that are made and kept, but never get a request.
    pub(crate) passive: Vec<Placed>,
}

/// An instance, and which one it is.
pub(crate) struct Placed {
    pub(crate) placement: Placement,
    pub(crate) runner: Arc<Runner>,
}

impl Instances {
    /// Starts every instance of every group, in parallel: a Python worker takes its time to import.
    /// An instance is there once it has been through `prepare`.
    pub(crate) fn start(
        model: &Arc<dyn Model>,
        planned: Vec<(Placement, bool)>,
        prepare: impl Fn(&Runner, &Placement) -> Result<()> + Sync,
    ) -> Result<Self> {
        let start = |placement: &Placement| {
            let runner = Runner::start(model, placement)?;
            prepare(&runner, placement)?;
            Ok(runner)
        };
        let runners: Vec<Result<Runner>> = std::thread::scope(|scope| {
            let starting: Vec<_> =
                planned.iter().map(|(placement, _)| scope.spawn(|| start(placement))).collect();
            let panicked = |_| Err(Error::internal("loading panicked"));
            starting.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        });
        let mut instances = Self { model: model.clone(), active: Vec::new(), passive: Vec::new() };
        for (runner, (placement, passive)) in runners.into_iter().zip(planned) {
            let place = if passive { &mut instances.passive } else { &mut instances.active };
            place.push(Placed { placement, runner: Arc::new(runner?) });
        }
        Ok(instances)
    }
}

/// How many instances of a model get requests.
pub(crate) fn active_count(config: &ModelConfig) -> usize {
    plan(config).iter().filter(|(_, passive)| !passive).count()
}

/// The instances that the groups ask for, and whether each is passive.
pub(crate) fn plan(config: &ModelConfig) -> Vec<(Placement, bool)> {
    let mut planned = Vec::new();
    for group in &config.instance_group {
        for (number, (kind, device_id)) in places_of(group).enumerate() {
            let name = format!("{}_{number}", group.name);
            let placement = Placement { name, index: planned.len(), kind, device_id };
            planned.push((placement, group.passive));
        }
    }
    planned
}

/// Where the instances of a group run: as many as it says on each of its GPUs, or in all.
fn places_of(group: &ModelInstanceGroup) -> impl Iterator<Item = (InstanceKind, i32)> {
    let (kind, devices) = match group.kind() {
        Kind::Model => (InstanceKind::Model, vec![0]),
        Kind::Gpu => (InstanceKind::Gpu, group.gpus.clone()),
        Kind::Auto | Kind::Cpu => (InstanceKind::Cpu, vec![0]),
    };
    let count = group.count.max(0);
    devices.into_iter().flat_map(move |device| (0..count).map(move |_| (kind, device)))
}
