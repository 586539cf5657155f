//! Platforms, the old way to name a backend, and the files that backends expect.

/// The platform of ensembles, which no backend runs.
pub(crate) const ENSEMBLE: &str = "ensemble";

struct Known {
    backend: &'static str,
    /// The platform of models that name the backend; empty if it has none.
    platform: &'static str,
    file: &'static str,
}

static KNOWN: [Known; 7] = [
    Known { backend: "onnxruntime", platform: "onnxruntime_onnx", file: "model.onnx" },
    Known { backend: "pytorch", platform: "pytorch_libtorch", file: "model.pt" },
    Known { backend: "tensorrt", platform: "tensorrt_plan", file: "model.plan" },
    Known { backend: "tensorflow", platform: "tensorflow_savedmodel", file: "model.savedmodel" },
    Known { backend: "tensorflow", platform: "tensorflow_graphdef", file: "model.graphdef" },
    Known { backend: "openvino", platform: "", file: "model.xml" },
    Known { backend: "python", platform: "", file: "model.py" },
];

pub(crate) fn backend_of_platform(platform: &str) -> Option<&'static str> {
    let named = |known: &&Known| !platform.is_empty() && known.platform == platform;
    KNOWN.iter().find(named).map(|known| known.backend)
}

/// The backend for a file's extension, whatever the file itself is called.
pub(crate) fn backend_of_file(file: &str) -> Option<&'static str> {
    let extension = |file: &str| file.rsplit_once('.').map(|(_, extension)| extension.to_owned());
    let wanted = extension(file)?;
    KNOWN.iter().find(|known| extension(known.file).as_ref() == Some(&wanted)).map(|k| k.backend)
}

/// The platform that a backend's models report; `None` where there is none or a choice.
pub(crate) fn platform_of_backend(backend: &str) -> Option<&'static str> {
    only(backend).map(|known| known.platform).filter(|platform| !platform.is_empty())
}

/// The file of a model that names none.
pub(crate) fn file_of(backend: &str, platform: &str) -> Option<&'static str> {
    let exact = KNOWN.iter().find(|k| k.backend == backend && k.platform == platform);
    exact.or_else(|| only(backend)).map(|known| known.file)
}

/// The entry of a backend that has just one.
fn only(backend: &str) -> Option<&'static Known> {
    let mut of_backend = KNOWN.iter().filter(|known| known.backend == backend);
    let first = of_backend.next()?;
    of_backend.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_backends_and_files_lead_to_each_other() {
        assert_eq!(backend_of_platform("onnxruntime_onnx"), Some("onnxruntime"));
        assert_eq!(backend_of_platform(""), None);
        assert_eq!(backend_of_file("x.y.onnx"), Some("onnxruntime"));
        assert_eq!(backend_of_file("model"), None);
        assert_eq!(platform_of_backend("pytorch"), Some("pytorch_libtorch"));
        assert_eq!(platform_of_backend("tensorflow"), None);
        assert_eq!(platform_of_backend("python"), None);
        assert_eq!(file_of("python", "onnxruntime_onnx"), Some("model.py"));
        assert_eq!(file_of("tensorflow", "tensorflow_graphdef"), Some("model.graphdef"));
        assert_eq!(file_of("tensorflow", ""), None);
    }
}
