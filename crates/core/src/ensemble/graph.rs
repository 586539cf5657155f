//! Which step can run when: tensors by number, steps by what they read and write.

use nereid_model_config::ModelConfig;

use crate::namespaces::of_step;

/// The steps of an ensemble, fixed when it is loaded.
pub(crate) struct Graph {
    /// Names of all tensors; everywhere else they are numbers.
    pub(crate) tensors: Vec<String>,
    pub(crate) steps: Vec<Step>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

pub(crate) struct Step {
    pub(crate) model: String,
    /// `None`: the highest ready one.
    pub(crate) version: Option<i64>,
    /// The model's input, and the tensor that goes there.
    pub(crate) inputs: Vec<(String, usize)>,
    /// The model's output, and the tensor that it becomes.
    pub(crate) outputs: Vec<(String, usize)>,
    /// It may give any number of responses; what follows runs once for each.
    pub(crate) decoupled: bool,
}

/// How far one request has come.
pub(crate) struct Progress {
    steps: Vec<StepState>,
    in_flight: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StepState {
    Waiting,
    /// Started, or not needed for what was asked for.
    Settled,
}

impl Graph {
    /// `decoupled`: whether each step's model is.
    pub(crate) fn new(config: &ModelConfig, decoupled: &[bool]) -> Self {
        let mut tensors: Vec<String> = Vec::new();
        let mut number = |name: &str| {
            let known = tensors.iter().position(|tensor| tensor == name);
            known.unwrap_or_else(|| {
                tensors.push(name.to_owned());
                tensors.len() - 1
            })
        };
        let inputs = config.input.iter().map(|input| number(&input.name)).collect();
        let outputs = config.output.iter().map(|output| number(&output.name)).collect();
        let ensemble = config.ensemble_scheduling();
        let steps = ensemble.map_or(&[][..], |ensemble| &ensemble.step);
        let steps = steps
            .iter()
            .zip(decoupled)
            .map(|(step, &decoupled)| Step {
                decoupled,
                model: of_step(step),
                version: Some(step.model_version).filter(|&version| version > 0),
                inputs: step.input_map.iter().map(|(i, t)| (i.clone(), number(t))).collect(),
                outputs: step.output_map.iter().map(|(o, t)| (o.clone(), number(t))).collect(),
            })
            .collect();
        Self { tensors, steps, inputs, outputs }
    }

    /// Whether a request may get any number of responses.
    pub(crate) fn is_decoupled(&self) -> bool {
        self.steps.iter().any(|step| step.decoupled)
    }

    /// Whether the model of a step can wait with its responses: it is decoupled, and what follows
    /// from them does not need the instance that waits.
    pub(crate) fn can_wait(&self, step: usize) -> bool {
        let Step { model, decoupled, .. } = &self.steps[step];
        *decoupled && self.steps.iter().filter(|step| step.model == *model).count() == 1
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<usize> {
        self.tensors.iter().position(|tensor| tensor == name)
    }

    /// The outputs of a request that wants those for which `wants` says so.
    pub(crate) fn wanted(&self, wants: impl Fn(&str) -> bool) -> Vec<usize> {
        self.outputs.iter().copied().filter(|&output| wants(&self.tensors[output])).collect()
    }

    /// The start of a request for some of the outputs: steps that none of them needs are left out.
    pub(crate) fn start(&self, wanted: &[usize]) -> Progress {
        let mut needed: Vec<usize> = wanted.to_vec();
        let mut steps = vec![StepState::Settled; self.steps.len()];
        let mut at = 0;
        while let Some(&tensor) = needed.get(at) {
            for (step, state) in self.steps.iter().zip(&mut steps) {
                let writes = step.outputs.iter().any(|(_, written)| *written == tensor);
                if writes && *state == StepState::Settled {
                    *state = StepState::Waiting;
                    needed.extend(step.inputs.iter().map(|(_, read)| *read));
                }
            }
            at += 1;
        }
        Progress { steps, in_flight: 0 }
    }

    /// Whether the tensor comes with the request, or does not come at all.
    fn is_input(&self, tensor: usize) -> bool {
        self.inputs.contains(&tensor)
    }
}

impl Progress {
    /// The steps that can start now, given which tensors there are. They count as in flight from
    /// here on.
    pub(crate) fn next(&mut self, graph: &Graph, there: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut ready = Vec::new();
        for (index, step) in graph.steps.iter().enumerate() {
            let reads = || step.inputs.iter().map(|(_, tensor)| *tensor);
            let can = reads().all(|tensor| there(tensor) || graph.is_input(tensor));
            if self.steps[index] == StepState::Waiting && can {
                self.steps[index] = StepState::Settled;
                self.in_flight += 1;
                ready.push(index);
            }
        }
        ready
    }

