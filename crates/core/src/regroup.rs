//! Other instances for a version that serves: neither its weights nor the instances that stay are
//! loaded anew, and its statistics go on.

use std::sync::Arc;
use std::time::Instant;

use nereid_backend::Placement;
use nereid_inference::Result;
use nereid_model_config::ModelConfig;

use crate::instances::{self, Instances};
use crate::loading::{Prepared, Repositories, fill_and_validate, warmup};
use crate::model::{ModelVersion, Scheduler};
use crate::pool::Pool;

/// A change that is ready: the new instances run, the others have not been told.
pub(crate) struct Regrouping {
    pool: Arc<Pool>,
    planned: Vec<(Placement, bool)>,
    new: Instances,
    version: Arc<ModelVersion>,
}

impl Regrouping {
    /// Starts the instances that `prepared`, which differs in nothing else, asks for and `version`
    /// does not have. `None`: the version has none of its own, or the rate limiter counts them.
    pub(crate) fn start(
        repositories: &Repositories,
        prepared: &Prepared,
        version: &ModelVersion,
    ) -> Result<Option<Self>> {
        let began = Instant::now();
        let Scheduler::Pool(pool) = &version.scheduler else { return Ok(None) };
        let backend = repositories.backend(&version.name, &prepared.config)?;
        let mut config = ModelConfig::clone(&version.config);
        config.instance_group.clone_from(&prepared.config.instance_group);
        fill_and_validate(&mut config, &version.name, backend)?;
        let limited = config.instance_group.iter().any(|group| group.rate_limiter.is_some());
        if pool.is_limited() || (limited && repositories.limiter.is_some()) {
            return Ok(None);
        }
        let mut source = repositories.source(prepared, version.version, backend);
        source.config = Arc::new(config);
        let warmup = warmup(&source)?;
        let planned = instances::plan(&source.config);
        let new = Instances::start(pool.model(), pool.missing(&planned), |runner, placement| {
            warmup.run(runner, placement, pool.sequencing())
        })?;
        let version = repositories.finished(
            prepared,
            version.version,
            source.config,
            version.recorder.clone(),
            Scheduler::Pool(pool.clone()),
            began,
        )?;
        Ok(Some(Self { pool: pool.clone(), planned, new, version }))
    }

    /// Puts the new instances to work and lets the superfluous ones go. The version to publish.
    pub(crate) fn finish(self) -> Arc<ModelVersion> {
        self.pool.regroup(&self.planned, self.new);
        self.version
    }
}
