//! Which argument an input is and which element of the result an output, by Triton's conventions.

use nereid_inference::{Error, Result};
use nereid_model_config::ModelConfig;

/// What the shim found out about a module, see `nereid_describe`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Runs do not change the module.
    pub(crate) shared: bool,
    /// It takes one dict of all inputs.
    pub(crate) dict: bool,
    pub(crate) arguments: Vec<ArgumentInfo>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArgumentInfo {
    pub(crate) name: String,
    /// The module may write to it.
    pub(crate) written: bool,
}

impl Signature {
    pub(crate) fn parse(description: &str) -> Self {
        let mut lines = description.lines();
        let first = lines.next().unwrap_or_default();
        let arguments = lines.filter_map(|line| line.split_once(' ')).map(|(access, name)| {
            ArgumentInfo { name: name.to_owned(), written: access != "read" }
        });
        Self {
            shared: first.starts_with("shared"),
            dict: first.ends_with("dict"),
            arguments: arguments.collect(),
        }
    }

    /// Whether the module may write to the argument at `position`.
    pub(crate) fn writes(&self, position: usize) -> bool {
        self.dict || self.arguments.get(position).is_none_or(|argument| argument.written)
    }
}

/// The names of a model's inputs, each with its position among the arguments.
///
/// If all names are arguments of `forward`, they say which; else if all end in `__<index>`, the
/// index does; else the order in the configuration. Keys of a dict need no position.
pub(crate) fn inputs(config: &ModelConfig, signature: &Signature) -> Result<Vec<(String, usize)>> {
    let names = input_names(config);
    let argument = |name: &&str| signature.arguments.iter().position(|known| known.name == *name);
    let by_argument = || names.iter().map(argument).collect::<Option<Vec<usize>>>();
    let by_index = || names.iter().map(|name| index_of(name)).collect::<Option<Vec<usize>>>();
    let in_order = || (0..names.len()).collect();
    let positions = if signature.dict {
        in_order()
    } else {
        by_argument().or_else(by_index).unwrap_or_else(in_order)
    };
    check_positions(config, &names, &positions)?;
    Ok(names.into_iter().map(str::to_owned).zip(positions).collect())
}

/// Inputs of requests, and what schedulers add to them.
fn input_names(config: &ModelConfig) -> Vec<&str> {
    let inputs = config.input.iter().map(|input| input.name.as_str());
    let batch = config.batch_input.iter().flat_map(|input| &input.target_name);
    let controls = config.sequence_batching().into_iter().flat_map(|batching| {
        let states = batching.state.iter().map(|state| state.input_name.as_str());
        batching.control_input.iter().map(|input| input.name.as_str()).chain(states)
    });
    let mut names: Vec<&str> = Vec::new();
    for name in inputs.chain(batch.map(String::as_str)).chain(controls) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Two inputs for one argument, or a far-off index, cannot be meant.
fn check_positions(config: &ModelConfig, names: &[&str], positions: &[usize]) -> Result<()> {
    for (number, (name, position)) in names.iter().zip(positions).enumerate() {
        if positions[..number].contains(position) || *position > 255 {
            return Err(Error::invalid_arg(format!(
                "PyTorch model '{}': input '{name}' refers to index {position}, which another \
                 input has or which is too large",
                config.name
            )));
        }
    }
    Ok(())
}

/// The outputs of the configuration, and then the states that are none, each with the element of the
/// result that it is: all by `__<index>`, or all by order.
pub(crate) fn outputs(config: &ModelConfig) -> Vec<(&str, usize)> {
    let states = config.hidden_states().map(|state| state.output_name.as_str());
    let names: Vec<&str> =
        config.output.iter().map(|output| output.name.as_str()).chain(states).collect();
    let by_index = names.iter().map(|name| index_of(name)).collect::<Option<Vec<usize>>>();
    let indices = by_index.unwrap_or_else(|| (0..names.len()).collect());
    names.into_iter().zip(indices).collect()
}

/// The number behind the first `__` of a name; nothing behind it counts as 0, as in Triton.
fn index_of(name: &str) -> Option<usize> {
    let (_, digits) = name.split_once("__")?;
    match digits {
        "" => Some(0),
        _ => digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nereid_model_config::{ModelInput, ModelOutput};

    fn config(inputs: &[&str], outputs: &[&str]) -> ModelConfig {
        let input = |name: &&str| ModelInput { name: (*name).to_owned(), ..Default::default() };
        let output = |name: &&str| ModelOutput { name: (*name).to_owned(), ..Default::default() };
        ModelConfig {
            input: inputs.iter().map(input).collect(),
            output: outputs.iter().map(output).collect(),
            ..Default::default()
        }
    }

    fn positions(names: &[&str], description: &str) -> Vec<usize> {
        let mapped = inputs(&config(names, &[]), &Signature::parse(description)).unwrap();
        mapped.into_iter().map(|(_, position)| position).collect()
    }

    #[test]
    fn inputs_are_found_by_index_by_argument_or_by_order() {
        let description = "shared plain\nread image\nwritten mask";
        assert_eq!(positions(&["x__1", "y__0"], description), [1, 0]);
        assert_eq!(positions(&["mask", "image"], description), [1, 0]);
        assert_eq!(positions(&["mask"], description), [1]);
        assert_eq!(positions(&["mask", "other"], description), [0, 1]);
        assert_eq!(positions(&["x__1", "other"], description), [0, 1]);
        assert_eq!(positions(&["x__1", "y__0"], "shared dict\nread x"), [0, 1]);
    }

    #[test]
    fn an_index_cannot_be_taken_twice() {
        let twice = config(&["x__0", "y__0"], &[]);
        assert!(inputs(&twice, &Signature::default()).is_err());
    }

    #[test]
    fn outputs_are_found_by_index_or_by_order() {
        assert_eq!(outputs(&config(&[], &["b__1", "a__0"])), [("b__1", 1), ("a__0", 0)]);
        assert_eq!(outputs(&config(&[], &["b__1", "a"])), [("b__1", 0), ("a", 1)]);
        assert_eq!(outputs(&config(&[], &["b__x"])), [("b__x", 0)]);
    }

    #[test]
    fn descriptions_are_read() {
        let signature = Signature::parse("own dict\nwritten x");
        assert!(!signature.shared && signature.dict && signature.writes(0));
        let signature = Signature::parse("shared plain\nread x");
        assert!(signature.shared && !signature.dict && !signature.writes(0));
        assert!(signature.writes(1));
    }
}
