//! Tensors on their way into a frame and out of one.

use bytes::Bytes;
use nereid_arena::{ARENA_THRESHOLD, Arena, exceeds_memory, region_of};
use nereid_inference::{Buffer, DeviceBuffer, Error, Result, Tensor};

use crate::frame::{DeviceTensor, Place, TensorOut};

/// Moves the bytes of large tensors into the arena, where they are not there already. Small ones
/// stay where they are: they are copied into the frame.
pub(crate) fn move_to_arena<'a>(
    arena: &Arena,
    tensors: impl IntoIterator<Item = &'a mut Tensor>,
) -> Result<()> {
    for tensor in tensors {
        let len = tensor.data.len();
        if len < ARENA_THRESHOLD || is_shared(arena, &tensor.data) {
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
            at = chunk.put(at, segment).expect("the chunk is as long as the tensor");
        }
        tensor.data = Buffer::One(chunk.freeze());
    }
    Ok(())
}

/// How `tensors` are written into a frame, once the large ones lie where the worker can see them.
/// Those in the memory of GPUs are lent under the numbers from `lease` on.
pub(crate) fn outgoing<'a>(
    arena: &Arena,
    tensors: &'a [Tensor],
    lease: &mut u64,
) -> Vec<TensorOut<'a>> {
    tensors
        .iter()
        .map(|tensor| TensorOut {
            name: &tensor.name,
            datatype: tensor.datatype,
            shape: &tensor.shape,
            place: place_of(arena, &tensor.data, lease),
        })
        .collect()
}

fn place_of<'a>(arena: &Arena, data: &'a Buffer, lease: &mut u64) -> Place<'a> {
    if let Buffer::Device(there) = data {
        let tensor = DeviceTensor { place: there.place(), len: there.len(), lease: *lease };
        *lease += 1;
        return Place::Device(tensor);
    }
    if let Buffer::One(bytes) = data
        && bytes.len() >= ARENA_THRESHOLD
        && let Some(location) = location_of(arena, bytes)
    {
        return Place::Shared { location, len: bytes.len() };
    }
    Place::Inline(data.segments())
}

/// Whether every worker can see it where it is: in the arena, or in the memory of a GPU.
pub(crate) fn is_shared(arena: &Arena, data: &Buffer) -> bool {
    match data {
        Buffer::One(bytes) => arena.offset_of(bytes).is_some(),
        Buffer::Segments(_) => false,
        Buffer::Device(_) => true,
    }
}

/// The parts of `tensors` that lie in the memory of GPUs.
pub(crate) fn on_devices<'a>(
    tensors: impl IntoIterator<Item = &'a Tensor>,
) -> impl Iterator<Item = &'a DeviceBuffer> {
    tensors.into_iter().filter_map(|tensor| match &tensor.data {
        Buffer::Device(there) => Some(there),
        _ => None,
    })
}

/// Where bytes lie in the arena, or else in a client's region; what is small has no location there.
pub(crate) fn location_of(arena: &Arena, bytes: &Bytes) -> Option<usize> {
    if let Some(offset) = arena.offset_of(bytes) {
        return Some(offset);
    }
    if bytes.len() < ARENA_THRESHOLD {
        return None;
    }
    let (_, location) = region_of(bytes)?;
    usize::try_from(location).ok()
}

/// The bytes of `tensors` that lie in shared memory: what must be kept while a worker looks at them.
pub(crate) fn shared_bytes<'a>(
    arena: &'a Arena,
    tensors: &'a [Tensor],
) -> impl Iterator<Item = &'a Bytes> {
    tensors.iter().filter_map(|tensor| match &tensor.data {
        Buffer::One(bytes) if location_of(arena, bytes).is_some() => Some(bytes),
        _ => None,
    })
}

/// The part of `owner` that lies at `location`, if all of it does.
pub(crate) fn slice_at(arena: &Arena, owner: &Bytes, location: usize, len: usize) -> Option<Bytes> {
    let start = location.checked_sub(location_of(arena, owner)?)?;
    let end = start.checked_add(len)?;
    (end <= owner.len()).then(|| owner.slice(start..end))
}
