//! Whole models through the backend. Skipped, with the reason printed, where there is no Python
//! with torch to make them or no libtorch and compiler to run them.
#![allow(clippy::unwrap_used)] // clippy's exception for tests does not reach their helpers

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use bytes::Bytes;
use nereid_arena::Arena;
use nereid_backend::conformance::{Subject, check};
use nereid_backend::{
    Backend, Batch, Host, Instance, InstanceKind, Model, ModelSource, Placement, Pulse, Seat,
    Service,
};
use nereid_backend_pytorch::PytorchBackend;
use nereid_inference::{
    Answer, BytesElements, DataType, Error, Request, Responder, ResponseSink, Result, Tensor, Times,
};
use nereid_model_config::model_config::SchedulingChoice;
use nereid_model_config::{
    ModelConfig, ModelInput, ModelOutput, ModelParameter, ModelSequenceBatching, datatype_number,
    model_sequence_batching,
};

struct NoService;

impl Service for NoService {
    fn infer(&self, _: Request) {}
}

fn host() -> Host {
    static REACTOR: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let reactor =
        REACTOR.get_or_init(|| tokio::runtime::Builder::new_current_thread().build().unwrap());
    Host {
        service: Arc::new(NoService),
        arena: Arena::new().unwrap(),
        reactor: reactor.handle().clone(),
        pulse: Pulse::default(),
        metrics: Default::default(),
        alive: Arc::new(()),
        ending: Default::default(),
    }
}

/// One backend for all tests: a process has one libtorch.
fn backend() -> &'static PytorchBackend {
    static BACKEND: OnceLock<PytorchBackend> = OnceLock::new();
    BACKEND.get_or_init(PytorchBackend::new)
}

/// The folder with the models of `models.py`; `None` where they cannot be made.
fn models() -> Option<&'static Path> {
    static MODELS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = MODELS.get_or_init(|| {
        // In the build's own folder: a static is never dropped, so nothing would remove another.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("torchscript-models");
        std::fs::create_dir_all(&folder).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models.py");
        let output = Command::new("/usr/bin/python3").arg(script).arg(&folder).output().ok()?;
        let messages = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            println!("skipped: no models can be made: {}", messages.lines().last()?);
        }
        output.status.success().then_some(folder)
    });
    made.as_deref()
}

type Spec<'a> = (&'a str, DataType, &'a [i64]);

fn config(inputs: &[Spec], outputs: &[Spec]) -> ModelConfig {
    let input = |&(name, datatype, dims): &Spec| ModelInput {
        name: name.to_owned(),
        data_type: datatype_number(datatype),
        dims: dims.to_vec(),
        ..Default::default()
    };
    let output = |&(name, datatype, dims): &Spec| ModelOutput {
        name: name.to_owned(),
        data_type: datatype_number(datatype),
        dims: dims.to_vec(),
        ..Default::default()
    };
    ModelConfig {
        max_batch_size: 8,
        input: inputs.iter().map(input).collect(),
        output: outputs.iter().map(output).collect(),
        ..Default::default()
    }
}

fn source(folder: &Path, config: ModelConfig) -> ModelSource {
    ModelSource {
        name: "m".to_owned(),
        version: 1,
        model_dir: folder.to_owned(),
        version_dir: folder.join("1"),
        config: Arc::new(config),
        settings: std::env::var("TEST_LIBTORCH")
            .map(|path| vec![("libtorch".to_owned(), path)])
            .unwrap_or_default(),
    }
}

/// The model, or `None` with the reason printed where TorchScript cannot be run here.
fn load(name: &str, config: ModelConfig) -> Option<Box<dyn Model>> {
    let loaded = backend().load(&source(&models()?.join(name), config), &host());
    match loaded {
        Err(error) if error.message().contains("needs libtorch") => {
            println!("skipped: {error}");
            None
        }
        loaded => Some(loaded.unwrap()),
    }
}

