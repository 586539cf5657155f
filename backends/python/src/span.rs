//! The part of the arena that one worker may allocate in.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use nereid_arena::{Arena, Chunk};

/// Address space for the outputs of one worker; memory is only taken where it writes.
const LEN: usize = 4 << 30;

/// Lent to one worker process for its life. It goes back to the arena when the process has ended
/// and the last tensor in it has been dropped.
pub(crate) struct Span {
    arena: Arena,
    chunk: Chunk,
    /// Offsets of chunks that the worker may use again.
    released: Mutex<Vec<u64>>,
}

impl Span {
    pub(crate) fn reserve(arena: &Arena) -> Option<Arc<Self>> {
        let chunk = arena.allocate(LEN.min(arena.len() / 64))?;
        Some(Arc::new(Self { arena: arena.clone(), chunk, released: Mutex::default() }))
    }

    pub(crate) fn range(&self) -> (usize, usize) {
        (self.chunk.offset(), self.chunk.len())
    }

    /// A tensor that the worker put at `offset` and lends until it is dropped here.
    pub(crate) fn borrow(self: &Arc<Self>, offset: usize, len: usize) -> Option<Bytes> {
        let (start, span_len) = self.range();
        let inside = offset >= start && offset.checked_add(len)? <= start + span_len;
        let lent = Lent { span: self.clone(), offset: offset as u64 };
        if inside { self.arena.borrow(offset, len, lent) } else { None }
    }

    /// Takes what has been released since the last call.
    pub(crate) fn take_released(&self) -> Vec<u64> {
        std::mem::take(&mut *self.released.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Lent {
    span: Arc<Span>,
    offset: u64,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut released = self.span.released.lock().unwrap_or_else(PoisonError::into_inner);
        released.push(self.offset);
    }
}
