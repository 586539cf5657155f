//! `--model-namespacing`: models of the same name in several repositories. A model's namespace is
//! its repository; inside, and in messages, it is called `<namespace>::<name>`. Without namespaces a
//! model is called by its name alone.

use std::collections::BTreeMap;

use nereid_inference::{Error, Result};
use nereid_model_config::{ModelConfig, model_config::SchedulingChoice, model_ensembling::Step};
use nereid_repository::{identifier, split_identifier};

/// The model that a step of an ensemble means, once that is known.
pub(crate) fn of_step(step: &Step) -> String {
    identifier(&step.model_namespace, &step.model_name)
}

/// Who is called by which name; empty without namespaces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    used: bool,
    by_name: BTreeMap<String, Vec<String>>,
}

impl Names {
    pub(crate) fn new(used: bool) -> Self {
        Self { used, by_name: BTreeMap::new() }
    }

    pub(crate) fn of<'a>(used: bool, ids: impl Iterator<Item = &'a String>) -> Self {
        let mut names = Self::new(used);
        if used {
            ids.for_each(|id| names.add(id));
        }
        names
    }

    pub(crate) fn add(&mut self, id: &str) {
        if !self.used {
            return;
        }
        let ids = self.by_name.entry(split_identifier(id).1.to_owned()).or_default();
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }

    /// The name of a model, for clients.
    pub(crate) fn name<'a>(&self, id: &'a str) -> &'a str {
        if self.used { split_identifier(id).1 } else { id }
    }

    /// The namespace of a model; empty without namespaces.
    pub(crate) fn namespace<'a>(&self, id: &'a str) -> &'a str {
        if self.used { split_identifier(id).0 } else { "" }
    }

    /// All models that are called so; just `name`, where nobody is.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.by_name.get(name).cloned().unwrap_or_else(|| vec![name.to_owned()])
    }

    /// All models that are called by any of these names.
    pub(crate) fn expand(&self, names: &[String]) -> Vec<String> {
        names.iter().flat_map(|name| self.all(name)).collect()
    }

    /// The one model that is called so, whether it is there or not.
    pub(crate) fn one<'a>(&'a self, name: &'a str) -> Result<&'a str> {
        match self.by_name.get(name).map(Vec::as_slice) {
            None | Some([]) => Ok(name),
            Some([id]) => Ok(id),
            Some(several) => Err(Error::invalid_arg(format!(
                "There are {} identifiers of model '{name}' in global map, model namespace must \
                 be provided to resolve ambiguity.",
                several.len()
            ))),
        }
    }

    /// Finds out which models the steps of an ensemble mean: those of its own namespace before those
    /// that are alone in bearing their name. Others stay as they are, and will not be found.
    pub(crate) fn resolve(&self, config: &mut ModelConfig, namespace: &str) {
        let Some(SchedulingChoice::EnsembleScheduling(ensemble)) = &mut config.scheduling_choice
        else {
            return;
        };
        for step in &mut ensemble.step {
            let own = identifier(namespace, &step.model_name);
            let called = self.by_name.get(&step.model_name).map_or(&[][..], Vec::as_slice);
            step.model_namespace = match called {
                _ if called.contains(&own) => namespace.to_owned(),
                [only] => self.namespace(only).to_owned(),
                _ => String::new(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn names() -> Names {
        let ids = ["/a::dup", "/a::one", "/b::dup", "/b::two"].map(str::to_owned);
        Names::of(true, ids.iter())
    }

    #[test]
    fn a_name_means_one_model_or_is_ambiguous() {
        let names = names();
        assert_eq!(names.one("one").unwrap(), "/a::one");
        assert_eq!(names.one("/b::dup").unwrap(), "/b::dup");
        assert_eq!(names.one("nobody").unwrap(), "nobody");
        assert!(names.one("dup").unwrap_err().message().starts_with("There are 2 identifiers"));
        assert_eq!(names.all("dup"), ["/a::dup", "/b::dup"]);
        assert_eq!(names.name("s3://x/y::m"), "m");
        assert_eq!(Names::new(false).name("s3://x/y::m"), "s3://x/y::m");
    }

    #[test]
    fn steps_mean_their_own_namespace_first() {
        let step = |model: &str| format!("{{ model_name: '{model}' }},");
        let steps: String = ["dup", "two", "nobody"].map(step).concat();
        let text = format!("platform: 'ensemble' ensemble_scheduling {{ step [ {steps} ] }}");
        let mut config =
            nereid_model_config::parse(&text.replace(", ]", " ]"), Path::new("x")).unwrap();
        names().resolve(&mut config, "/b");
        let steps = &config.ensemble_scheduling().unwrap().step;
        let ids: Vec<_> = steps.iter().map(of_step).collect();
        assert_eq!(ids, ["/b::dup", "/b::two", "nobody"]);
        names().resolve(&mut config, "/c");
        let steps = &config.ensemble_scheduling().unwrap().step;
        assert_eq!(steps.iter().map(of_step).collect::<Vec<_>>(), ["dup", "/b::two", "nobody"]);
    }
}
