//! Judges whole repositories without starting a model: what is wrong, where it stands, and what to
//! do about it.

mod cures;
mod folder;
mod ignored;
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use nereid_backend::{Finding, Severity};
use nereid_inference::{Error, Result};
use nereid_model_config::{ModelConfig, model_ensembling::Step};
use nereid_repository::{ModelFolder, Repository, scan};

use crate::ensemble::{self, members};
use crate::load_order::{Needs, circle, waves};
use crate::loading::Repositories;
use crate::namespaces::{Names, of_step};
use model::Judged;

/// What a check found, model by model.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Models that were judged.
    pub models: usize,
    pub findings: Vec<ModelFinding>,
    /// The completed configurations of the models that would serve, by name: of the highest version.
    pub configs: BTreeMap<String, Arc<ModelConfig>>,
}

/// A finding, and whom it is about; no model, where it is about a repository.
#[derive(Debug)]
pub struct ModelFinding {
    pub model: Option<String>,
    pub finding: Finding,
}

impl CheckReport {
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|found| found.finding.severity == severity).count()
    }
}

impl Repositories {
    /// Judges every model of the repositories.
    pub fn check(&self) -> CheckReport {
        let mut check = Check::default();
        let mut found: BTreeMap<String, Vec<ModelFolder>> = BTreeMap::new();
        for repository in &self.paths {
            for (name, folders) in check.repository(repository, self.namespaces) {
                found.entry(name).or_default().extend(folders);
            }
        }
        let names = Names::of(self.namespaces, found.keys());
        for (name, folders) in &found {
            match folders.as_slice() {
                [folder] => check.add(name, model::judge(self, folder, &names)),
                several => check.say(Some(name), in_several(name, several)),
            }
        }
        check.ensembles();
        let configs = check.judged.iter().filter_map(|(name, judged)| {
            Some((name.clone(), judged.versions.values().next_back()?.clone()))
        });
        CheckReport { models: found.len(), configs: configs.collect(), findings: check.findings }
    }
}

#[derive(Default)]
struct Check {
    findings: Vec<ModelFinding>,
    judged: BTreeMap<String, Judged>,
}

impl Check {
    fn say(&mut self, model: Option<&str>, finding: Finding) {
        self.findings.push(ModelFinding { model: model.map(str::to_owned), finding });
    }

    fn add(&mut self, name: &str, (judged, findings): (Judged, Vec<Finding>)) {
        for finding in findings {
            self.say(Some(name), finding);
        }
        self.judged.insert(name.to_owned(), judged);
    }

    fn repository(
        &mut self,
        repository: &Repository,
        namespaces: bool,
    ) -> BTreeMap<String, Vec<ModelFolder>> {
        let found = match scan(std::slice::from_ref(repository), namespaces) {
            Ok(found) => found,
            Err(error) => {
                let cure = "name a folder that holds one folder for each model";
                let finding = Finding::from(error).in_file(repository.name());
                self.say(None, finding.cured_by(cure));
                return BTreeMap::new();
            }
        };
        if let Some(finding) = folder::not_a_repository(repository, &found) {
            self.say(None, finding);
            return BTreeMap::new();
        }
        found
    }

    /// Ensembles are judged last: they depend on what their models turned out to be.
    fn ensembles(&mut self) {
        let needs: Needs = self
            .judged
            .iter()
            .filter_map(|(name, judged)| Some((name.clone(), members(judged.ensemble.as_ref()?))))
            .collect();
        let (waves, rest) = waves(&needs);
        for name in waves.into_iter().flatten() {
            let Some((config, error)) = self.ensemble(&name) else { continue };
            let judged = self.judged.get_mut(&name);
            match (error, judged) {
                (Some(error), Some(judged)) => {
                    let finding = judged.locate(error);
                    self.say(Some(&name), finding);
                }
                (None, Some(judged)) => judged.serve_as(config),
                (_, None) => {}
            }
        }
        for name in rest {
            if let Some(through) = circle(&needs, &name) {
                let finding = Finding::error(format!(
                    "circular dependency between ensembles: {name} -> ... -> {through} -> {name}"
                ));
                let finding = finding.cured_by("take one of the steps out of the circle");
                let located = self.judged[&name].locate_finding(finding);
                self.say(Some(&name), located);
            }
        }
    }

    /// The configuration of an ensemble and what is wrong with it. `None`: what it is made of is
    /// broken, so that nothing can be said of it.
    fn ensemble(&self, name: &str) -> Option<(Arc<ModelConfig>, Option<Error>)> {
        let config = Arc::new(self.judged.get(name)?.ensemble.clone()?);
        let broken = |model: &String| {
            self.judged.get(model).is_some_and(|judged| judged.versions.is_empty())
        };
        if members(&config).iter().any(broken) {
            return None;
        }
        let error = ensemble::validate(&config, |step| self.member(&config, step)).err();
        Some((config, error))
    }

    fn member(&self, config: &ModelConfig, step: &Step) -> Result<Arc<ModelConfig>> {
        let (ensemble, name) = (&config.name, &of_step(step));
        let Some(judged) = self.judged.get(name) else {
            return Err(Error::invalid_arg(format!(
                "ensemble {ensemble} contains models that are not available or ambiguous: {name}"
            )));
        };
        let found = match step.model_version {
            version @ 1.. => judged.versions.get(&version),
            _ => judged.versions.values().next_back(),
        };
        found.cloned().ok_or_else(|| {
            Error::invalid_arg(format!(
                "ensemble '{ensemble}' depends on '{name}' whose required version {} is not \
                 loaded.",
                step.model_version
            ))
        })
    }
}

fn in_several(name: &str, folders: &[ModelFolder]) -> Finding {
    let paths: Vec<_> = folders.iter().map(|f| f.path.display().to_string()).collect();
    Finding::error(format!("model '{name}' is in several repositories: {}", paths.join(", ")))
        .cured_by("rename one of the folders")
}
