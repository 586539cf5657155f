//! Fills a configuration from the graph, by Triton's rules.

use nereid_backend::ModelSource;
use nereid_inference::{Error, Result};
use nereid_model_config::{
    ModelConfig, ModelDynamicBatching, ModelInput, ModelOutput, ModelTensorReshape,
    datatype_number, model_config::SchedulingChoice,
};

use crate::graph::{Graph, Port};

/// What models that can batch get for `max_batch_size` if nothing says another number.
const DEFAULT_MAX_BATCH_SIZE: i32 = 4;

/// Whether there is anything left to fill in. A configuration with inputs and outputs is complete.
pub(crate) fn is_complete(config: &ModelConfig) -> bool {
    let inputs = config.input.len() + config.batch_input.len();
    inputs > 0 && !config.output.is_empty()
}

/// Fills in what `config` leaves out: inputs, outputs, and how far the model batches.
pub(crate) fn complete(
    graph: &Graph,
    source: &ModelSource,
    config: &mut ModelConfig,
) -> Result<()> {
    complete_batching(graph, source, config)?;
    let batches = config.batches();
    if config.input.is_empty() && config.batch_input.is_empty() {
        let input = |port: &Port| {
            let (dims, reshape) = configured_dims(port, batches);
            Ok(ModelInput {
                name: port.name.clone(),
                data_type: type_number(port)?,
                dims,
                reshape,
                ..Default::default()
            })
        };
        config.input = graph.inputs.iter().map(input).collect::<Result<_>>()?;
    }
    if config.output.is_empty() {
        let output = |port: &Port| {
            let (dims, reshape) = configured_dims(port, batches);
            Ok(ModelOutput {
                name: port.name.clone(),
                data_type: type_number(port)?,
                dims,
                reshape,
                ..Default::default()
            })
        };
        config.output = graph.outputs.iter().map(output).collect::<Result<_>>()?;
    }
    Ok(())
}

/// A graph can batch if the first dimension of all its inputs and outputs is open.
fn complete_batching(graph: &Graph, source: &ModelSource, config: &mut ModelConfig) -> Result<()> {
    let open = |port: &Port| port.shape().first() == Some(&-1);
    if !graph.inputs.iter().chain(&graph.outputs).all(open) {
        if config.max_batch_size != 0 {
            return Err(Error::invalid_arg(format!(
                "autofill failed for model '{}': model does not support batching while non-zero \
                 max_batch_size is specified",
                source.name
            )));
        }
        return Ok(());
    }
    if config.max_batch_size == 0 {
        config.max_batch_size = default_max_batch_size(source)?;
    }
    if config.max_batch_size > 1 && config.scheduling_choice.is_none() {
        let dynamic = ModelDynamicBatching::default();
        config.scheduling_choice = Some(SchedulingChoice::DynamicBatching(dynamic));
    }
    Ok(())
}

fn default_max_batch_size(source: &ModelSource) -> Result<i32> {
    const KEY: &str = "default-max-batch-size";
    let Some(text) = source.setting(KEY) else { return Ok(DEFAULT_MAX_BATCH_SIZE) };
    let size: i32 = text.parse().map_err(|_| {
        Error::invalid_arg(format!("setting '{KEY}' must be a whole number, got '{text}'"))
    })?;
    Ok(size.max(0))
}

/// `dims` and `reshape` for a port: a configuration cannot write down a scalar, so it is a tensor
/// of one element, reshaped where that has a meaning.
fn configured_dims(port: &Port, batches: bool) -> (Vec<i64>, Option<ModelTensorReshape>) {
    let dims: Vec<i64> = port.shape().into_iter().skip(usize::from(batches)).collect();
    if !dims.is_empty() {
        return (dims, None);
    }
    (vec![1], batches.then(|| ModelTensorReshape { shape: Vec::new() }))
}

fn type_number(port: &Port) -> Result<i32> {
    port.datatype.map(datatype_number).ok_or_else(|| {
        Error::unsupported(format!(
            "Unsupported ONNX Type for I/O '{}', expected a tensor of numbers or strings.",
            port.name
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::port;
    use nereid_inference::DataType;

    fn source(settings: &[(&str, &str)]) -> ModelSource {
        ModelSource {
            name: "m".to_owned(),
            version: 1,
            model_dir: "/m".into(),
            version_dir: "/m/1".into(),
            config: ModelConfig::default().into(),
            settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    fn graph(input: &[i64], output: &[i64]) -> Graph {
        Graph {
            inputs: vec![port("x", DataType::Fp32, input)],
            overridable: vec![port("w", DataType::Fp32, &[1])],
            outputs: vec![port("y", DataType::Int64, output)],
        }
    }

    #[test]
    fn a_graph_that_batches_gets_a_batch_size_and_a_batcher() {
        let mut config = ModelConfig::default();
        complete(&graph(&[-1, 3], &[-1]), &source(&[]), &mut config).unwrap();
        assert_eq!(config.max_batch_size, 4);
        assert!(config.dynamic_batching().is_some());
        assert_eq!(config.input.len(), 1);
        assert_eq!(config.input[0].dims, [3]);
        assert_eq!(config.output[0].dims, [1]);
        assert_eq!(config.output[0].reshape.as_ref().unwrap().shape, [0_i64; 0]);
        assert_eq!(config.output[0].datatype(), Some(DataType::Int64));
    }

    #[test]
    fn a_setting_names_the_batch_size() {
        let mut config = ModelConfig::default();
        let source = source(&[("default-max-batch-size", "16")]);
        complete(&graph(&[-1, 3], &[-1, 1]), &source, &mut config).unwrap();
        assert_eq!(config.max_batch_size, 16);
    }

    #[test]
    fn a_graph_of_fixed_size_keeps_all_its_dimensions() {
        let mut config = ModelConfig::default();
        complete(&graph(&[1, 3], &[-1]), &source(&[]), &mut config).unwrap();
        assert_eq!((config.max_batch_size, config.input[0].dims.as_slice()), (0, &[1, 3][..]));
        assert!(config.dynamic_batching().is_none());
        config = ModelConfig { max_batch_size: 2, ..Default::default() };
        assert!(complete(&graph(&[1, 3], &[-1]), &source(&[]), &mut config).is_err());
    }
}
