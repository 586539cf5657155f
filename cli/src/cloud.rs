//! Flags about what cloud vendors ask of a server, and what they say in its environment.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use nereid_frontend::Access;
use nereid_http::{Cloud, DefaultModel, SageMaker, Service, VertexAi};

use crate::flags::boolean;

#[derive(Args, Debug)]
pub(crate) struct CloudFlags {
    /// Serve SageMaker: `/ping`, `/invocations` and `/models`.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) allow_sagemaker: bool,
    /// Port for SageMaker; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    pub(crate) sagemaker_port: u16,
    /// `<first>-<last>`: ports that the other services may have, if SageMaker is served.
    #[arg(long, value_name = "RANGE", value_parser = range)]
    sagemaker_safe_port_range: Option<(u16, u16)>,
    /// Where models must lie that SageMaker may load. (Not in Triton.)
    #[arg(long, default_value = "/opt/ml/models", value_name = "PATH")]
    sagemaker_model_directory: PathBuf,
    /// Serve Vertex AI; true, without HTTP and gRPC, if `AIP_MODE` is `PREDICTION`.
    #[arg(long, value_parser = boolean)]
    allow_vertex_ai: Option<bool>,
    /// Port for Vertex AI, 0 takes a free one; `AIP_HTTP_PORT`, or else 8080.
    #[arg(long)]
    vertex_ai_port: Option<u16>,
    /// The model that Vertex AI asks; the only one if none is named.
    #[arg(long, value_name = "MODEL")]
    vertex_ai_default_model: Option<String>,
}

impl CloudFlags {
    pub(crate) fn sagemaker(&self, access: &Access) -> Result<Option<Service>, String> {
        if !self.allow_sagemaker {
            return Ok(None);
        }
        let folder = self.sagemaker_model_directory.clone();
        let service = SageMaker::new(variable, folder, access.clone())?;
        Ok(Some(Service::Cloud(Cloud::SageMaker(service))))
    }

    /// Refuses a port of another service that SageMaker does not allow.
    pub(crate) fn allows_port(&self, service: &str, port: u16) -> Result<(), String> {
        match self.sagemaker_safe_port_range {
            Some((first, last)) if self.allow_sagemaker && !(first..=last).contains(&port) => {
                Err(format!(
                    "The server cannot listen to {service} requests at port {port}, allowed port \
                     range is [{first}, {last}]"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Whether Vertex AI runs this server: then the usual protocols are off unless asked for.
    pub(crate) fn is_in_vertex_ai() -> bool {
        variable("AIP_MODE").is_some_and(|mode| mode == "PREDICTION")
    }

    pub(crate) fn vertex_ai(&self) -> Result<Option<(Service, DefaultModel)>, String> {
        if !self.allow_vertex_ai.unwrap_or_else(Self::is_in_vertex_ai) {
            return Ok(None);
        }
        let (service, model) = VertexAi::new(variable, self.vertex_ai_default_model.clone())?;
        Ok(Some((Service::Cloud(Cloud::VertexAi(service)), model)))
    }

    pub(crate) fn vertex_ai_port(&self) -> Result<u16, String> {
        let given = self.vertex_ai_port.map(Ok).or_else(|| {
            let port = variable("AIP_HTTP_PORT")?;
            Some(port.parse().map_err(|_| format!("AIP_HTTP_PORT is no port: '{port}'")))
        });
        given.unwrap_or(Ok(8080))
    }
}

/// Where Vertex AI has put the models, if nobody names another place.
pub(crate) fn storage() -> Option<String> {
    variable("AIP_STORAGE_URI").filter(|uri| !uri.is_empty())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let ports = text.split_once('-').and_then(|(first, last)| {
        let port = |text: &str| text.trim().parse::<u16>().ok();
        port(first).zip(port(last)).filter(|(first, last)| first <= last)
    });
    ports.ok_or_else(|| "expected <first port>-<last port>".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range("8000-8010"), Ok((8000, 8010)));
        for wrong in ["8000", "8010-8000", "a-b", "1-70000", "-1--1"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
