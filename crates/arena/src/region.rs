//! Shared memory that a client has made, mapped once.
//!
//! The same agreement as in the arena: a client does not write to what it has sent in a request
//! before the answer is there, and does not read what is to be answered before that either. One
//! that does sees mixed numbers in its own tensors, and nothing else.

use std::io;
use std::ptr;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Mode, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::shm::{self, OFlags};

/// A range of a POSIX shared memory object. It stays mapped as long as somebody holds a slice.
pub struct ClientRegion {
    address: *mut u8,
    /// Of the mapping, which starts on a page.
    mapped: usize,
    /// Where the range starts in the mapping.
    start: usize,
    len: usize,
}

/// Why a region cannot be had.
#[derive(Debug)]
pub enum RegionError {
    /// There is no such object, or it may not be opened.
    Open(io::Error),
    /// The range is not inside the object, or empty.
    Range,
    Map(io::Error),
}

// SAFETY: plain memory that lives until the value is dropped; who may touch it when is the
// agreement described above.
unsafe impl Send for ClientRegion {}
// SAFETY: as above.
unsafe impl Sync for ClientRegion {}

impl ClientRegion {
    /// Maps `len` bytes at `offset` of the object `key`.
    pub fn open(key: &str, offset: usize, len: usize) -> Result<Self, RegionError> {
        let opened = shm::open(key, OFlags::RDWR, Mode::empty());
        let object = opened.map_err(|error| RegionError::Open(error.into()))?;
        let size = fstat(&object).map_err(|error| RegionError::Open(error.into()))?.st_size;
        let end = offset.checked_add(len).ok_or(RegionError::Range)?;
        if len == 0 || usize::try_from(size).is_ok_and(|size| end > size) {
            return Err(RegionError::Range);
        }
        // A mapping starts on a page; the range may start anywhere.
        let start = offset % rustix::param::page_size();
        let mapped = start + len;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                mapped,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &object,
                (offset - start) as u64,
            )
        };
        let address = address.map_err(|error| RegionError::Map(error.into()))?.cast();
        Ok(Self { address, mapped, start, len })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of a range, where they are; `None` if it is not inside the region.
    pub fn bytes(self: &Arc<Self>, offset: usize, len: usize) -> Option<Bytes> {
        let pointer = self.pointer(offset, len)?;
        Some(Bytes::from_owner(Slice { pointer, len, _region: self.clone() }))
    }

    /// Writes the pieces one behind the other; `false` if they do not fit.
    pub fn write<'a>(&self, offset: usize, pieces: impl Iterator<Item = &'a Bytes>) -> bool {
        let mut at = offset;
        for piece in pieces {
            let Some(target) = self.pointer(at, piece.len()) else { return false };
            // SAFETY: the range is inside the mapping. The pieces may lie in this very region, so
            // this copy allows the two to overlap.
            unsafe { ptr::copy(piece.as_ptr(), target, piece.len()) };
            at += piece.len();
        }
        true
    }

    fn pointer(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: just checked to stay inside the one mapping.
        (end <= self.len).then(|| unsafe { self.address.add(self.start + offset) })
    }
}

impl Drop for ClientRegion {
    fn drop(&mut self) {
        // SAFETY: every slice holds the region, so nothing refers to the mapping any more.
        let _ = unsafe { munmap(self.address.cast(), self.mapped) };
    }
}

struct Slice {
    pointer: *const u8,
    len: usize,
    _region: Arc<ClientRegion>,
}

// SAFETY: a view of memory that the region keeps mapped.
unsafe impl Send for Slice {}
// SAFETY: as above.
unsafe impl Sync for Slice {}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: inside the mapping, which lives as long as `_region`.
        unsafe { std::slice::from_raw_parts(self.pointer, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Object(String);

    impl Object {
        fn new(name: &str, len: u64) -> Self {
            let key = format!("/nereid-test-{name}-{}", std::process::id());
            let flags = OFlags::RDWR | OFlags::CREATE;
            let object = shm::open(&*key, flags, Mode::RUSR | Mode::WUSR).unwrap();
            rustix::fs::ftruncate(&object, len).unwrap();
            Self(key)
        }
    }

    impl Drop for Object {
        fn drop(&mut self) {
            let _ = shm::unlink(&*self.0);
        }
    }

    #[test]
    fn what_is_written_is_read_in_place() {
        let object = Object::new("place", 10_000);
        let region = Arc::new(ClientRegion::open(&object.0, 5000, 100).unwrap());
        let whole = Arc::new(ClientRegion::open(&object.0, 0, 10_000).unwrap());
        assert!(region.write(10, [Bytes::from("ab"), Bytes::from("c")].iter()));
        assert_eq!(whole.bytes(5010, 3).unwrap(), "abc");
        let kept = region.bytes(10, 3).unwrap();
        drop(region);
        assert_eq!(kept, "abc", "a slice keeps the region");
    }

    #[test]
    fn nothing_outside_is_touched() {
        let object = Object::new("outside", 4096);
        for (offset, len) in [(0, 4097), (4096, 1), (usize::MAX, 2), (0, 0)] {
            let opened = ClientRegion::open(&object.0, offset, len);
            assert!(matches!(opened, Err(RegionError::Range)), "{offset} {len}");
        }
        let region = Arc::new(ClientRegion::open(&object.0, 0, 16).unwrap());
        assert!(region.bytes(10, 7).is_none() && region.bytes(usize::MAX, 2).is_none());
        assert!(!region.write(15, [Bytes::from("ab")].iter()));
        let missing = ClientRegion::open("/nereid-test-nothing", 0, 1);
        assert!(matches!(missing, Err(RegionError::Open(_))));
    }
}
