//! Holds a configuration against the graph, in Triton's words.

use nereid_inference::{DataType, Error, Result, display_shape};
use nereid_model_config::{ModelConfig, ModelInput, ModelTensorReshape, datatype_number};

use crate::graph::{Graph, Port};

/// Refuses a configuration that the graph cannot fulfil.
pub(crate) fn validate(config: &ModelConfig, graph: &Graph) -> Result<()> {
    let name = &config.name;
    let expected = expected_inputs(config);
    if graph.inputs.len() != expected {
        return Err(refusal(
            name,
            &format!(
                "configuration expects {expected} inputs, model provides {}",
                graph.inputs.len()
            ),
        ));
    }
    for input in &config.input {
        let port = graph.input(&input.name).ok_or_else(|| {
            let known = graph.inputs.iter().chain(&graph.overridable);
            unexpected(name, "input", &input.name, known)
        })?;
        check_datatype(name, "input", port, input.data_type)?;
        check_input_dims(config, input, port)?;
    }
    for output in &config.output {
        let port = graph
            .output(&output.name)
            .ok_or_else(|| unexpected(name, "output", &output.name, graph.outputs.iter()))?;
        check_datatype(name, "output", port, output.data_type)?;
        // What is cut by the shapes of an input may have any shape before.
        if !config.batch_output.iter().any(|cut| cut.target_name.contains(&output.name)) {
            check_dims(config, port, &output.dims, output.reshape.as_ref())?;
        }
    }
    Ok(())
}

/// Optional inputs stand for initializers that a request may replace, so they do not count.
fn expected_inputs(config: &ModelConfig) -> usize {
    let required = config.input.iter().filter(|input| !input.optional).count();
    let from_sequences = config.sequence_batching().map_or(0, |sequence| {
        sequence.control_input.iter().filter(|input| !input.name.is_empty()).count()
            + sequence.state.len()
    });
    required + config.batch_input.len() + from_sequences
}

fn check_input_dims(config: &ModelConfig, input: &ModelInput, port: &Port) -> Result<()> {
    let ModelInput { name, optional, allow_ragged_batch: ragged, .. } = input;
    if *optional && config.batches() {
        return Err(refusal(
            &config.name,
            &format!("optional input '{name}' is not supported for models that support batching"),
        ));
    }
    if !ragged {
        return check_dims(config, port, &input.dims, input.reshape.as_ref());
    }
    let shape = port.shape();
    if shape != [-1] {
        return Err(refusal(
            &config.name,
            &format!(
                "configuration expects model provides input with shape [-1]  for ragged input \
                 '{name}', model provides {}",
                display_shape(&shape)
            ),
        ));
    }
    Ok(())
}

fn check_datatype(model: &str, what: &str, port: &Port, configured: i32) -> Result<()> {
    if port.datatype.map(datatype_number) == Some(configured) {
        return Ok(());
    }
    let written =
        nereid_model_config::datatype(configured).map_or("TYPE_INVALID", DataType::config_name);
    let provides = port.datatype.map_or("<invalid>", DataType::name);
    Err(refusal(
        model,
        &format!(
            "configuration expects datatype {written} for {what} '{}', model provides TYPE_{provides}",
            port.name
        ),
    ))
}

fn check_dims(
    config: &ModelConfig,
    port: &Port,
    dims: &[i64],
    reshape: Option<&ModelTensorReshape>,
) -> Result<()> {
    let dims = reshape.map_or(dims, |reshape| &reshape.shape);
    if !port.has_shape {
        return Ok(());
    }
    if port.is_scalar() && !config.batches() {
        return match dims.iter().all(|&dim| dim == 1) {
            true => Ok(()),
            false => Err(refusal(
                &config.name,
                &format!(
                    "scalar tensor '{}', should only provide 1 in the model configuration when \
                     the model doesn't support batching. Model configuration provided: {}.",
                    port.name,
                    display_shape(dims)
                ),
            )),
        };
    }
    compare(config, &port.name, &port.shape(), dims)
}