fn instance(model: &dyn Model) -> Box<dyn Instance> {
    let placement =
        Placement { name: "m_0_0".to_owned(), index: 0, kind: InstanceKind::Cpu, device_id: 0 };
    match model.instantiate(&placement).unwrap() {
        Seat::Thread(instance) => instance,
        Seat::Handoff { .. } => panic!("libtorch blocks"),
    }
}

struct Channel(mpsc::Sender<Result<Vec<Tensor>>>);

impl ResponseSink for Channel {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        let outputs = answer.response.unwrap().map(|response| response.outputs);
        self.0.send(outputs).unwrap();
    }
}

fn tensor(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (name, shape) = (name.to_owned(), shape.to_vec());
    Tensor { name, datatype: DataType::Fp32, shape, data: data.into() }
}

/// Runs requests as one batch; their answers in the order of the requests.
fn run(instance: &mut dyn Instance, requests: Vec<Vec<Tensor>>) -> Vec<Result<Vec<Tensor>>> {
    let (requests, answers): (Vec<_>, Vec<_>) = requests
        .into_iter()
        .map(|inputs| {
            let (sender, answers) = mpsc::channel();
            let mut request = Request::new("m", None, Responder::new(Box::new(Channel(sender))));
            request.batch_size = inputs[0].shape[0] as usize;
            request.inputs = inputs;
            (request, answers)
        })
        .unzip();
    instance.execute(Batch::unowned(requests));
    answers.into_iter().map(|answer| answer.recv().unwrap()).collect()
}

fn run_one(instance: &mut dyn Instance, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
    run(instance, vec![inputs]).remove(0)
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let data = tensor.data.contiguous();
    data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

const FP32: DataType = DataType::Fp32;

fn subject(name: &str, source: ModelSource) -> Subject<'static> {
    let large = || vec![tensor("x", &[1, 100_000], &[1.0; 100_000])];
    Subject {
        backend: backend(),
        source,
        good: |rows| vec![tensor("x", &[rows as i64, 2], &vec![1.0; 2 * rows])],
        bad: (name == "Picky").then_some(|| vec![tensor("x", &[1, 3], &[1.0; 3])]),
        large: (name == "Scale").then_some(large),
    }
}

#[test]
fn the_contract_is_kept() {
    let config = config(&[("x", FP32, &[-1])], &[("y", FP32, &[-1])]);
    for name in ["Picky", "Scale"] {
        if load(name, config.clone()).is_none() {
            return;
        }
        let folder = models().unwrap().join(name);
        check(&subject(name, source(&folder, config.clone())));
    }
}

#[test]
fn requests_of_a_batch_get_their_own_rows() {
    let config = config(&[("input__0", FP32, &[2])], &[("output__0", FP32, &[2])]);
    let Some(model) = load("Scale", config) else { return };
    let first = vec![tensor("input__0", &[1, 2], &[1.0, 2.0])];
    let second = vec![tensor("input__0", &[2, 2], &[3.0, 4.0, 5.0, 6.0])];
    let answers = run(&mut *instance(&*model), vec![first, second]);
    assert_eq!(floats(&answers[0].as_ref().unwrap()[0]), [3.0, 5.0]);
    let second = &answers[1].as_ref().unwrap()[0];
    assert_eq!(
        (floats(second), second.shape.as_slice()),
        (vec![7.0, 9.0, 11.0, 13.0], &[2, 2][..])
    );
}

#[test]
fn arguments_by_name_and_outputs_of_a_tuple_by_index() {
    let inputs: [Spec; 2] = [("right", FP32, &[1]), ("left", FP32, &[1])];
    let outputs: [Spec; 2] = [("d__1", DataType::Int64, &[1]), ("s__0", FP32, &[1])];
    let Some(model) = load("SumAndDifference", config(&inputs, &outputs)) else { return };
    let sent = vec![tensor("right", &[1, 1], &[2.0]), tensor("left", &[1, 1], &[5.0])];
    let outputs = run_one(&mut *instance(&*model), sent).unwrap();
    assert_eq!(outputs[0].name, "d__1");
    assert_eq!(outputs[0].data.contiguous().as_ref(), 3i64.to_le_bytes());
    assert_eq!(floats(&outputs[1]), [7.0]);
}

