//! `ModelStreamInfer`: requests and responses, many at the same time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nereid_core::{ModelVersion, OnlyResponse, Outcome};
use nereid_frontend::{Backlog, Delivery};
use nereid_inference::{
    Answer, Cancellation, Error, Parameter, Parameters, Responder, Response, ResponseSink, Result,
    Times, Trace,
};
use nereid_protocol::parse_version;
use nereid_trace::Protocol;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::decode::{Decoded, decode};
use crate::encode::encode;
use crate::order::Order;
use crate::parameters::to_message;
use crate::proto::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use crate::service::App;
use crate::status::status;

const FINAL: &str = "triton_final_response";

/// What goes to the client's end of a stream.
enum Event {
    Answer {
        place: Option<u64>,
        answer: Box<Reply>,
    },
    /// No more requests will be read; this is how the stream ends after the last answer.
    End(Status),
}

/// One message, with the error in it if it is about one.
struct Reply {
    message: ModelStreamInferResponse,
    error: Option<Error>,
}

/// Starts reading `inbound`; the answers to what comes from there.
pub(crate) fn stream(
    app: App,
    stopping: watch::Receiver<bool>,
    inbound: Streaming<ModelInferRequest>,
    forwarded: Result<Parameters>,
    close_on_error: bool,
    parent: Option<String>,
) -> Answers {
    let (events, receiver) = mpsc::unbounded_channel();
    let cancellation = Cancellation::default();
    let backlog = Arc::new(Backlog::default());
    let events = Outlet { events, backlog: backlog.clone() };
    let of_all = cancellation.clone();
    let reader = Reader { app, events, forwarded, cancellation: of_all, parent, places: 0 };
    tokio::spawn(reader.run(inbound, stopping));
    let order = Order::default();
    Answers { events: receiver, backlog, order, end: None, close_on_error, cancellation }
}

/// Hands the requests of one stream to their models. A task of its own: a client may send all its
/// requests before it reads the first answer.
struct Reader {
    app: App,
    events: Outlet,
    /// What every request says beyond its own parameters.
    forwarded: Result<Parameters>,
    /// Of all requests of the stream.
    cancellation: Cancellation,
    /// The trace that the stream belongs to already.
    parent: Option<String>,
    /// How many places in the order of answers have been given away.
    places: u64,
}

impl Reader {
    async fn run(
        mut self,
        mut inbound: Streaming<ModelInferRequest>,
        mut stopping: watch::Receiver<bool>,
    ) {
        loop {
            let message = tokio::select! {
                message = async {
                    self.events.backlog.room().await;
                    inbound.message().await
                } => message,
                _ = stopping.wait_for(|stopping| *stopping) => Err(Status::unavailable(
                    "GRPC server is shutting down and has stopped accepting new requests.",
                )),
                () = self.events.events.closed() => return,
            };
            match message {
                Ok(Some(message)) => self.submit(message).await,
                Ok(None) => return,
                Err(status) => {
                    return self.events.end(status);
                }
            }
        }
    }

    async fn submit(&mut self, message: ModelInferRequest) {
        self.app.pulse.beat();
        let began = self.app.tracer.began();
        let asked = Asked {
            id: message.id.clone(),
            model: message.model_name.clone(),
            version: message.model_version.clone(),
        };
        let Taken { model, version, decoded, delivery } = match self.take(message).await {
            Ok(taken) => taken,
            Err(error) => return self.refuse(asked, error),
        };
        let name = asked.model.clone();
        let trace = self.app.tracer.start(began, Protocol::Grpc, &name, self.parent.as_deref());
        let responder = if model.config.decoupled() {
            let (events, empty_final) = (self.events.clone(), decoded.empty_final);
            let cancellation = self.cancellation.clone();
            Responder::new(Box::new(Responses {
                asked,
                delivery,
                empty_final,
                events,
                cancellation,
            }))
        } else {
            self.only_response(asked, delivery)
        };
        let mut request = decoded.request.into_request(name, version, responder);
        request.cancellation = self.cancellation.clone();
        request.trace = trace.map(|trace| trace as Arc<dyn Trace>);
        model.submit(request);
    }

    async fn take(&self, message: ModelInferRequest) -> Result<Taken> {
        let version = parse_version(&message.model_version)?;
        let model = self.app.lifecycle.model(&message.model_name, version).await?;
        let mut decoded = decode(&model.config, message)?;
        decoded.request.parameters.extend(self.forwarded.clone()?);
        let delivery = Delivery::prepare(&self.app.regions, &model, &mut decoded.request)?;
        Ok(Taken { model, version, decoded, delivery })
    }

    /// For a model that gives exactly one response, in the order of the requests.
    fn only_response(&mut self, asked: Asked, delivery: Delivery) -> Responder {
        let events = self.events.clone();
        let place = self.place();
        Responder::new(Box::new(OnlyResponse::new(move |outcome| {
            let Outcome { response, refused } = outcome;
            let answer = match response {
                Err(error) if refused => asked.refusal(error),
                response => asked.reply(response, true, &delivery),
            };
            events.answer(place, answer);
        })))
    }

