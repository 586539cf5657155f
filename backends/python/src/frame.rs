//! Frames between the server and a worker: the layout, writing and reading.
//!
//! A frame is a head of 16 bytes (length, kind, count, id) and a body; most bodies are blocks, each
//! of which carries the tensors of one request or response. All numbers are little-endian, all
//! parts are padded to 8 bytes. The Python side of the same layout is `worker/nereid_worker`.
//!
//! ```text
//! block: block_len u32 | extras_len u32 | meta_len u32 | tensors u32
//!        extras (JSON or nothing) | meta | tensors × (location u64, byte_len u64) | inline bytes
//! meta:  per tensor: name_len u16 | datatype u8 | ndim u8 | name, padded | ndim × i64
//! GPU:   handle 64 bytes | device u64 | offset u64 | owner u64 | number u64 | lease u64
//! ```
//!
//! A tensor in the memory of a GPU has such a description among the inline bytes. Its lease is the
//! number under which it is lent to the worker, and comes back with [`RELEASE_ANSWERS`]. What a worker
//! sends has a lease if it is a part of what was lent to it, at `offset`.
//!
//! Names, datatypes and shapes stand apart from the bytes so that a worker can recognise a `meta`
//! that it has seen before with one look-up.

use nereid_inference::{DEVICE_HANDLE_SIZE, DataType, DevicePlace};
use nereid_model_config::{datatype, datatype_number};

pub(crate) const INIT: u16 = 1;
pub(crate) const EXECUTE: u16 = 2;
pub(crate) const CALL_ANSWER: u16 = 3;
pub(crate) const FINALIZE: u16 = 4;
pub(crate) const RELEASE_CHUNKS: u16 = 5;
/// A request of a batch is not wanted any more; the count is its place in the batch.
pub(crate) const CANCEL: u16 = 6;
/// Answers [`WATCH`], behind the [`CANCEL`] that it may have led to.
pub(crate) const WATCHED: u16 = 7;
/// A batch that the worker runs while it waits for an answer: it is what it waits for.
pub(crate) const EXECUTE_NESTED: u16 = 8;
pub(crate) const ASK_READY: u16 = 9;
/// One more response of a request may be sent; the count is its place in the batch.
pub(crate) const ROOM: u16 = 10;
/// A client's region is to be mapped: its location (the id), and in the body its length, a
/// descriptor of the server and the offset in that file.
pub(crate) const MAP: u16 = 11;
/// A region (the id) is not needed any more.
pub(crate) const UNMAP: u16 = 12;
/// The server needs a tensor (the id) in the memory of a GPU no more.
pub(crate) const RELEASE_DEVICE: u16 = 13;
/// The count is 1 if the model has a say in its readiness.
pub(crate) const READY: u16 = 101;
pub(crate) const FAILED: u16 = 102;
pub(crate) const EXECUTED: u16 = 103;
/// A request of the model's own: the batch that it is made for, and a block.
pub(crate) const CALL: u16 = 104;
pub(crate) const RELEASE_ANSWERS: u16 = 105;
pub(crate) const LOG: u16 = 106;
pub(crate) const FINALIZED: u16 = 107;
pub(crate) const RESPONSE: u16 = 108;
/// The model wants to know when a request is cancelled; the count is its place in the batch.
pub(crate) const WATCH: u16 = 109;
/// The model does not want the answer to its call any more.
pub(crate) const CANCEL_CALL: u16 = 110;
/// The model asks something of the server; answered like a call.
pub(crate) const CONTROL: u16 = 111;
/// The model changes a metric of its own.
pub(crate) const METRIC: u16 = 112;
/// The model holds on to inputs of a batch: triples of a number, an offset and a length. They come
/// back with [`RELEASE_ANSWERS`].
pub(crate) const KEEP: u16 = 114;
/// Answers [`ASK_READY`]: the count is 1 for yes.
pub(crate) const READY_STATE: u16 = 113;
/// Answers [`MAP`]: the count is 1 if the region is mapped.
pub(crate) const MAPPED: u16 = 115;

