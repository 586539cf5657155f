//! An entry as bytes, for caches outside this process.
//!
//! A version, the parameters, the outputs; every text and every tensor after its length; all numbers
//! little-endian. What does not read as an entry is not one: somebody else may have written it.

use bytes::{BufMut, Bytes, BytesMut};
use nereid_inference::{Buffer, DataType, Parameter, Tensor};

use crate::Entry;

const VERSION: u8 = 1;

pub(crate) fn encode(entry: &Entry) -> Bytes {
    let mut bytes = BytesMut::with_capacity(entry.byte_size());
    bytes.put_u8(VERSION);
    count(&mut bytes, entry.parameters.len());
    for (name, value) in &entry.parameters {
        text(&mut bytes, name);
        match value {
            Parameter::Bool(value) => bytes.put_slice(&[b'b', u8::from(*value)]),
            Parameter::Int(value) => {
                bytes.put_u8(b'i');
                bytes.put_i64_le(*value);
            }
            Parameter::Double(value) => {
                bytes.put_u8(b'd');
                bytes.put_f64_le(*value);
            }
            Parameter::String(value) => {
                bytes.put_u8(b's');
                text(&mut bytes, value);
            }
        }
    }
    count(&mut bytes, entry.outputs.len());
    for output in &entry.outputs {
        text(&mut bytes, &output.name);
        text(&mut bytes, output.datatype.name());
        count(&mut bytes, output.shape.len());
        output.shape.iter().for_each(|&dim| bytes.put_i64_le(dim));
        count(&mut bytes, output.data.len());
        output.data.segments().iter().for_each(|segment| bytes.put_slice(segment));
    }
    bytes.freeze()
}

fn text(bytes: &mut BytesMut, text: &str) {
    count(bytes, text.len());
    bytes.put_slice(text.as_bytes());
}

fn count(bytes: &mut BytesMut, count: usize) {
    bytes.put_u64_le(count as u64);
}

/// Tensors are slices of `bytes`.
pub(crate) fn decode(bytes: Bytes) -> Option<Entry> {
    let mut reader = Reader(bytes);
    if reader.take(1)?[0] != VERSION {
        return None;
    }
    let parameters = (0..reader.count()?).map(|_| reader.parameter()).collect::<Option<_>>()?;
    let outputs = (0..reader.count()?).map(|_| reader.tensor()).collect::<Option<_>>()?;
    reader.0.is_empty().then_some(Entry { outputs, parameters })
}

/// What has not been read yet.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        self.take(8)?[..].try_into().ok()
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.eight()?)).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.count()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn parameter(&mut self) -> Option<(String, Parameter)> {
        let name = self.text()?;
        let value = match self.take(1)?[0] {
            b'b' => Parameter::Bool(self.take(1)?[0] != 0),
            b'i' => Parameter::Int(i64::from_le_bytes(self.eight()?)),
            b'd' => Parameter::Double(f64::from_le_bytes(self.eight()?)),
            b's' => Parameter::String(self.text()?),
            _ => return None,
        };
        Some((name, value))
    }

    fn tensor(&mut self) -> Option<Tensor> {
        let name = self.text()?;
        let datatype = DataType::from_name(&self.text()?)?;
        let dim = |reader: &mut Self| Some(i64::from_le_bytes(reader.eight()?));
        let shape = (0..self.count()?).map(|_| dim(self)).collect::<Option<_>>()?;
        let length = self.count()?;
        Some(Tensor { name, datatype, shape, data: Buffer::One(self.take(length)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let tensor = |name: &str, datatype, shape: &[i64], data: &[u8]| Tensor {
            name: name.into(),
            datatype,
            shape: shape.to_vec(),
            data: Buffer::from(data.to_vec()),
        };
        Entry {
            outputs: vec![
                tensor("A", DataType::Fp32, &[1, 2], &[0, 1, 2, 3, 4, 5, 6, 7]),
                tensor("B", DataType::Bytes, &[0], &[]),
            ],
            parameters: vec![
                ("b".into(), Parameter::Bool(true)),
                ("i".into(), Parameter::Int(-3)),
                ("d".into(), Parameter::Double(0.5)),
                ("s".into(), Parameter::String("text".into())),
            ],
        }
    }

    #[test]
    fn entries_come_back() {
        let bytes = encode(&entry());
        let back = decode(bytes.clone()).unwrap();
        assert_eq!(back.parameters, entry().parameters);
        for (back, sent) in back.outputs.iter().zip(entry().outputs) {
            let parts = |t: &Tensor| (t.name.clone(), t.datatype, t.shape.clone());
            assert_eq!(parts(back), parts(&sent));
            assert_eq!(back.data.contiguous(), sent.data.contiguous());
            assert!(
                bytes.as_ptr_range().contains(&back.data.contiguous().as_ptr())
                    || back.data.is_empty()
            );
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_no_entry() {
        let bytes = encode(&entry());
        assert!((0..bytes.len()).all(|length| decode(bytes.slice(..length)).is_none()));
        for place in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[place] ^= 0xff;
            drop(decode(changed.into())); // Whatever comes of it, it does not panic.
        }
    }
}