/// Every dimension that the graph knows must be configured as it is.
fn compare(config: &ModelConfig, tensor: &str, graph: &[i64], dims: &[i64]) -> Result<()> {
    let place = format!("model '{}', tensor '{tensor}'", config.name);
    if config.batches() && graph.first() != Some(&-1) {
        return Err(Error::invalid_arg(format!(
            "{place}: for the model to support batching the shape should have at least 1 dimension \
             and the first dimension must be -1; but shape expected by the model is {}",
            display_shape(graph)
        )));
    }
    let full = config.full_dims(dims);
    let fits = graph.len() == full.len()
        && graph.iter().zip(&full).all(|(&known, &dim)| known == -1 || known == dim);
    if fits {
        return Ok(());
    }
    let expects =
        format!("the model expects {} dimensions (shape {})", graph.len(), display_shape(graph));
    let specifies = if config.batches() {
        format!(
            "{} dimensions (an initial batch dimension because max_batch_size > 0 followed by the \
             explicit tensor shape, making complete shape {})",
            full.len(),
            display_shape(&full)
        )
    } else {
        format!("{} dimensions (shape {})", full.len(), display_shape(&full))
    };
    Err(Error::invalid_arg(format!(
        "{place}: {expects} but the model configuration specifies {specifies}"
    )))
}

fn unexpected<'a>(
    model: &str,
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a Port>,
) -> Error {
    let known: Vec<&str> = known.map(|port| port.name.as_str()).collect();
    Error::invalid_arg(format!(
        "unexpected inference {what} '{name}', allowed {what}s are: {} (model '{model}')",
        known.join(", ")
    ))
}

fn refusal(model: &str, message: &str) -> Error {
    Error::invalid_arg(format!("unable to load model '{model}', {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::port;
    use nereid_model_config::ModelOutput;

    fn graph(input: &[i64], output: &[i64]) -> Graph {
        Graph {
            inputs: vec![port("x", DataType::Fp32, input)],
            overridable: vec![],
            outputs: vec![port("y", DataType::Fp32, output)],
        }
    }

    fn config(max_batch_size: i32, input: &[i64], output: &[i64]) -> ModelConfig {
        let data_type = datatype_number(DataType::Fp32);
        let x = ModelInput {
            name: "x".to_owned(),
            data_type,
            dims: input.to_vec(),
            ..Default::default()
        };
        let y = ModelOutput {
            name: "y".to_owned(),
            data_type,
            dims: output.to_vec(),
            ..Default::default()
        };
        ModelConfig {
            name: "m".to_owned(),
            max_batch_size,
            input: vec![x],
            output: vec![y],
            ..Default::default()
        }
    }

    fn message(config: &ModelConfig, graph: &Graph) -> String {
        validate(config, graph).unwrap_err().message().to_owned()
    }

    #[test]
    fn shapes_fit_where_the_graph_leaves_them_open() {
        assert_eq!(validate(&config(8, &[3], &[2]), &graph(&[-1, -1], &[-1, 2])), Ok(()));
        assert_eq!(validate(&config(0, &[1], &[2]), &graph(&[], &[2])), Ok(()));
        let wrong = message(&config(8, &[4], &[2]), &graph(&[-1, 3], &[-1, 2]));
        assert!(wrong.contains("making complete shape [-1,4]"), "{wrong}");
        let fixed = message(&config(8, &[3], &[2]), &graph(&[1, 3], &[-1, 2]));
        assert!(fixed.contains("the first dimension must be -1"), "{fixed}");
        let scalar = message(&config(0, &[2], &[2]), &graph(&[], &[2]));
        assert!(scalar.contains("scalar tensor 'x'"), "{scalar}");
    }

    #[test]
    fn names_types_and_counts_are_compared() {
        let open = graph(&[3], &[2]);
        let mut named = config(0, &[3], &[2]);
        named.input[0].name = "z".to_owned();
        assert!(message(&named, &open).contains("unexpected inference input 'z'"));
        let mut typed = config(0, &[3], &[2]);
        typed.output[0].data_type = datatype_number(DataType::Int8);
        let wrong = message(&typed, &open);
        assert!(
            wrong.ends_with("expects datatype TYPE_INT8 for output 'y', model provides TYPE_FP32")
        );
        let none = ModelConfig { input: vec![], ..config(0, &[3], &[2]) };
        assert!(
            message(&none, &open).ends_with("configuration expects 0 inputs, model provides 1")
        );
    }
}
