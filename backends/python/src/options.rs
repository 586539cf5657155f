//! What a model's configuration and the backend's settings say about its workers.

use std::time::Duration;

use nereid_backend::ModelSource;
use nereid_inference::{Error, Result};

const FORCE_CPU_INPUTS: &str = "FORCE_CPU_ONLY_INPUT_TENSORS";

/// How the workers of a model are run. A model's `parameters` go before the backend's settings.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `EXECUTE_THREADS`: how many batches an instance executes at a time, in threads of its own
    /// (or as tasks of its event loop).
    pub(crate) threads: usize,
    /// `EXECUTE_TIMEOUT_SECONDS`, `execute-timeout-seconds`: a worker that does not return from
    /// `execute` for so long is ended and started again.
    pub(crate) execute_limit: Option<Duration>,
    /// `INITIALIZE_TIMEOUT_SECONDS`, `initialize-timeout-seconds`: as long as a worker may take to
    /// be ready.
    pub(crate) initialize_limit: Option<Duration>,
    /// `FORCE_CPU_ONLY_INPUT_TENSORS: "no"`: inputs may lie in the memory of GPUs.
    pub(crate) device_inputs: bool,
}

impl Options {
    pub(crate) fn read(source: &ModelSource) -> Result<Self> {
        let threads = source.config.number_parameter("EXECUTE_THREADS")?.unwrap_or(1);
        if !(1..=1024).contains(&threads) {
            return Err(Error::invalid_arg(format!(
                "model '{}': parameter 'EXECUTE_THREADS' must be between 1 and 1024, got {threads}",
                source.name
            )));
        }
        Ok(Self {
            threads,
            execute_limit: seconds(source, "EXECUTE_TIMEOUT_SECONDS", "execute-timeout-seconds")?,
            initialize_limit: seconds(
                source,
                "INITIALIZE_TIMEOUT_SECONDS",
                "initialize-timeout-seconds",
            )?,
            device_inputs: source.config.parameter(FORCE_CPU_INPUTS) == Some("no"),
        })
    }
}

/// A time from a model's parameter or a setting of the backend; 0 stands for no limit.
fn seconds(source: &ModelSource, parameter: &str, setting: &str) -> Result<Option<Duration>> {
    let (name, text) = match (source.config.parameter(parameter), source.setting(setting)) {
        (Some(text), _) => (parameter, text),
        (None, Some(text)) => (setting, text),
        (None, None) => return Ok(None),
    };
    let seconds = text.trim().parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    match seconds {
        Some(limit) => Ok(Some(limit).filter(|limit| !limit.is_zero())),
        None => Err(Error::invalid_arg(format!(
            "model '{}': '{name}' must be a number of seconds, got '{text}'",
            source.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nereid_model_config::{ModelConfig, ModelParameter};

    use super::*;

    fn read(parameters: &[(&str, &str)], settings: &[(&str, &str)]) -> Result<Options> {
        let parameters = parameters.iter().map(|&(key, value)| {
            (key.to_owned(), ModelParameter { string_value: value.to_owned() })
        });
        Options::read(&ModelSource {
            name: "m".to_owned(),
            version: 1,
            model_dir: "m".into(),
            version_dir: "m/1".into(),
            config: Arc::new(ModelConfig {
                parameters: parameters.collect(),
                ..Default::default()
            }),
            settings: settings.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        })
    }

    #[test]
    fn a_model_decides_before_the_backend() {
        let limit = "execute-timeout-seconds";
        let read_limit = |parameters| read(parameters, &[(limit, "2")]).unwrap().execute_limit;
        assert_eq!(read_limit(&[]), Some(Duration::from_secs(2)));
        assert_eq!(
            read_limit(&[("EXECUTE_TIMEOUT_SECONDS", "0.5")]),
            Some(Duration::from_millis(500))
        );
        assert_eq!(read_limit(&[("EXECUTE_TIMEOUT_SECONDS", "0")]), None);
        assert_eq!(read(&[], &[]).unwrap().threads, 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for (key, value) in [
            ("EXECUTE_THREADS", "0"),
            ("EXECUTE_THREADS", "many"),
            ("EXECUTE_TIMEOUT_SECONDS", "-1"),
            ("INITIALIZE_TIMEOUT_SECONDS", "soon"),
        ] {
            let message = read(&[(key, value)], &[]).unwrap_err().message().to_owned();
            assert!(message.contains(key) && message.contains(value), "{message}");
        }
    }
}
