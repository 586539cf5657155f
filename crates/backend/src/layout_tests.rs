//! Batches of three requests of different lengths, joined and cut again.

use std::sync::mpsc;

use nereid_inference::{Answer, Responder, ResponseSink, Times, push_bytes_element};

use super::*;

struct Channel(mpsc::Sender<Answer>);

impl ResponseSink for Channel {
    fn deliver(&mut self, answer: Answer, _: &Times) {
        self.0.send(answer).unwrap();
    }
}

/// A model with one ragged input, whatever `more` asks for, and an output.
fn layout(more: &str) -> BatchLayout {
    let text = format!(
        r#"
        max_batch_size: 8
        input [ {{ name: "IN" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }} ]
        output [ {{ name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }} ]
        {more}"#
    );
    BatchLayout::new(&nereid_model_config::parse(&text, "config.pbtxt".as_ref()).unwrap())
}

/// Requests for inputs of these shapes, and where their answers arrive.
fn requests(shapes: &[[i64; 2]]) -> (Vec<Request>, Vec<mpsc::Receiver<Answer>>) {
    let request = |shape: &[i64; 2]| {
        let (sender, answers) = mpsc::channel();
        let mut request = Request::new("m", None, Responder::new(Box::new(Channel(sender))));
        request.batch_size = shape[0] as usize;
        let elements = (shape[0] * shape[1]) as usize;
        let data: Vec<u8> = (0..elements).flat_map(|n| (n as f32).to_le_bytes()).collect();
        let (name, shape) = ("IN".to_owned(), shape.to_vec());
        request.inputs = vec![Tensor { name, datatype: DataType::Fp32, shape, data: data.into() }];
        (request, answers)
    };
    shapes.iter().map(request).unzip()
}

fn described(kind: &str, datatype: &str, shapes: &[[i64; 2]]) -> (Vec<i64>, Vec<i64>) {
    let layout = layout(&format!(
        r#"batch_input [ {{
            kind: {kind} target_name: "ABOUT" data_type: TYPE_{datatype} source_input: "IN"
        }} ]"#
    ));
    let gathered = layout.gather(&requests(shapes).0).unwrap();
    let input = gathered.iter().find(|input| input.name == "ABOUT").unwrap();
    let number = |bytes: &[u8]| {
        let bytes = bytes.try_into().unwrap();
        let real = input.datatype == DataType::Fp32;
        if real { f32::from_le_bytes(bytes) as i64 } else { i32::from_le_bytes(bytes).into() }
    };
    (input.shape.clone(), input.data.chunks(4).map(number).collect())
}

const SHAPES: [[i64; 2]; 3] = [[1, 3], [2, 4], [1, 5]];

#[test]
fn ragged_inputs_become_one_row_of_elements() {
    let gathered = layout("").gather(&requests(&SHAPES).0).unwrap();
    assert_eq!((gathered[0].shape.as_slice(), gathered[0].data.len()), ([16].as_slice(), 64));
    let single = layout("").gather(&requests(&[[2, 4]]).0).unwrap();
    assert_eq!(single[0].shape, [8], "also where there is only one");
}

#[test]
fn batch_inputs_of_all_kinds() {
    let int = |kind: &str| described(kind, "INT32", &SHAPES);
    assert_eq!(int("BATCH_ELEMENT_COUNT"), (vec![3], vec![3, 8, 5]));
    assert_eq!(int("BATCH_ACCUMULATED_ELEMENT_COUNT"), (vec![3], vec![3, 11, 16]));
    let with_zero = int("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO");
    assert_eq!(with_zero, (vec![4], vec![0, 3, 11, 16]));
    assert_eq!(int("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE").0, [8]);
    assert_eq!(int("BATCH_ITEM_SHAPE"), (vec![4, 1], vec![3, 4, 4, 5]));
    assert_eq!(int("BATCH_ITEM_SHAPE_FLATTEN"), (vec![4], vec![3, 4, 4, 5]));
    assert_eq!(described("BATCH_ELEMENT_COUNT", "FP32", &SHAPES).1, [3, 8, 5]);
}

const SCATTERED: &str = r#"
    batch_output [ {
        kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "OUT" source_input: "IN"
    } ]"#;

/// The shapes and sizes of the answers to requests of these shapes.
fn answers(
    layout: &BatchLayout,
    shapes: &[[i64; 2]],
    output: Tensor,
) -> Vec<Option<(Vec<i64>, usize)>> {
    let (requests, answers) = requests(shapes);
    layout.scatter(Batch::unowned(requests), vec![output]);
    let answer = |answers: mpsc::Receiver<Answer>| {
        let response = answers.recv().unwrap().response.unwrap().ok()?;
        let output = &response.outputs[0];
        Some((output.shape.clone(), output.data.len()))
    };
    answers.into_iter().map(answer).collect()
}

fn output(shape: &[i64], datatype: DataType, data: Vec<u8>) -> Tensor {
    Tensor { name: "OUT".into(), datatype, shape: shape.to_vec(), data: data.into() }
}

#[test]
fn outputs_are_cut_by_rows_or_by_the_shapes_of_inputs() {
    let rows = output(&[4, 2], DataType::Fp32, vec![0; 32]);
    let by_rows = [(vec![1, 2], 8), (vec![2, 2], 16), (vec![1, 2], 8)].map(Some);
    assert_eq!(answers(&layout(""), &SHAPES, rows), by_rows);
    let whole = || output(&[16], DataType::Fp32, vec![0; 64]);
    let by_shape = [(vec![1, 3], 12), (vec![2, 4], 32), (vec![1, 5], 20)].map(Some);
    assert_eq!(answers(&layout(SCATTERED), &SHAPES, whole()), by_shape);
    let single = answers(&layout(SCATTERED), &[[4, 4]], whole());
    assert_eq!(single, [Some((vec![4, 4], 64))], "also where there is only one");
}

#[test]
fn strings_are_cut_between_elements() {
    let mut data = Vec::new();
    for text in ["a", "", "bcd", "ef"] {
        push_bytes_element(&mut data, text.as_bytes());
    }
    let strings = output(&[4, 1], DataType::Bytes, data);
    let pieces = [(vec![1, 1], 5), (vec![2, 1], 11), (vec![1, 1], 6)].map(Some);
    assert_eq!(answers(&layout(""), &SHAPES, strings), pieces);
}

#[test]
fn an_output_of_another_size_is_everybodys_error() {
    for elements in [15, 17] {
        let wrong = output(&[elements], DataType::Fp32, vec![0; 4 * elements as usize]);
        assert_eq!(answers(&layout(SCATTERED), &SHAPES, wrong), [None, None, None]);
    }
    let rows = output(&[5, 2], DataType::Fp32, vec![0; 40]);
    assert_eq!(answers(&layout(""), &SHAPES, rows), [None, None, None]);
}