#[test]
fn a_list_of_strings_is_a_bytes_output() {
    let mut config = config(&[("x", FP32, &[1])], &[("names", DataType::Bytes, &[-1])]);
    config.max_batch_size = 0;
    let Some(model) = load("Names", config) else { return };
    let outputs = run_one(&mut *instance(&*model), vec![tensor("x", &[1], &[0.0])]).unwrap();
    assert_eq!((outputs[0].datatype, outputs[0].shape.as_slice()), (DataType::Bytes, &[3][..]));
    let data = outputs[0].data.contiguous();
    let strings: Vec<_> = BytesElements::new(&data).map(|element| element.unwrap()).collect();
    assert_eq!(strings, [&b"a"[..], b"", b"xyz"]);
}

#[test]
fn an_exception_in_the_model_is_the_requests_error() {
    let config = config(&[("x", FP32, &[-1])], &[("y", FP32, &[-1])]);
    let Some(model) = load("Picky", config) else { return };
    let mut instance = instance(&*model);
    let error = run_one(&mut *instance, vec![tensor("x", &[1, 1], &[1.0])]).unwrap_err();
    assert!(error.message().starts_with("PyTorch execute failure: "), "{error}");
    assert!(error.message().contains("two columns, please"), "{error}");
    assert!(run_one(&mut *instance, vec![tensor("x", &[1, 2], &[1.0, 2.0])]).is_ok());
}

#[test]
fn inputs_are_never_written_to_and_need_no_alignment() {
    let config = config(&[("x", FP32, &[2])], &[("y", FP32, &[2])]);
    let Some(model) = load("Writes", config.clone()) else { return };
    let input = tensor("x", &[1, 2], &[1.0, 2.0]);
    let outputs = run_one(&mut *instance(&*model), vec![input.clone()]).unwrap();
    assert_eq!(floats(&outputs[0]), [2.0, 3.0]);
    assert_eq!(floats(&input), [1.0, 2.0]);

    let Some(model) = load("Picky", config) else { return };
    let mut shifted = vec![0];
    shifted.extend_from_slice(&input.data.contiguous());
    let shifted = Bytes::from(shifted).slice(1..);
    let odd = Tensor { data: shifted.into(), ..input };
    assert_eq!(floats(&run_one(&mut *instance(&*model), vec![odd]).unwrap()[0]), [1.0, 2.0]);
}

#[test]
fn instances_of_a_module_that_changes_itself_do_not_share_it() {
    let config = config(&[("x", FP32, &[1])], &[("y", FP32, &[1])]);
    let Some(model) = load("Counts", config) else { return };
    let (mut one, mut other) = (instance(&*model), instance(&*model));
    let count = |instance: &mut dyn Instance| {
        floats(&run_one(instance, vec![tensor("x", &[1, 1], &[0.0])]).unwrap()[0])[0]
    };
    assert_eq!((count(&mut *one), count(&mut *one), count(&mut *other)), (1.0, 2.0, 1.0));
}

#[test]
fn a_model_that_gives_something_else_is_told_so() {
    let wrong_type = config(&[("x", FP32, &[2])], &[("y", DataType::Int32, &[2])]);
    let Some(model) = load("Scale", wrong_type) else { return };
    let error =
        run_one(&mut *instance(&*model), vec![tensor("x", &[1, 2], &[0.0; 2])]).unwrap_err();
    assert_eq!(
        error.message(),
        "configuration expects datatype TYPE_INT32 for output 'y', model provides TYPE_FP32"
    );
}