/// Location of a tensor whose bytes stand in the frame itself.
pub(crate) const INLINE: u64 = u64::MAX;
/// Location of a tensor in the memory of a GPU.
pub(crate) const DEVICE: u64 = u64::MAX - 1;

const DEVICE_LEN: usize = DEVICE_HANDLE_SIZE + 5 * 8;

const HEAD: usize = 16;
const BLOCK_HEAD: usize = 16;

/// A frame longer than this is a broken worker: inline tensors are small.
const LONGEST: usize = 1 << 28;

/// What a frame carries of a tensor besides its bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct TensorMeta<'a> {
    pub(crate) name: &'a str,
    pub(crate) datatype: DataType,
    pub(crate) shape: Vec<i64>,
}

/// A tensor to be written: its bytes follow inline unless they lie in shared memory.
pub(crate) struct TensorOut<'a> {
    pub(crate) name: &'a str,
    pub(crate) datatype: DataType,
    pub(crate) shape: &'a [i64],
    pub(crate) place: Place<'a>,
}

pub(crate) enum Place<'a> {
    Inline(&'a [bytes::Bytes]),
    /// In the arena, by its offset, or in a client's region, by its location.
    Shared {
        location: usize,
        len: usize,
    },
    Device(DeviceTensor),
}

/// What a frame says of a tensor in the memory of a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DeviceTensor {
    pub(crate) place: DevicePlace,
    pub(crate) len: usize,
    /// 0 for a tensor that is not lent: the worker's own.
    pub(crate) lease: u64,
}

/// Starts a frame; what it returns goes to [`end_frame`] after the body was written.
pub(crate) fn begin_frame(out: &mut Vec<u8>, kind: u16, count: usize, id: u64) -> usize {
    let start = out.len();
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(count as u16).to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
    start
}

pub(crate) fn end_frame(out: &mut [u8], start: usize) {
    put_u32(out, start, out.len() - start);
}

pub(crate) fn write_block(out: &mut Vec<u8>, extras: &[u8], tensors: &[TensorOut<'_>]) {
    let start = out.len();
    out.resize(start + BLOCK_HEAD, 0);
    put_u32(out, start + 4, extras.len());
    put_u32(out, start + 12, tensors.len());
    out.extend_from_slice(extras);
    pad(out);
    let meta_start = out.len();
    for tensor in tensors {
        out.extend_from_slice(&(tensor.name.len() as u16).to_le_bytes());
        out.push(datatype_number(tensor.datatype) as u8);
        out.push(tensor.shape.len() as u8);
        out.extend_from_slice(tensor.name.as_bytes());
        pad(out);
        tensor.shape.iter().for_each(|dim| out.extend_from_slice(&dim.to_le_bytes()));
    }
    let meta_len = out.len() - meta_start;
    put_u32(out, start + 8, meta_len);
    for tensor in tensors {
        let (location, len) = match tensor.place {
            Place::Shared { location, len } => (location as u64, len),
            Place::Inline(segments) => (INLINE, segments.iter().map(bytes::Bytes::len).sum()),
            Place::Device(tensor) => (DEVICE, tensor.len),
        };
        out.extend_from_slice(&location.to_le_bytes());
        out.extend_from_slice(&(len as u64).to_le_bytes());
    }
    for tensor in tensors {
        match &tensor.place {
            Place::Inline(segments) => {
                segments.iter().for_each(|segment| out.extend_from_slice(segment));
                pad(out);
            }
            Place::Device(tensor) => write_device(out, tensor),
            Place::Shared { .. } => {}
        }
    }
    let block_len = out.len() - start;
    put_u32(out, start, block_len);
}

fn write_device(out: &mut Vec<u8>, tensor: &DeviceTensor) {
    let DevicePlace { device, handle, offset, owner, number } = tensor.place;
    out.extend_from_slice(&handle);
    for value in [device as u64, offset as u64, owner, number, tensor.lease] {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Pads to 8 bytes, counted from the start of `out`: frames start on multiples of 8 in it.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(8), 0);
}

fn put_u32(out: &mut [u8], at: usize, value: usize) {
    out[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
}

/// A frame that a worker sent does not follow the layout.
#[derive(Debug)]
pub(crate) struct Broken;

/// A whole frame, borrowed from what was read.
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) count: usize,
    pub(crate) id: u64,
    pub(crate) body: &'a [u8],
    pub(crate) len: usize,
}

