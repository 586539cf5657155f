//! States of sequences, with a model that the test plays.

use std::sync::mpsc;

use nereid_inference::{DataType, Responder};

use super::*;

const CONFIG: &str = r#"
    max_batch_size: 2
    output [ { name: "SEEN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    sequence_batching {
      state [
        { input_name: "A" output_name: "SEEN" data_type: TYPE_INT32 dims: [ 1 ] },
        { input_name: "B" output_name: "HIDDEN" data_type: TYPE_INT32 dims: [ -1 ]
          initial_state { name: "from file" data_type: TYPE_INT32 dims: [ 2 ] data_file: "b" } }
      ]
    }"#;

struct Channel(mpsc::Sender<Answer>);

impl ResponseSink for Channel {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        self.0.send(answer).unwrap();
    }
}

struct Rig {
    states: States,
    sender: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("initial_state")).unwrap();
        std::fs::write(folder.path().join("initial_state/b"), [1, 0, 0, 0, 2, 0, 0, 0]).unwrap();
        let config = nereid_model_config::parse(CONFIG, "config.pbtxt".as_ref()).unwrap();
        let states = States::new(&config, folder.path()).unwrap().unwrap();
        let (sender, answers) = mpsc::channel();
        Self { states, sender, answers }
    }

    /// A request of sequence 1 as the model sees it: with its states.
    fn request(&self, flags: u32, outputs: &[&str]) -> Request {
        let responder = Responder::new(Box::new(Channel(self.sender.clone())));
        let mut request = Request::new("m", None, responder);
        request.flags = flags;
        request.requested_outputs = outputs.iter().map(|&name| name.to_owned()).collect();
        self.states.add(&mut request, 1);
        request
    }

    /// Names of the outputs that the client gets, or the error.
    fn answered(&self) -> Vec<String> {
        match self.answers.try_recv().unwrap().response.unwrap() {
            Ok(response) => response.outputs.into_iter().map(|output| output.name).collect(),
            Err(error) => vec![error.to_string()],
        }
    }
}

fn output(name: &str, value: i32) -> Tensor {
    let data = value.to_le_bytes().to_vec().into();
    Tensor { name: name.into(), datatype: DataType::Int32, shape: vec![1, 1], data }
}

fn model_answer(seen: i32, hidden: i32) -> Result<Response> {
    Ok(Response::new(vec![output("SEEN", seen), output("HIDDEN", hidden)]))
}

fn inputs(request: &Request) -> Vec<(String, Vec<i32>)> {
    let values = |tensor: &Tensor| {
        let bytes = tensor.data.contiguous();
        bytes.chunks(4).map(|four| i32::from_le_bytes(four.try_into().unwrap())).collect()
    };
    request.inputs.iter().map(|input| (input.name.clone(), values(input))).collect()
}

fn expect(a: &[i32], b: &[i32]) -> Vec<(String, Vec<i32>)> {
    vec![("A".into(), a.to_vec()), ("B".into(), b.to_vec())]
}

#[test]
fn outputs_of_one_request_are_inputs_of_the_next() {
    let rig = Rig::new();
    let first = rig.request(SEQUENCE_START, &[]);
    assert_eq!(inputs(&first), expect(&[0], &[1, 2]), "zeros, and what the file holds");
    first.responder.answer(model_answer(5, 6));
    assert_eq!(rig.answered(), ["SEEN"], "only what is an output of the model");
    let second = rig.request(0, &[]);
    assert_eq!(inputs(&second), expect(&[5], &[6]));
    second.responder.answer(Err(Error::internal("no")));
    let third = rig.request(SEQUENCE_END, &[]);
    assert_eq!(inputs(&third), expect(&[5], &[6]), "an error changes nothing");
    third.responder.answer(model_answer(7, 8));
    assert!(rig.states.kept.lock().is_empty(), "an ended sequence has no state");
    let anew = rig.request(SEQUENCE_START, &[]);
    assert_eq!(inputs(&anew), expect(&[0], &[1, 2]));
}

#[test]
fn clients_get_the_outputs_that_they_ask_for() {
    let rig = Rig::new();
    let request = rig.request(SEQUENCE_START, &["OTHER"]);
    assert_eq!(request.requested_outputs, ["OTHER", "SEEN", "HIDDEN"]);
    let mut response = model_answer(1, 2).unwrap();
    response.outputs.push(output("OTHER", 3));
    request.responder.answer(Ok(response));
    assert_eq!(rig.answered(), ["OTHER"]);
}

#[test]
fn a_state_that_the_model_does_not_give_is_an_error() {
    let rig = Rig::new();
    let request = rig.request(SEQUENCE_START, &[]);
    request.responder.answer(Ok(Response::new(vec![output("SEEN", 1)])));
    let text = "Internal: the model gave no output 'HIDDEN', which is to become its state 'B'";
    assert_eq!(rig.answered(), [text]);
}

#[test]
fn a_lost_sequence_leaves_nothing_behind() {
    let rig = Rig::new();
    let running = rig.request(SEQUENCE_START, &[]);
    rig.states.forget(&[1]);
    running.responder.answer(model_answer(1, 2));
    assert!(rig.states.kept.lock().is_empty());
}