    /// What is left to do with one response of the decoupled step `of`: the steps that follow from
    /// it.
    pub(crate) fn after(&self, graph: &Graph, of: usize) -> Self {
        let writes = |step: &Step| step.outputs.iter().map(|(_, tensor)| *tensor).collect();
        let mut there: Vec<usize> = writes(&graph.steps[of]);
        let mut steps = vec![StepState::Settled; self.steps.len()];
        let mut at = 0;
        while let Some(&tensor) = there.get(at) {
            for (index, step) in graph.steps.iter().enumerate() {
                let follows = step.inputs.iter().any(|(_, read)| *read == tensor);
                let open = self.steps[index] == StepState::Waiting;
                if follows && open && steps[index] == StepState::Settled {
                    steps[index] = StepState::Waiting;
                    there.extend(writes(step));
                }
            }
            at += 1;
        }
        Self { steps, in_flight: 0 }
    }

    /// A step has given its last answer.
    pub(crate) fn step_done(&mut self) {
        self.in_flight -= 1;
    }

    /// Nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.in_flight == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nereid_model_config::{
        ModelEnsembling, ModelInput, ModelOutput, model_config::SchedulingChoice, model_ensembling,
    };

    /// Steps as `reads -> writes`, separated by blanks.
    fn graph(inputs: &[&str], steps: &[(&str, &str)], outputs: &[&str]) -> Graph {
        let map =
            |names: &str| names.split(' ').map(|name| (name.to_owned(), name.to_owned())).collect();
        let step = |(reads, writes): &(&str, &str)| model_ensembling::Step {
            model_name: "m".to_owned(),
            input_map: map(reads),
            output_map: map(writes),
            ..Default::default()
        };
        let ensembling =
            ModelEnsembling { step: steps.iter().map(step).collect(), ..Default::default() };
        let input = |n: &&str| ModelInput { name: (*n).to_owned(), ..Default::default() };
        let output = |n: &&str| ModelOutput { name: (*n).to_owned(), ..Default::default() };
        let config = ModelConfig {
            input: inputs.iter().map(input).collect(),
            output: outputs.iter().map(output).collect(),
            scheduling_choice: Some(SchedulingChoice::EnsembleScheduling(ensembling)),
            ..Default::default()
        };
        Graph::new(&config, &vec![false; steps.len()])
    }

    /// Runs to the end; the steps that started together, in order.
    fn waves(graph: &Graph, wanted: &[&str]) -> Vec<Vec<usize>> {
        let wanted = graph.wanted(|name| wanted.contains(&name));
        let mut progress = graph.start(&wanted);
        let mut there: Vec<usize> = graph.inputs.clone();
        let mut waves = Vec::new();
        loop {
            let ready = progress.next(graph, |tensor| there.contains(&tensor));
            if ready.is_empty() {
                assert!(progress.is_over());
                return waves;
            }
            for &step in &ready {
                progress.step_done();
                there.extend(graph.steps[step].outputs.iter().map(|(_, tensor)| *tensor));
            }
            waves.push(ready);
        }
    }

    #[test]
    fn steps_that_can_start_together_do() {
        let diamond = graph(&["in"], &[("a b", "out"), ("in", "a"), ("in", "b")], &["out"]);
        assert_eq!(waves(&diamond, &["out"]), [vec![1, 2], vec![0]]);
    }

    #[test]
    fn steps_that_nobody_asked_for_are_left_out() {
        let fork = graph(&["in"], &[("in", "x"), ("in", "y"), ("y", "z")], &["x", "z"]);
        assert_eq!(waves(&fork, &["x"]), [vec![0]]);
        assert_eq!(waves(&fork, &["x", "z"]), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn what_follows_from_a_response() {
        let steps = [("in", "x"), ("x", "y"), ("in", "z"), ("y x", "out")];
        let graph = graph(&["in"], &steps, &["out", "z"]);
        let wanted = graph.wanted(|_| true);
        let mut progress = graph.start(&wanted);
        assert_eq!(progress.next(&graph, |tensor| graph.is_input(tensor)), [0, 2]);
        let mut after = progress.after(&graph, 0);
        let there = |names: &'static [&str]| {
            let graph = &graph;
            move |tensor: usize| names.contains(&graph.tensors[tensor].as_str())
        };
        assert_eq!(after.next(&graph, there(&["in", "x"])), [1]);
        assert_eq!(after.next(&graph, there(&["in", "x", "y"])), [3]);
    }

    #[test]
    fn a_step_that_can_never_start_ends_the_run() {
        let circle = graph(&["in"], &[("in b", "a"), ("a", "b")], &["b"]);
        assert!(waves(&circle, &["b"]).is_empty());
    }
}
