//! `ModelInfer`: one request, one response.

use std::sync::Arc;

use nereid_frontend::Delivery;
use nereid_inference::{Error, Parameters, Request, Result, Trace};
use nereid_protocol::parse_version;

use crate::decode::decode;
use crate::encode::encode;
use crate::proto::{ModelInferRequest, ModelInferResponse};
use crate::service::App;
use crate::trace::Beginning;

/// First stop of a request, decoding, and with the answer the last one, encoding. Dropped when the
/// client hangs up, which cancels the request.
pub(crate) async fn infer(
    app: &App,
    message: ModelInferRequest,
    forwarded: Result<Parameters>,
    beginning: Beginning,
) -> Result<ModelInferResponse> {
    app.pulse.beat();
    let version = parse_version(&message.model_version)?;
    let model = app.lifecycle.model(&message.model_name, version).await?;
    if model.config.decoupled() {
        return Err(Error::unsupported(
            "ModelInfer RPC doesn't support models with decoupled transaction policy",
        ));
    }
    let name = message.model_name.clone();
    let mut request = decode(&model.config, message)?.request;
    request.parameters.extend(forwarded?);
    let delivery = Delivery::prepare(&app.regions, &model, &mut request)?;
    let id = request.id.clone();
    let trace = beginning.trace(app, &name);
    let call = model.call(|responder| {
        let trace = trace.clone().map(|trace| trace as Arc<dyn Trace>);
        Request { trace, ..request.into_request(name, version, responder) }
    });
    let response = call.outcome().await.response;
    let Some(trace) = trace else { return encode(id, response?, &delivery) };
    trace.send_starts();
    let encoded = response.and_then(|response| encode(id, response, &delivery));
    trace.sent();
    encoded
}
