//! What becomes of answers on their way to the client.

use tokio_stream::StreamExt as _;

use super::*;

fn asked() -> Asked {
    Asked { id: "7".into(), model: "m".into(), version: String::new() }
}

/// The parts of a stream behind its reader.
fn answers(close_on_error: bool) -> (Outlet, Answers) {
    let (events, receiver) = mpsc::unbounded_channel();
    let backlog = Arc::new(Backlog::default());
    let cancellation = Cancellation::default();
    let (events, order) = (Outlet { events, backlog: backlog.clone() }, Order::default());
    (events, Answers { events: receiver, backlog, order, end: None, close_on_error, cancellation })
}

fn collect(answers: Answers) -> Vec<Result<ModelStreamInferResponse, Status>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(answers.collect())
}

/// What a decoupled model's answers look like: error, final, outputs.
fn told(empty_final: bool, model: impl FnOnce(Responder)) -> Vec<(String, Option<bool>, usize)> {
    let (events, answers) = answers(false);
    model(Responder::new(Box::new(Responses {
        asked: asked(),
        delivery: Delivery::default(),
        empty_final,
        events,
        cancellation: Cancellation::default(),
    })));
    let messages = collect(answers).into_iter().map(|message| message.unwrap());
    messages
        .map(|message| {
            let response = message.infer_response.unwrap();
            assert_eq!(response.id, "7");
            let last = response
                .parameters
                .get(FINAL)
                .map(|last| *last == to_message(Parameter::Bool(true)));
            (message.error_message, last, response.raw_output_contents.len())
        })
        .collect()
}

fn queued(mut responder: Responder) -> Responder {
    responder.times.queued = Some(std::time::Instant::now());
    responder
}

fn one_output() -> Result<Response> {
    let data = Vec::new().into();
    let datatype = nereid_inference::DataType::Int8;
    let output = nereid_inference::Tensor { name: "O".into(), datatype, shape: vec![0], data };
    Ok(Response::new(vec![output]))
}

#[test]
fn the_end_of_a_decoupled_model_is_told_with_the_last_response_or_on_demand() {
    let apart = |responder: Responder| {
        let mut responder = queued(responder);
        responder.send(one_output());
        responder.finish();
    };
    let data = (String::new(), Some(false), 1);
    assert_eq!(told(false, apart), std::slice::from_ref(&data));
    assert_eq!(told(true, apart), [data, (String::new(), Some(true), 0)]);
    let together = |responder: Responder| queued(responder).answer(one_output());
    assert_eq!(told(true, together), [(String::new(), Some(true), 1)]);
}

#[test]
fn only_errors_of_the_model_are_final() {
    let error = || Err(Error::internal("boom"));
    assert_eq!(told(false, |r| queued(r).answer(error())), [("boom".into(), Some(true), 0)]);
    assert_eq!(told(false, |r| r.answer(error())), [("boom".into(), None, 0)]);
}

#[test]
fn a_stream_ends_after_the_last_answer() {
    let (sender, answers) = answers(false);
    sender.end(Status::unavailable("stop"));
    assert!(sender.answer(Some(0), asked().last()));
    drop(sender);
    let all = collect(answers);
    assert!(all[0].is_ok());
    assert_eq!(all[1].as_ref().unwrap_err().message(), "stop");
}

#[test]
fn an_error_closes_the_stream_on_demand() {
    let (sender, answers) = answers(true);
    let answer = asked().refusal(Error::not_found("nobody"));
    assert!(sender.answer(None, answer));
    drop(sender);
    let all = collect(answers);
    assert_eq!(all[0].as_ref().unwrap_err().code(), tonic::Code::NotFound);
}

#[test]
fn hanging_up_cancels() {
    let (_sender, answers) = answers(false);
    let cancellation = answers.cancellation.clone();
    assert!(!cancellation.is_cancelled());
    drop(answers);
    assert!(cancellation.is_cancelled());
}

#[test]
fn a_model_whose_answers_nobody_reads_is_stopped() {
    let (events, answers) = answers(false);
    let cancellation = answers.cancellation.clone();
    let chunk = bytes::Bytes::from(vec![0; 64 << 20]);
    let mut responder = queued(Responder::new(Box::new(Responses {
        asked: asked(),
        delivery: Delivery::default(),
        empty_final: false,
        events,
        cancellation: cancellation.clone(),
    })));
    let mut sent = 0;
    while !cancellation.is_cancelled() && sent < 100 {
        let mut response = one_output().unwrap();
        // The same memory again and again.
        response.outputs[0].data = chunk.clone().into();
        responder.send(Ok(response));
        sent += 1;
    }
    responder.finish();
    assert!((16..=17).contains(&sent), "{sent}");
    let all = collect(answers);
    assert_eq!(all.len(), sent + 1);
    assert_eq!(all[sent].as_ref().unwrap_err().code(), tonic::Code::ResourceExhausted);
}
