//! Whole models on both engines. Skipped, with the reason printed, where there is no environment
//! with `onnx` to make the models.
#![allow(clippy::unwrap_used)] // clippy's exception for tests does not reach their helpers

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock, mpsc};

use nereid_arena::Arena;
use nereid_backend::conformance::{Subject, check};
use nereid_backend::{
    Backend, Batch, Host, InstanceKind, ModelSource, Placement, Pulse, Seat, Service,
};
use nereid_backend_onnxruntime::OnnxRuntimeBackend;
use nereid_inference::{Answer, Buffer, DataType, Request, Responder, ResponseSink, Tensor, Times};
use nereid_model_config::{ModelConfig, fill_defaults};

const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv");

/// One backend for all tests: a process has one ONNX Runtime.
fn backend() -> &'static OnnxRuntimeBackend {
    static BACKEND: OnceLock<OnnxRuntimeBackend> = OnceLock::new();
    BACKEND.get_or_init(OnnxRuntimeBackend::new)
}

/// The folder with the models of `onnx_models.py`; `None` where they cannot be made.
fn models() -> Option<&'static Path> {
    static MODELS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = MODELS.get_or_init(|| {
        // In the build's own folder: a static is never dropped, so nothing would remove another.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx-models");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/onnx_models.py");
        let python = Path::new(ENVIRONMENT).join("bin/python");
        let output = Command::new(python).arg(script).arg(&folder).output().ok();
        let made = output.is_some_and(|output| output.status.success());
        if !made {
            println!("skipped: no models can be made: run scripts/setup.sh first");
        }
        made.then_some(folder)
    });
    made.as_deref()
}

/// Where a model is, with its configuration completed from its graph.
fn source(name: &str, engine: &str) -> Option<ModelSource> {
    let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut source = ModelSource {
        name: name.to_owned(),
        version: 1,
        model_dir: models()?.join(name),
        version_dir: models()?.join(name).join("1"),
        config: Arc::default(),
        settings: vec![setting("engine", engine), setting("library", ENVIRONMENT)],
    };
    let mut config = ModelConfig { backend: backend().name().to_owned(), ..Default::default() };
    backend().complete_config(&source, &mut config).unwrap();
    fill_defaults(&mut config, name, backend().default_filename(), 0);
    source.config = Arc::new(config);
    Some(source)
}

fn tensor(name: &str, shape: &[i64]) -> Vec<Tensor> {
    let elements = shape.iter().product::<i64>() as usize;
    let data: Vec<u8> = (0..elements).flat_map(|index| (index as f32).to_le_bytes()).collect();
    let (name, shape) = (name.to_owned(), shape.to_vec());
    vec![Tensor { name, datatype: DataType::Fp32, shape, data: data.into() }]
}

#[test]
fn the_contract_is_kept() {
    for engine in ["onnxruntime", "rten"] {
        let (Some(picky), Some(twice)) = (source("picky", engine), source("twice_FP32", engine))
        else {
            return;
        };
        check(&Subject {
            backend: backend(),
            source: picky,
            good: |rows| tensor("x", &[rows as i64, 3]),
            bad: Some(|| tensor("x", &[1, 4])),
            large: None,
        });
        check(&Subject {
            backend: backend(),
            source: twice,
            good: |rows| tensor("IN", &[rows as i64, 3]),
            bad: None,
            large: Some(|| tensor("IN", &[1, 100_000])),
        });
    }
}

struct NoService;

impl Service for NoService {
    fn infer(&self, _: Request) {}
}

struct Channel(mpsc::Sender<Vec<Tensor>>);

impl ResponseSink for Channel {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        self.0.send(answer.response.unwrap().unwrap().outputs).unwrap();
    }
}

#[test]
fn a_large_output_of_known_shape_is_written_to_the_arena() {
    let Some(source) = source("scale", "onnxruntime") else { return };
    let reactor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let arena = Arena::new().unwrap();
    let host = Host {
        service: Arc::new(NoService),
        arena: arena.clone(),
        reactor: reactor.handle().clone(),
        pulse: Pulse::default(),
        metrics: Default::default(),
        alive: Arc::new(()),
        ending: Default::default(),
    };
    let model = backend().load(&source, &host).unwrap();
    let placement =
        Placement { name: "m_0_0".to_owned(), index: 0, kind: InstanceKind::Cpu, device_id: 0 };
    let Seat::Thread(mut instance) = model.instantiate(&placement).unwrap() else {
        panic!("ONNX Runtime blocks");
    };
    let (sender, answers) = mpsc::channel();
    let mut request = Request::new("m", None, Responder::new(Box::new(Channel(sender))));
    request.inputs = tensor("x", &[50_000, 2]);
    instance.execute(Batch::unowned(vec![request]));
    let outputs = answers.recv().unwrap();
    let Buffer::One(data) = &outputs[0].data else { panic!("one piece") };
    assert!(arena.offset_of(data).is_some(), "the output is in the arena");
    assert_eq!(data[data.len() - 4..], (99_999.0_f32 * 2.0 + 1.0).to_le_bytes());
}
