//! Tensors on their way into a frame and out of one.

use bytes::Bytes;
use nereid_arena::{ARENA_THRESHOLD, Arena, exceeds_memory};
use nereid_inference::{Buffer, Error, Result, Tensor};

use crate::frame::{Place, TensorOut};

/// Moves the bytes of large tensors into the arena, where they are not there already. Small ones
/// stay where they are: they are copied into the frame.
pub(crate) fn move_to_arena<'a>(
    arena: &Arena,
    tensors: impl IntoIterator<Item = &'a mut Tensor>,
) -> Result<()> {
    for tensor in tensors {
        let len = tensor.data.len();
        if len < ARENA_THRESHOLD || place_in(arena, &tensor.data).is_some() {
            continue;
        }
        let chunk = arena.allocate(len).filter(|_| exceeds_memory(len).is_none());
        let mut chunk = chunk.ok_or_else(|| {
            Error::unavailable(format!(
                "no shared memory left for tensor '{}' of {len} bytes",
                tensor.name
            ))
        })?;
        let mut at = 0;
        for segment in tensor.data.segments() {
            chunk[at..at + segment.len()].copy_from_slice(segment);
            at += segment.len();
        }
        tensor.data = Buffer::One(chunk.freeze());
    }
    Ok(())
}

/// How `tensors` are written into a frame, once they have been through [`move_to_arena`].
pub(crate) fn outgoing<'a>(arena: &Arena, tensors: &'a [Tensor]) -> Vec<TensorOut<'a>> {
    tensors
        .iter()
        .map(|tensor| TensorOut {
            name: &tensor.name,
            datatype: tensor.datatype,
            shape: &tensor.shape,
            place: match place_in(arena, &tensor.data) {
                Some(offset) if tensor.data.len() >= ARENA_THRESHOLD => {
                    Place::Arena { offset, len: tensor.data.len() }
                }
                _ => Place::Inline(tensor.data.segments()),
            },
        })
        .collect()
}

fn place_in(arena: &Arena, data: &Buffer) -> Option<usize> {
    match data {
        Buffer::One(bytes) => arena.offset_of(bytes),
        Buffer::Segments(_) => None,
    }
}

/// The bytes of `tensors` that lie in the arena: what must be kept while a worker looks at them.
pub(crate) fn arena_bytes<'a>(
    arena: &'a Arena,
    tensors: &'a [Tensor],
) -> impl Iterator<Item = &'a Bytes> {
    tensors.iter().filter_map(|tensor| match &tensor.data {
        Buffer::One(bytes) if arena.offset_of(bytes).is_some() => Some(bytes),
        _ => None,
    })
}

/// The part of `owner` that lies at `offset` in the arena, if all of it does.
pub(crate) fn slice_at(arena: &Arena, owner: &Bytes, offset: usize, len: usize) -> Option<Bytes> {
    let start = offset.checked_sub(arena.offset_of(owner)?)?;
    let end = start.checked_add(len)?;
    (end <= owner.len()).then(|| owner.slice(start..end))
}
