//! One model: its folder, its configuration, and its files against each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use nereid_backend::{Backend, Finding, ModelSource, Severity};
use nereid_inference::{Error, Result};
use nereid_model_config::{self as model_config, ModelConfig, Places, Spot};
use nereid_repository::ModelFolder;
use nereid_scheduler::Hold;

use super::{cures, folder, ignored::ignored};
use crate::instances;
use crate::labels::Labels;
use crate::loading::{
    Prepared, Repositories, accepted, chosen_versions, complete_ensemble, warmup,
};
use crate::namespaces::Names;
use crate::scheduling::Scheduling;

/// What became of a model.
#[derive(Default)]
pub(super) struct Judged {
    name: String,
    folder: PathBuf,
    text: Option<Text>,
    /// The versions that could serve, with their completed configurations.
    pub(super) versions: BTreeMap<i64, Arc<ModelConfig>>,
    /// An ensemble, that may fit to its models or not.
    pub(super) ensemble: Option<ModelConfig>,
    /// The versions of an ensemble, which all are the same.
    numbers: Vec<i64>,
}

/// The file that a configuration was read from.
struct Text {
    path: PathBuf,
    text: String,
    places: Places,
}

impl Judged {
    /// An error of the configuration, at the place that it is about.
    pub(super) fn locate(&self, error: Error) -> Finding {
        self.locate_finding(error.into())
    }

    pub(super) fn locate_finding(&self, mut finding: Finding) -> Finding {
        if finding.cure.is_empty() {
            cures::cure(&finding.message).clone_into(&mut finding.cure);
        }
        if finding.file.is_some() {
            return finding;
        }
        let Some(text) = &self.text else { return finding.in_file(&self.folder) };
        let place = text.places.meant_by(&finding.message, &self.name);
        finding.spot = finding.spot.or(place.map(|span| Spot::new(&text.text, span)));
        finding.in_file(&text.path)
    }

    /// An ensemble that fits to its models.
    pub(super) fn serve_as(&mut self, config: Arc<ModelConfig>) {
        self.versions = self.numbers.iter().map(|&number| (number, config.clone())).collect();
    }
}

pub(super) fn judge(
    repositories: &Repositories,
    folder: &ModelFolder,
    names: &Names,
) -> (Judged, Vec<Finding>) {
    let (name, path) = (folder.name.clone(), folder.path.clone());
    let mut judged = Judged { name, folder: path, ..Judged::default() };
    if let Err(error) = folder.fetch() {
        return (judged, vec![error.into()]);
    }
    let mut findings = folder::misnamed_versions(folder);
    match read(repositories, folder, &mut judged) {
        Ok(written) => {
            for (field, reason) in ignored(&written) {
                findings.push(judged.ignored(field, reason));
            }
            match repositories.prepare(folder, None, names) {
                Ok(prepared) => judge_versions(repositories, &prepared, &mut judged, &mut findings),
                Err(error) => findings.push(judged.locate(error)),
            }
        }
        Err(finding) => findings.push(*finding),
    }
    (judged, findings)
}

impl Judged {
    fn ignored(&self, field: &str, reason: &str) -> Finding {
        let finding = Finding::warning(format!("'{field}' has no effect: {reason}"));
        let finding = finding.cured_by("nothing needs to be done; it may be removed");
        let Some(text) = &self.text else { return finding };
        let spot = text.places.named(field).map(|span| Spot::new(&text.text, span));
        Finding { spot, ..finding.in_file(&text.path) }
    }
}

/// The configuration as it was written.
fn read(
    repositories: &Repositories,
    folder: &ModelFolder,
    judged: &mut Judged,
) -> Result<ModelConfig, Box<Finding>> {
    let located = |error: Error| Box::new(judged.locate(error));
    let found = folder.config_text(repositories.config_name.as_deref()).map_err(located)?;
    let Some((path, text)) = found else { return Ok(ModelConfig::default()) };
    let (config, places) = model_config::read(&text).map_err(|problem| {
        let spot = Spot::new(&text, problem.span);
        let cure = cures::cure(&problem.what);
        Box::new(Finding::error(problem.what).in_file(&path).at(spot).cured_by(cure))
    })?;
    judged.text = Some(Text { path, text, places });
    accepted(folder, config).map_err(|error| Box::new(judged.locate(error)))
}

fn judge_versions(
    repositories: &Repositories,
    prepared: &Prepared,
    judged: &mut Judged,
    findings: &mut Vec<Finding>,
) {
    let versions = match chosen_versions(&prepared.folder, &prepared.config) {
        Ok(versions) => versions,
        Err(error) => return findings.push(judged.locate(error)),
    };
    if prepared.config.is_ensemble() {
        judged.numbers = versions;
        match complete_ensemble(prepared) {
            Ok(config) => judged.ensemble = Some(config),
            Err(error) => findings.push(judged.locate(error)),
        }
        return;
    }
    let backend = match repositories.backend(&prepared.folder.name, &prepared.config) {
        Ok(backend) => backend,
        Err(error) => return findings.push(judged.locate(error)),
    };
    for version in versions {
        let source = repositories.source(prepared, version, backend);
        let (config, found) = judge_version(repositories, source, backend);
        for finding in found.into_iter().map(|finding| judged.locate_finding(finding)) {
            // What is wrong with the configuration is wrong for every version.
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        judged.versions.extend(config.map(|config| (version, config)));
    }
}

/// The completed configuration, where it can serve, and what is to be said of it.
fn judge_version(
    repositories: &Repositories,
    written: ModelSource,
    backend: &dyn Backend,
) -> (Option<Arc<ModelConfig>>, Vec<Finding>) {
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    let completed = match repositories.complete(written.clone(), backend) {
        Ok(completed) => completed,
        Err(error) => {
            // Perhaps it could not be completed because its file is broken.
            let mut findings = backend.check(&written);
            if !findings.iter().any(is_error) {
                findings.push(error.into());
            }
            return (None, findings);
        }
    };
    let mut findings = backend.check(&completed);
    if let Err(error) = read_files(&completed) {
        findings.push(error.into());
    }
    let serves = !findings.iter().any(is_error);
    (serves.then_some(completed.config), findings)
}

/// Reads the files beside the versions: labels, initial states, samples for the warm-up.
fn read_files(source: &ModelSource) -> Result<()> {
    let config = &source.config;
    Labels::read(config, &source.model_dir)?;
    Scheduling::new(config, &source.model_dir, instances::active_count(config), Hold::default())?;
    warmup(source)?;
    Ok(())
}