/// The first frame in `input`; `None` if it is not all there yet.
pub(crate) fn read_frame(input: &[u8]) -> Result<Option<Frame<'_>>, Broken> {
    if input.len() < HEAD {
        return Ok(None);
    }
    let mut head = Reader(input);
    let len = head.u32()? as usize;
    let (kind, count, id) = (head.u16()?, head.u16()?.into(), head.u64()?);
    if !(HEAD..=LONGEST).contains(&len) {
        return Err(Broken);
    }
    Ok(input.get(HEAD..len).map(|body| Frame { kind, count, id, body, len }))
}

/// Numbers that fill a body, or begin it.
pub(crate) fn read_numbers(body: &[u8]) -> impl Iterator<Item = u64> + '_ {
    body.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok().map(u64::from_le_bytes))
}

/// One request or response, borrowed from a frame.
pub(crate) struct Block<'a> {
    pub(crate) extras: &'a [u8],
    pub(crate) tensors: Vec<(TensorMeta<'a>, TensorData)>,
}

/// Where the bytes of a tensor are.
#[derive(Debug, PartialEq)]
pub(crate) enum TensorData {
    /// In the body of the frame.
    Inline(std::ops::Range<usize>),
    Shared {
        location: usize,
        len: usize,
    },
    Device(DeviceTensor),
}

/// Reads the block at `at` in `body`; returns it with the position behind it.
pub(crate) fn read_block(body: &[u8], at: usize) -> Result<(Block<'_>, usize), Broken> {
    let mut reader = Reader(body.get(at..).ok_or(Broken)?);
    let block_len = reader.u32()? as usize;
    let (extras_len, meta_len) = (reader.u32()? as usize, reader.u32()? as usize);
    let count = reader.u32()? as usize;
    let end = at.checked_add(block_len).filter(|&end| end <= body.len()).ok_or(Broken)?;
    let extras = reader.padded(extras_len)?;
    let mut meta = Reader(reader.padded(meta_len)?);
    let mut tensors = Vec::with_capacity(count.min(64));
    let table = reader.padded(count.checked_mul(16).ok_or(Broken)?)?;
    let mut position = body.len() - reader.0.len();
    for row in table.chunks_exact(16) {
        let mut row = Reader(row);
        let (location, len) = (row.u64()?, usize::try_from(row.u64()?).map_err(|_| Broken)?);
        let inline_len = match location {
            INLINE => len,
            DEVICE => DEVICE_LEN,
            _ => 0,
        };
        let inline_end = position.checked_add(inline_len).filter(|&e| e <= end).ok_or(Broken)?;
        let inline = position..inline_end;
        position = inline_end.next_multiple_of(8);
        let data = match location {
            INLINE => TensorData::Inline(inline),
            DEVICE => TensorData::Device(read_device(&body[inline], len)?),
            _ => {
                TensorData::Shared { location: usize::try_from(location).map_err(|_| Broken)?, len }
            }
        };
        tensors.push((meta.tensor()?, data));
    }
    Ok((Block { extras, tensors }, end))
}

