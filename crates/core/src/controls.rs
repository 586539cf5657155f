//! Control inputs: the tensors that tell a model where in its sequence a request stands.

use bytes::Bytes;
use nereid_inference::{
    Answer, CorrelationId, DataType, Request, Responder, ResponseSink, SEQUENCE_END,
    SEQUENCE_START, Tensor, Times, push_bytes_element,
};
use nereid_model_config::ModelConfig;
use nereid_model_config::proto::model_sequence_batching::{Control, control::Kind};

/// The control inputs of a model.
pub(crate) struct Controls {
    signals: Vec<Signal>,
    /// Of every control input: one element, with a batch dimension where the model has one.
    shape: Vec<i64>,
}

struct Signal {
    tensor: String,
    kind: Kind,
    datatype: DataType,
    no: Bytes,
    yes: Bytes,
}

impl Controls {
    /// `None` where a model has no sequences.
    pub(crate) fn new(config: &ModelConfig) -> Option<Self> {
        let sequence = config.sequence_batching()?;
        let signals = sequence.control_input.iter().flat_map(|input| {
            input.control.iter().map(|control| Signal::new(input.name.clone(), control))
        });
        let shape = vec![1; 1 + usize::from(config.batches())];
        Some(Self { signals: signals.collect(), shape })
    }

    /// How many inputs [`Self::add`] adds.
    pub(crate) fn count(&self) -> usize {
        self.signals.len()
    }

    /// Adds its control inputs to a request of a sequence.
    pub(crate) fn add(&self, request: &mut Request) {
        self.add_all(request, true);
    }

    /// What runs at the row of a sequence that has nothing to run: like `other`, but all zeros,
    /// and not ready. Nobody waits for its answer.
    pub(crate) fn idle_row(&self, other: &Request) -> Request {
        let responder = Responder::new(Box::new(Nobody));
        let mut request = Request::new(other.model.clone(), other.version, responder);
        request.inputs = other.inputs.iter().map(zeros_like).collect();
        request.requested_outputs.clone_from(&other.requested_outputs);
        self.add_all(&mut request, false);
        request
    }

    fn add_all(&self, request: &mut Request, ready: bool) {
        request.inputs.reserve_exact(self.signals.len());
        for signal in &self.signals {
            let data = signal.data(request, ready);
            request.inputs.push(Tensor {
                name: signal.tensor.clone(),
                datatype: signal.datatype,
                shape: self.shape.clone(),
                data: data.into(),
            });
        }
    }
}

impl Signal {
    fn new(tensor: String, control: &Control) -> Self {
        let kind = control.kind();
        let (datatype, no, yes) = if let [no, yes] = control.int32_false_true[..] {
            (DataType::Int32, bytes(no.to_le_bytes()), bytes(yes.to_le_bytes()))
        } else if let [no, yes] = control.fp32_false_true[..] {
            (DataType::Fp32, bytes(no.to_le_bytes()), bytes(yes.to_le_bytes()))
        } else if let [no, yes] = control.bool_false_true[..] {
            (DataType::Bool, bytes([u8::from(no)]), bytes([u8::from(yes)]))
        } else {
            let datatype = control.datatype().unwrap_or(DataType::Uint64);
            (datatype, Bytes::new(), Bytes::new())
        };
        Self { tensor, kind, datatype, no, yes }
    }

    fn data(&self, request: &Request, ready: bool) -> Bytes {
        let yes = match self.kind {
            Kind::ControlSequenceStart => request.flags & SEQUENCE_START != 0,
            Kind::ControlSequenceEnd => request.flags & SEQUENCE_END != 0,
            Kind::ControlSequenceReady => ready,
            Kind::ControlSequenceCorrid => return correlation(&request.correlation, self.datatype),
        };
        if yes { self.yes.clone() } else { self.no.clone() }
    }
}

/// The element of a CORRID tensor. Smaller types get the lower bits, as in Triton.
fn correlation(id: &CorrelationId, datatype: DataType) -> Bytes {
    let number = match id {
        CorrelationId::Number(number) => *number,
        CorrelationId::Text(_) | CorrelationId::None => 0,
    };
    match datatype.byte_size() {
        Some(size) => Bytes::copy_from_slice(&number.to_le_bytes()[..size.min(8)]),
        None => {
            let mut element = Vec::new();
            let text = if let CorrelationId::Text(text) = id { text.as_str() } else { "" };
            push_bytes_element(&mut element, text.as_bytes());
            element.into()
        }
    }
}

fn bytes<const N: usize>(array: [u8; N]) -> Bytes {
    Bytes::copy_from_slice(&array)
}

fn zeros_like(tensor: &Tensor) -> Tensor {
    let elements = nereid_inference::element_count(&tensor.shape).unwrap_or(0);
    // An empty string is four bytes of length.
    let size = elements * tensor.datatype.byte_size().unwrap_or(4);
    Tensor { data: vec![0; size].into(), ..tensor.clone() }
}

struct Nobody;

impl ResponseSink for Nobody {
    fn deliver(&mut self, _: Answer, _: &Times) {}
}

#[cfg(test)]
mod tests {
    use nereid_model_config::parse;

    use super::*;

    const CONFIG: &str = r#"
        max_batch_size: 2
        sequence_batching {
          control_input [
            { name: "S" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 2, 3 ] } ] },
            { name: "R" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ -1, 1 ] } ] },
            { name: "E" control [ { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } ] },
            { name: "C" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT32 } ] },
            { name: "T" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } ] }
          ]
        }"#;

    fn controls() -> Controls {
        Controls::new(&parse(CONFIG, "config.pbtxt".as_ref()).unwrap()).unwrap()
    }

    fn request() -> Request {
        Request::new("m", None, Responder::new(Box::new(Nobody)))
    }

    fn values(request: &Request) -> Vec<Vec<u8>> {
        request.inputs.iter().map(|input| input.data.contiguous().to_vec()).collect()
    }

    #[test]
    fn signals_have_the_configured_values() {
        let mut first = request();
        first.flags = SEQUENCE_START;
        first.correlation = CorrelationId::Number(258);
        controls().add(&mut first);
        let yes = 3f32.to_le_bytes().to_vec();
        let ready = vec![1, 0, 0, 0];
        assert_eq!(values(&first), [yes, ready, vec![0], vec![2, 1, 0, 0], vec![0; 4]]);
        assert!(first.inputs.iter().all(|input| input.shape == [1, 1]));
        let mut last = request();
        last.flags = SEQUENCE_END;
        last.correlation = CorrelationId::Text("ab".into());
        controls().add(&mut last);
        assert_eq!(values(&last)[2..], [vec![1], vec![0; 4], vec![2, 0, 0, 0, b'a', b'b']]);
    }

    #[test]
    fn idle_rows_are_zeros_and_not_ready() {
        let mut other = request();
        other.flags = SEQUENCE_START;
        let (shape, data) = (vec![1, 2], vec![7u8; 8].into());
        other.inputs.push(Tensor { name: "IN".into(), datatype: DataType::Fp32, shape, data });
        let idle = controls().idle_row(&other);
        let no = 2f32.to_le_bytes().to_vec();
        let not_ready = (-1i32).to_le_bytes().to_vec();
        assert_eq!(values(&idle)[..3], [vec![0; 8], no, not_ready]);
        assert_eq!(idle.inputs[0].shape, [1, 2]);
    }
}
