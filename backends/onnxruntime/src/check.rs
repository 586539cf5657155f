//! Judges a version without an engine: the file, and the configuration against its graph.

use nereid_backend::{Finding, ModelSource};
use nereid_inference::{DataType, display_shape};

use crate::backend::model_path;
use crate::graph::{Graph, Port};
use crate::options::{self, Options};
use crate::validate::validate;

pub(crate) fn check(source: &ModelSource) -> Vec<Finding> {
    let mut findings = parameters(source);
    let path = match model_path(source) {
        Ok(path) => path,
        Err(error) => {
            let cure = "put the model there, or name its file in default_model_filename";
            findings.push(Finding::from(error).in_file(&source.version_dir).cured_by(cure));
            return findings;
        }
    };
    match Graph::read(&path) {
        Err(error) => {
            let cure = "export the model again, or copy the whole file";
            findings.push(Finding::from(error).in_file(&path).cured_by(cure));
        }
        Ok(graph) => {
            if let Err(error) = validate(&source.config, &graph) {
                findings.push(Finding::from(error).cured_by(describe(&graph)));
            }
        }
    }
    findings
}

fn parameters(source: &ModelSource) -> Vec<Finding> {
    let given = options::IGNORED.into_iter().filter(|key| source.config.parameter(key).is_some());
    let ignored = given.map(|key| {
        Finding::warning(format!("parameter '{key}' means nothing on a CPU"))
            .cured_by("nothing needs to be done; it may be removed")
    });
    ignored.chain(Options::read(&source.config).err().map(Finding::from)).collect()
}

/// What the file says, to be held against what was written.
fn describe(graph: &Graph) -> String {
    let list = |ports: &[Port]| {
        let one = |port: &Port| {
            let datatype = port.datatype.map_or("of an unknown type", DataType::config_name);
            format!("{} {datatype} {}", port.name, display_shape(&port.shape()))
        };
        ports.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    format!("the graph has inputs: {}; outputs: {}", list(&graph.inputs), list(&graph.outputs))
}