    fn refuse(&mut self, asked: Asked, error: Error) {
        let place = self.place();
        self.events.answer(place, asked.refusal(error));
    }

    fn place(&mut self) -> Option<u64> {
        self.places += 1;
        Some(self.places - 1)
    }
}

/// A request that has been read.
struct Taken {
    model: Arc<ModelVersion>,
    version: Option<i64>,
    decoded: Decoded,
    delivery: Delivery,
}

/// Where the responses of a decoupled model go: out as they come.
struct Responses {
    asked: Asked,
    delivery: Delivery,
    empty_final: bool,
    events: Outlet,
    /// Of all requests of the stream.
    cancellation: Cancellation,
}

impl ResponseSink for Responses {
    fn deliver(&mut self, Answer { response, last }: Answer, times: &Times) {
        let answer = match response {
            // It never joined a queue.
            Some(Err(error)) if times.queued.is_none() => self.asked.refusal(error),
            Some(response) => self.asked.reply(response, last, &self.delivery),
            None if self.empty_final => self.asked.last(),
            None => return,
        };
        // These may go on forever, so somebody has to read them.
        if self.cancellation.is_cancelled() || self.events.answer(None, answer) {
            return;
        }
        self.cancellation.cancel();
        let message = "the client does not read the answers of its stream";
        self.events.end(Status::resource_exhausted(message));
    }
}

/// Where answers go out.
#[derive(Clone)]
struct Outlet {
    events: mpsc::UnboundedSender<Event>,
    backlog: Arc<Backlog>,
}

impl Outlet {
    /// Sends an answer; `false` if too many wait already.
    fn answer(&self, place: Option<u64>, answer: Box<Reply>) -> bool {
        let good = self.backlog.add(answer.size());
        // The receiver is gone if the client has hung up.
        let _ = self.events.send(Event::Answer { place, answer });
        good
    }

    fn end(&self, status: Status) {
        let _ = self.events.send(Event::End(status));
    }
}

/// What a request said about itself, for the answers to it.
struct Asked {
    id: String,
    model: String,
    version: String,
}

impl Asked {
    /// A response of the model, or its error.
    fn reply(&self, response: Result<Response>, last: bool, delivery: &Delivery) -> Box<Reply> {
        let encoded = response.and_then(|response| encode(self.id.clone(), response, delivery));
        let mut reply = match encoded {
            Ok(response) => Reply::good(response),
            Err(error) => Reply::error(error, self.about()),
        };
        if let Some(response) = &mut reply.message.infer_response {
            response.parameters.insert(FINAL.to_owned(), to_message(Parameter::Bool(last)));
        }
        reply
    }

    /// There was something wrong with the request.
    fn refusal(&self, error: Error) -> Box<Reply> {
        let id = self.id.clone();
        Reply::error(error, ModelInferResponse { id, ..ModelInferResponse::default() })
    }

    /// No more responses.
    fn last(&self) -> Box<Reply> {
        let mut response = self.about();
        response.parameters.insert(FINAL.to_owned(), to_message(Parameter::Bool(true)));
        Reply::good(response)
    }

    fn about(&self) -> ModelInferResponse {
        ModelInferResponse {
            id: self.id.clone(),
            model_name: self.model.clone(),
            model_version: self.version.clone(),
            ..ModelInferResponse::default()
        }
    }
}

impl Reply {
    /// About how many bytes it takes while it waits.
    fn size(&self) -> usize {
        let contents = self.message.infer_response.iter().flat_map(|r| &r.raw_output_contents);
        256 + contents.map(|content| content.len()).sum::<usize>()
    }

    fn good(response: ModelInferResponse) -> Box<Self> {
        let error_message = String::new();
        let message = ModelStreamInferResponse { error_message, infer_response: Some(response) };
        Box::new(Self { message, error: None })
    }

    fn error(error: Error, about: ModelInferResponse) -> Box<Self> {
        let error_message = error.message().to_owned();
        let message = ModelStreamInferResponse { error_message, infer_response: Some(about) };
        Box::new(Self { message, error: Some(error) })
    }
}

/// The answers to the requests of one stream. Dropping it, since the client has hung up, cancels
/// what is still running.
pub(crate) struct Answers {
    events: mpsc::UnboundedReceiver<Event>,
    backlog: Arc<Backlog>,
    order: Order<Box<Reply>>,
    end: Option<Status>,
    /// The first error ends the stream with its status instead of being told in a message.
    close_on_error: bool,
    cancellation: Cancellation,
}

impl Stream for Answers {
    type Item = Result<ModelStreamInferResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(reply) = self.order.pop() {
                self.backlog.remove(reply.size());
                return Poll::Ready(Some(match reply.error {
                    // The stream is dropped after a status.
                    Some(error) if self.close_on_error => Err(status(&error)),
                    _ => Ok(reply.message),
                }));
            }
            match ready!(self.events.poll_recv(context)) {
                Some(Event::Answer { place, answer }) => self.order.push(place, answer),
                Some(Event::End(status)) => self.end = Some(status),
                // Nobody is left who could answer.
                None => return Poll::Ready(self.end.take().map(Err)),
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.cancellation.cancel();
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
