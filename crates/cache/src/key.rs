//! What makes two requests the same: a hash over all that a model sees of them.

use blake3::Hasher;
use nereid_inference::{Parameter, Request};

/// Identifies a request by its model, version, inputs, wanted outputs and parameters.
///
/// The hash is a cryptographic one: a client that can make two requests with the same key could
/// choose what other clients are answered. Triton's key is a hash of 64 bits, and leaves out the
/// outputs and the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a request that `version` of its model has taken in. `all_outputs`: it wants every
    /// output there is, whether it names them or not.
    pub fn of(request: &Request, version: i64, all_outputs: bool) -> Self {
        let mut hash = Hasher::new();
        text(&mut hash, &request.model);
        hash.update(&version.to_le_bytes());
        inputs(&mut hash, request);
        outputs(&mut hash, request, all_outputs);
        parameters(&mut hash, request);
        Self(*hash.finalize().as_bytes())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Clients may name their inputs in any order. Every part begins with its length or count, so that
/// no two requests are written the same.
fn inputs(hash: &mut Hasher, request: &Request) {
    let mut order: Vec<usize> = (0..request.inputs.len()).collect();
    order.sort_unstable_by_key(|&index| &request.inputs[index].name);
    count(hash, order.len());
    for index in order {
        let input = &request.inputs[index];
        text(hash, &input.name);
        text(hash, input.datatype.name());
        count(hash, input.shape.len());
        for dim in &input.shape {
            hash.update(&dim.to_le_bytes());
        }
        count(hash, input.data.len());
        for segment in input.data.segments() {
            hash.update(segment);
        }
    }
}

fn outputs(hash: &mut Hasher, request: &Request, all: bool) {
    let mut names: Vec<&str> = match all {
        true => Vec::new(),
        false => request.requested_outputs.iter().map(String::as_str).collect(),
    };
    names.sort_unstable();
    names.dedup();
    count(hash, names.len());
    names.into_iter().for_each(|name| text(hash, name));
}

fn parameters(hash: &mut Hasher, request: &Request) {
    let mut order: Vec<_> = request.parameters.iter().collect();
    order.sort_by_key(|(name, _)| name);
    count(hash, order.len());
    for (name, value) in order {
        text(hash, name);
        match value {
            Parameter::Bool(value) => hash.update(&[b'b', u8::from(*value)]),
            Parameter::Int(value) => hash.update(b"i").update(&value.to_le_bytes()),
            Parameter::Double(value) => hash.update(b"d").update(&value.to_le_bytes()),
            Parameter::String(value) => {
                text(hash.update(b"s"), value);
                continue;
            }
        };
    }
}

fn text(hash: &mut Hasher, text: &str) {
    count(hash, text.len());
    hash.update(text.as_bytes());
}

fn count(hash: &mut Hasher, count: usize) {
    hash.update(&(count as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nereid_inference::{Answer, Buffer, DataType, Responder, ResponseSink, Tensor, Times};

    use super::*;

    struct Ignore;

    impl ResponseSink for Ignore {
        fn deliver(&mut self, _: Answer, _: &Times) {}
    }

    fn tensor(name: &str, shape: &[i64], data: &[u8]) -> Tensor {
        let data = Buffer::from(data.to_vec());
        Tensor { name: name.into(), datatype: DataType::Uint8, shape: shape.to_vec(), data }
    }

    fn request() -> Request {
        let mut request = Request::new("m", None, Responder::new(Box::new(Ignore)));
        request.inputs = vec![tensor("A", &[1, 2], b"ab"), tensor("B", &[2], b"cd")];
        request
    }

    fn key(change: impl FnOnce(&mut Request)) -> Key {
        let mut request = request();
        change(&mut request);
        Key::of(&request, 1, request.requested_outputs.is_empty())
    }

    #[test]
    fn what_the_model_does_not_see_makes_no_difference() {
        let same = key(|_| ());
        assert_eq!(key(|r| r.inputs.reverse()), same);
        assert_eq!(key(|r| r.id = "7".into()), same);
        assert_eq!(key(|r| r.version = Some(1)), same, "the version that runs counts");
        let halves = Buffer::Segments(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        assert_eq!(key(|r| r.inputs[0].data = halves), same);
        let outputs = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let some = key(|r| r.requested_outputs = outputs(&["X", "Y"]));
        assert_eq!(key(|r| r.requested_outputs = outputs(&["Y", "X", "Y"])), some);
    }

    #[test]
    fn everything_else_does() {
        let mut request = request();
        let mut keys = vec![
            key(|_| ()),
            Key::of(&request, 2, true),
            key(|r| r.model = "n".into()),
            key(|r| r.inputs[0].name = "C".into()),
            key(|r| r.inputs[0].datatype = DataType::Int8),
            key(|r| r.inputs[0].shape = vec![2, 1]),
            key(|r| r.inputs[0].data = Buffer::from(b"ax".to_vec())),
            key(|r| drop(r.inputs.pop())),
            key(|r| r.requested_outputs = vec!["X".into()]),
            key(|r| r.parameters = vec![("p".into(), Parameter::Int(1))]),
            key(|r| r.parameters = vec![("p".into(), Parameter::Bool(true))]),
            key(|r| r.parameters = vec![("p".into(), Parameter::String("1".into()))]),
        ];
        // The same bytes, cut in another place.
        request.inputs = vec![tensor("A", &[1, 2], b"abc"), tensor("B", &[2], b"d")];
        keys.push(Key::of(&request, 1, true));
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