#[test]
fn outputs_and_states_that_would_never_come_are_refused_at_load() {
    let fitting = config(&[("x", FP32, &[2])], &[("y", FP32, &[2])]);
    if load("Scale", fitting.clone()).is_none() {
        return;
    }
    let refused = |config: ModelConfig| {
        let source = source(&models().unwrap().join("Scale"), config);
        backend().load(&source, &host()).err().unwrap().message().to_owned()
    };
    let error = refused(config(&[("x", FP32, &[2])], &[("y__1", FP32, &[2])]));
    assert!(error.contains("The output y__1") && error.contains("This model has 1 outputs"));
    let state = model_sequence_batching::State {
        input_name: "before".to_owned(),
        output_name: "after".to_owned(),
        data_type: datatype_number(FP32),
        dims: vec![2],
        ..Default::default()
    };
    let sequence = ModelSequenceBatching { state: vec![state], ..Default::default() };
    let with_state = ModelConfig {
        scheduling_choice: Some(SchedulingChoice::SequenceBatching(sequence)),
        ..fitting
    };
    assert!(refused(with_state).contains("The output after"));
}

#[test]
fn outputs_are_found_out_by_running_the_model() {
    let completed = |name: &str, written: ModelConfig| {
        let source = source(&models().unwrap().join(name), written);
        let mut config = ModelConfig::clone(&source.config);
        backend().complete_config(&source, &mut config).map(|()| config)
    };
    let open = config(&[("x", FP32, &[-1])], &[]);
    if load("Scale", config(&[("x", FP32, &[2])], &[("y", FP32, &[2])])).is_none() {
        return;
    }
    let found = completed("Scale", open.clone()).unwrap().output;
    assert_eq!((found.len(), found[0].name.as_str()), (1, "OUTPUT__0"));
    assert_eq!((found[0].datatype(), found[0].dims.as_slice()), (Some(FP32), &[-1][..]));
    let fixed = completed("Scale", config(&[("x", FP32, &[7])], &[])).unwrap().output;
    assert_eq!(fixed[0].dims, [7]);
    let error = completed("Scale", config(&[("x", DataType::Bytes, &[7])], &[])).unwrap_err();
    assert!(error.message().contains("there are no zeros for input 'x'"), "{error}");
    assert!(error.message().starts_with("autofill failed for model 'm'"), "{error}");
    let written = config(&[("x", FP32, &[2])], &[("y", FP32, &[2])]);
    assert_eq!(completed("Scale", written.clone()).unwrap(), written);
}

#[test]
fn a_file_that_is_no_module_is_named_in_the_error() {
    let config = config(&[("x", FP32, &[2])], &[("y", FP32, &[2])]);
    if load("Scale", config.clone()).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let failed = |config: &ModelConfig| -> Error {
        backend().load(&source(folder.path(), config.clone()), &host()).err().unwrap()
    };
    assert!(failed(&config).message().starts_with("unable to find '"));
    let file = folder.path().join("1/model.pt");
    std::fs::create_dir(folder.path().join("1")).unwrap();
    std::fs::write(&file, "not a module").unwrap();
    let error = failed(&config);
    assert!(error.message().contains(&*file.to_string_lossy()), "{error}");

    let mut bad = config.clone();
    let value = ModelParameter { string_value: "many".to_owned() };
    bad.parameters.insert("INTRA_OP_THREAD_COUNT".to_owned(), value);
    assert!(failed(&bad).message().contains("'many'"));
}

#[test]
fn without_libtorch_the_fallback_takes_over() {
    let Some(models) = models() else { return };
    let config = config(&[("x", FP32, &[2])], &[("y", FP32, &[2])]);
    let mut source = source(&models.join("Scale"), config);
    source.settings = vec![("libtorch".to_owned(), "/nonexistent".to_owned())];
    let error = PytorchBackend::new().load(&source, &host()).err().unwrap();
    assert!(error.message().contains("libtorch=PATH"), "{error}");

    let asked = Arc::new(Mutex::new(String::new()));
    let seen = asked.clone();
    let backend = PytorchBackend::with_fallback(Arc::new(move |_, _, model_py| {
        model_py.clone_into(&mut seen.lock().unwrap());
        Err(Error::unavailable("the fallback's own"))
    }));
    let error = backend.load(&source, &host()).err().unwrap();
    assert_eq!(error.message(), "the fallback's own");
    assert!(asked.lock().unwrap().contains("class TritonPythonModel"));
}
