//! What the decoupled backends share: requests that are answered bit by bit on the reactor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nereid_backend::Host;
use nereid_inference::{Buffer, DataType, Error, Request, Response, Result, Tensor};
use nereid_model_config::ModelConfig;

/// Where answers are given from.
#[derive(Clone)]
pub(crate) struct Desk {
    reactor: tokio::runtime::Handle,
    /// Tells the server that there is still something to answer.
    alive: Arc<()>,
    /// Of an output with one element.
    shape: Vec<i64>,
}

impl Desk {
    pub(crate) fn new(host: &Host, config: &ModelConfig, backend: &str) -> Result<Self> {
        if !config.decoupled() {
            return Err(Error::invalid_arg(format!(
                "models of the backend '{backend}' must set model_transaction_policy {{ \
                 decoupled: true }}"
            )));
        }
        let shape = vec![1; 1 + usize::from(config.batches())];
        Ok(Self { reactor: host.reactor.clone(), alive: host.alive.clone(), shape })
    }

    /// Goes on with `work` once whoever calls has returned.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let alive = self.alive.clone();
        self.reactor.spawn(async move {
            work.await;
            drop(alive);
        });
    }

    /// An output with one element of four bytes.
    pub(crate) fn element(&self, name: &str, datatype: DataType, element: [u8; 4]) -> Tensor {
        let data = Buffer::from(element.to_vec());
        Tensor { name: name.to_owned(), datatype, shape: self.shape.clone(), data }
    }
}

/// Sends one of several responses: what of `outputs` was asked for.
pub(crate) async fn send(request: &mut Request, mut outputs: Vec<Tensor>) {
    if let Some(window) = &request.window {
        window.room().await;
    }
    outputs.retain(|output| request.wants(&output.name));
    request.responder.times.computed.get_or_insert_with(Instant::now);
    request.responder.send(Ok(Response::new(outputs)));
}

/// Sleeps, unless there is nothing to sleep for.
pub(crate) async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// The elements of an input of four-byte elements.
pub(crate) fn elements(request: &Request, name: &str, datatype: DataType) -> Result<Vec<[u8; 4]>> {
    let input =
        request.input(name).filter(|input| input.datatype == datatype).ok_or_else(|| {
            Error::invalid_arg(format!("the model must have an input '{name}' of type {datatype}"))
        })?;
    let data = input.data.contiguous();
    Ok(data.chunks_exact(4).map(|chunk| [chunk[0], chunk[1], chunk[2], chunk[3]]).collect())
}
