//! What is kept of an answer must not lie in a client's memory: the client writes there again.

use bytes::Bytes;
use nereid_arena::region_of;
use nereid_inference::Buffer;

/// Replaces what lies in a client's shared memory by a copy.
pub(crate) fn own(data: &mut Buffer) {
    match data {
        Buffer::One(bytes) => own_bytes(bytes),
        Buffer::Segments(segments) => segments.iter_mut().for_each(own_bytes),
        Buffer::Device(_) => {}
    }
}

fn own_bytes(bytes: &mut Bytes) {
    if region_of(bytes).is_some() {
        *bytes = Bytes::copy_from_slice(bytes);
    }
}
