//! One range of memory that the server shares with its worker processes.
//!
//! The arena is an anonymous file (memfd), mapped once by the server and once by every worker, so
//! that a tensor is handed over as an offset. It has no name: nothing appears in /dev/shm, nothing
//! is left behind by a crash, and a container needs no `--shm-size`. The file is sparse: its size
//! is address space, and only pages that were written to cost memory.
//!
//! A chunk belongs to one owner at a time, by agreement between the server and its workers: who
//! holds a chunk may write it, and gives it away only when done writing. That agreement is what
//! makes the slices handed out here sound; the server itself never writes a chunk it has shared.

mod classes;
mod copy;
mod guard;
mod left;
mod mapping;
mod region;

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use classes::FreeLists;
pub use left::exceeds_memory;
use mapping::Mapping;
pub use region::{ClientRegion, RegionError, RegionFile, region_of};

/// Tensors of at least this size are worth a place in the arena; smaller ones are copied along.
pub const ARENA_THRESHOLD: usize = 64 << 10;

/// Chunks start on a cache line.
pub const ALIGNMENT: usize = 64;

/// Shared memory of this process and its workers. Cheap to clone.
#[derive(Clone)]
pub struct Arena(Arc<Inner>);

struct Inner {
    mapping: Mapping,
    free: Mutex<FreeLists>,
}

impl Arena {
    /// Reserves address space; memory is taken page by page when it is written to.
    pub fn new() -> std::io::Result<Self> {
        let mapping = Mapping::reserve()?;
        let free = Mutex::new(FreeLists::new(mapping.len()));
        Ok(Self(Arc::new(Inner { mapping, free })))
    }

    /// Size of the mapping, the same in every process.
    pub fn len(&self) -> usize {
        self.0.mapping.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file behind the arena, for a worker to map.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.0.mapping.file()
    }

    /// A chunk of at least `len` bytes with unspecified contents; `None` when the arena is full.
    pub fn allocate(&self, len: usize) -> Option<Chunk> {
        let (offset, capacity) = self.0.free().take(len)?;
        Some(Chunk { arena: self.clone(), offset, capacity, len })
    }

    /// Bytes of the chunks that are taken.
    pub fn in_use(&self) -> usize {
        self.0.free().in_use()
    }

    /// Where `bytes` lies in the arena, if it does.
    pub fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
        let offset = (bytes.as_ptr() as usize).checked_sub(self.0.mapping.address())?;
        (offset.checked_add(bytes.len())? <= self.len()).then_some(offset)
    }

    /// The bytes at `offset`, kept alive by `owner`; `None` if they are not all inside the arena.
    ///
    /// `owner` stands for whatever promises that nobody reuses the range: a chunk that a worker
    /// lent, for example, with a message in its `Drop`.
    pub fn borrow<O: Send + Sync + 'static>(
        &self,
        offset: usize,
        len: usize,
        owner: O,
    ) -> Option<Bytes> {
        let end = offset.checked_add(len)?;
        (end <= self.len()).then(|| {
            Bytes::from_owner(Borrowed { arena: self.clone(), offset, len, _owner: owner })
        })
    }
}

impl Inner {
    fn free(&self) -> MutexGuard<'_, FreeLists> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Arena {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file()
    }
}

/// A piece of the arena that this process owns and may write.
pub struct Chunk {
    arena: Arena,
    offset: usize,
    capacity: usize,
    len: usize,
}

impl Chunk {
    /// Where it starts in the arena.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Writes `bytes` to `at`; where they end, or nothing if there is no room for them.
    pub fn put(&mut self, at: usize, bytes: &[u8]) -> Option<usize> {
        let end = at.checked_add(bytes.len())?;
        copy::copy_unaligned(self.get_mut(at..end)?, bytes);
        Some(end)
    }

    /// Ends the writing: from here on the chunk is shared and only read.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.arena.0.mapping.slice(self.offset, self.len)
    }
}

impl DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        let pointer = self.arena.0.mapping.pointer(self.offset, self.len);
        // SAFETY: the range lies in the mapping, which lives as long as `self.arena`; the free
        // lists gave it to this chunk alone, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(pointer, self.len) }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let surplus = self.arena.0.free().give_back(self.offset, self.capacity);
        if let Some((offset, len)) = surplus {
            self.arena.0.mapping.return_pages(offset, len);
        }
    }
}

struct Borrowed<O> {
    arena: Arena,
    offset: usize,
    len: usize,
    _owner: O,
}

impl<O> AsRef<[u8]> for Borrowed<O> {
    fn as_ref(&self) -> &[u8] {
        self.arena.0.mapping.slice(self.offset, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again_by_its_offset() {
        let arena = Arena::new().unwrap();
        let mut chunk = arena.allocate(100_000).unwrap();
        chunk.fill(7);
        let offset = chunk.offset();
        let bytes = chunk.freeze();
        assert_eq!(arena.offset_of(&bytes[10..]), Some(offset + 10));
        assert_eq!(arena.offset_of(&[1, 2, 3]), None);
        let again = arena.borrow(offset, 100_000, bytes).unwrap();
        assert!(again.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn what_has_no_room_in_a_chunk_is_not_written() {
        let mut chunk = Arena::new().unwrap().allocate(4).unwrap();
        chunk.fill(0);
        assert_eq!(chunk.put(1, &[1, 2]), Some(3));
        assert_eq!(chunk.put(3, &[3, 4]), None);
        assert_eq!(chunk.put(usize::MAX, &[5]), None);
        assert_eq!(*chunk, [0, 1, 2, 0]);
    }

    #[test]
    fn a_dropped_chunk_is_used_again() {
        let arena = Arena::new().unwrap();
        let first = arena.allocate(1 << 20).unwrap().offset();
        assert_eq!(arena.allocate(1 << 20).unwrap().offset(), first);
    }

    #[test]
    fn nothing_outside_can_be_borrowed() {
        let arena = Arena::new().unwrap();
        assert!(arena.borrow(arena.len() - 1, 2, ()).is_none());
        assert!(arena.borrow(usize::MAX, 2, ()).is_none());
        assert!(arena.allocate(arena.len() + 1).is_none());
    }
}