fn read_device(described: &[u8], len: usize) -> Result<DeviceTensor, Broken> {
    let mut reader = Reader(described);
    let handle = reader.take()?;
    let device = i32::try_from(reader.u64()?).map_err(|_| Broken)?;
    let offset = usize::try_from(reader.u64()?).map_err(|_| Broken)?;
    let (owner, number, lease) = (reader.u64()?, reader.u64()?, reader.u64()?);
    Ok(DeviceTensor { place: DevicePlace { device, handle, offset, owner, number }, len, lease })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Broken)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Broken> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Broken> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Broken> {
        self.take().map(u64::from_le_bytes)
    }

    /// `len` bytes, and past the padding behind them.
    fn padded(&mut self, len: usize) -> Result<&'a [u8], Broken> {
        let taken = self.0.get(..len).ok_or(Broken)?;
        self.0 = self.0.get(len.next_multiple_of(8)..).ok_or(Broken)?;
        Ok(taken)
    }

    fn tensor(&mut self) -> Result<TensorMeta<'a>, Broken> {
        let name_len = usize::from(self.u16()?);
        let [code, ndim] = self.take()?;
        let name = self.0.get(..name_len).ok_or(Broken)?;
        // The name starts 4 bytes behind a multiple of 8.
        let padded = (4 + name_len).next_multiple_of(8) - 4;
        self.0 = self.0.get(padded..).ok_or(Broken)?;
        let shape = (0..ndim)
            .map(|_| self.take().map(i64::from_le_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(TensorMeta {
            name: std::str::from_utf8(name).map_err(|_| Broken)?,
            datatype: datatype(code.into()).ok_or(Broken)?,
            shape,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const ON_GPU: DeviceTensor = DeviceTensor {
        place: DevicePlace {
            device: 1,
            handle: [9; DEVICE_HANDLE_SIZE],
            offset: 512,
            owner: 4321,
            number: 7,
        },
        len: 400,
        lease: 8,
    };

    fn frame() -> Vec<u8> {
        let inline = [Bytes::from_static(b"abc"), Bytes::from_static(b"de")];
        let mut out = Vec::new();
        let start = begin_frame(&mut out, EXECUTE, 1, 77);
        let tensors = [
            TensorOut {
                name: "IN",
                datatype: DataType::Uint8,
                shape: &[5],
                place: Place::Inline(&inline),
            },
            TensorOut {
                name: "image_of_a_car",
                datatype: DataType::Bf16,
                shape: &[1, -1, 3],
                place: Place::Shared { location: 4096, len: 70_000 },
            },
            TensorOut {
                name: "GPU",
                datatype: DataType::Fp32,
                shape: &[100],
                place: Place::Device(ON_GPU),
            },
            TensorOut {
                name: "LAST",
                datatype: DataType::Uint8,
                shape: &[5],
                place: Place::Inline(&inline),
            },
        ];
        write_block(&mut out, b"{}", &tensors);
        end_frame(&mut out, start);
        out
    }

    #[test]
    fn a_frame_is_read_as_written() {
        let bytes = frame();
        assert_eq!(bytes.len() % 8, 0);
        let frame = read_frame(&bytes).unwrap().unwrap();
        assert_eq!((frame.kind, frame.count, frame.id, frame.len), (EXECUTE, 1, 77, bytes.len()));
        let (block, end) = read_block(frame.body, 0).unwrap();
        assert_eq!((block.extras, end), (&b"{}"[..], frame.body.len()));
        let [(first, first_data), (second, second_data), third, last] = &block.tensors[..] else {
            panic!()
        };
        assert_eq!(
            (first.name, first.datatype, &first.shape[..]),
            ("IN", DataType::Uint8, &[5][..])
        );
        let TensorData::Inline(range) = first_data else { panic!() };
        assert_eq!(&frame.body[range.clone()], b"abcde");
        assert_eq!((second.name, &second.shape[..]), ("image_of_a_car", &[1, -1, 3][..]));
        assert_eq!(*second_data, TensorData::Shared { location: 4096, len: 70_000 });
        assert_eq!(third.1, TensorData::Device(ON_GPU));
        let TensorData::Inline(range) = &last.1 else { panic!() };
        assert_eq!(&frame.body[range.clone()], b"abcde");
    }

    #[test]
    fn no_cut_frame_is_taken_for_a_whole_one() {
        let bytes = frame();
        for end in 0..bytes.len() {
            assert!(read_frame(&bytes[..end]).unwrap().is_none());
        }
        let body = read_frame(&bytes).unwrap().unwrap().body;
        for end in 0..body.len() {
            assert!(read_block(&body[..end], 0).is_err(), "{end}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut bytes = frame();
        bytes[0] = 3;
        bytes[1] = 0;
        assert!(read_frame(&bytes).is_err(), "shorter than its head");
        let mut bytes = frame();
        bytes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read_frame(&bytes).is_err(), "too long");
    }
}
