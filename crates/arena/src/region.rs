//! Shared memory that a client has made, mapped once.
//!
//! The same agreement as in the arena: a client does not write to what it has sent in a request
//! before the answer is there, and does not read what is to be answered before that either. One
//! that does sees mixed numbers in its own tensors, and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use bytes::Bytes;
use rustix::fs::{Mode, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::shm::{self, OFlags};

use crate::guard;

/// A range of a POSIX shared memory object. It stays mapped as long as somebody holds a slice.
pub struct ClientRegion {
    object: OwnedFd,
    /// Where the mapping starts in the object: on a page.
    object_offset: usize,
    address: *mut u8,
    /// Of the mapping.
    mapped: usize,
    /// Where the range starts in the mapping.
    start: usize,
    len: usize,
    location: u64,
    /// To be told when it goes.
    watchers: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

/// What another process needs to map a region.
#[derive(Clone, Copy, Debug)]
pub struct RegionFile {
    /// Of the mapping's start; no other region of this process ever has the same locations, and no
    /// offset in the arena is as high.
    pub location: u64,
    pub len: usize,
    /// A descriptor of this process, and where the mapping starts in its file.
    pub descriptor: RawFd,
    pub offset: usize,
}

/// Locations of regions start here.
static NEXT_LOCATION: AtomicU64 = AtomicU64::new(1 << 60);

/// The regions that are mapped, by address.
static MAPPED: RwLock<BTreeMap<usize, Mapped>> = RwLock::new(BTreeMap::new());

struct Mapped {
    len: usize,
    /// Some of its pages had to be replaced, because they were gone.
    given_up: AtomicBool,
    region: Weak<ClientRegion>,
}

/// Notes that pages of a region are gone, if there is one at `address`. Called in a signal handler.
pub(crate) fn give_up_region_at(address: usize) -> bool {
    let mapped = MAPPED.read().unwrap_or_else(PoisonError::into_inner);
    match mapped.range(..=address).next_back() {
        Some((start, found)) if address - start < found.len => {
            found.given_up.store(true, Ordering::Relaxed);
            true
        }
        _ => false,
    }
}

/// The region in which `bytes` lie, if they are a client's, and their location.
pub fn region_of(bytes: &[u8]) -> Option<(Arc<ClientRegion>, u64)> {
    let address = bytes.as_ptr() as usize;
    let mapped = MAPPED.read().unwrap_or_else(PoisonError::into_inner);
    let (&start, found) = mapped.range(..=address).next_back()?;
    let region = found.region.upgrade()?;
    drop(mapped);
    let at = address - start;
    (at + bytes.len() <= region.mapped).then(|| (region.clone(), region.location + at as u64))
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
    pub fn open(key: &str, offset: usize, len: usize) -> Result<Arc<Self>, RegionError> {
        let opened = shm::open(key, OFlags::RDWR, Mode::empty());
        let object = opened.map_err(|error| RegionError::Open(error.into()))?;
        let size = size(&object).map_err(RegionError::Open)?;
        let end = offset.checked_add(len).ok_or(RegionError::Range)?;
        if len == 0 || end > size {
            return Err(RegionError::Range);
        }
        // A mapping starts on a page; the range may start anywhere.
        let page = rustix::param::page_size();
        let start = offset % page;
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
        let address: *mut u8 = address.map_err(|error| RegionError::Map(error.into()))?.cast();
        // To the end of its last page: what lies behind that belongs to somebody else.
        let room = mapped.next_multiple_of(page);
        let region = Arc::new(Self {
            object,
            object_offset: offset - start,
            address,
            mapped,
            start,
            len,
            location: NEXT_LOCATION.fetch_add(room as u64, Ordering::Relaxed),
            watchers: Mutex::default(),
        });
        guard::set_up();
        let found =
            Mapped { len: room, given_up: AtomicBool::new(false), region: Arc::downgrade(&region) };
        let mut known = MAPPED.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(address as usize, found);
        drop(known);
        Ok(region)
    }

    /// Whether its object has reached as far as it did all the time, as far as can be known.
    pub fn is_whole(&self) -> bool {
        let mapped = MAPPED.read().unwrap_or_else(PoisonError::into_inner);
        let found = mapped.get(&(self.address as usize));
        found.is_some_and(|found| !found.given_up.load(Ordering::Relaxed))
            && size(&self.object).is_ok_and(|size| size >= self.object_offset + self.mapped)
    }

    pub fn file(&self) -> RegionFile {
        RegionFile {
            location: self.location,
            len: self.mapped,
            descriptor: self.object.as_raw_fd(),
            offset: self.object_offset,
        }
    }

    /// Calls `gone` when the last slice has been dropped, too.
    pub fn watch(&self, gone: impl FnOnce() + Send + 'static) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(gone));
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

fn size(object: &OwnedFd) -> io::Result<usize> {
    Ok(usize::try_from(fstat(object)?.st_size).unwrap_or(0))
}

impl Drop for ClientRegion {
    fn drop(&mut self) {
        let mut known = MAPPED.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(self.address as usize));
        drop(known);
        let watchers = self.watchers.get_mut().unwrap_or_else(PoisonError::into_inner);
        watchers.drain(..).for_each(|gone| gone());
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
        let region = ClientRegion::open(&object.0, 5000, 100).unwrap();
        let whole = ClientRegion::open(&object.0, 0, 10_000).unwrap();
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
        let region = ClientRegion::open(&object.0, 0, 16).unwrap();
        assert!(region.bytes(10, 7).is_none() && region.bytes(usize::MAX, 2).is_none());
        assert!(!region.write(15, [Bytes::from("ab")].iter()));
        let missing = ClientRegion::open("/nereid-test-nothing", 0, 1);
        assert!(matches!(missing, Err(RegionError::Open(_))));
    }
    #[test]
    fn bytes_of_clients_are_known_by_their_location() {
        let object = Object::new("location", 20_000);
        let region = ClientRegion::open(&object.0, 5000, 100).unwrap();
        let other = ClientRegion::open(&object.0, 0, 20_000).unwrap();
        let bytes = region.bytes(10, 50).unwrap();
        let (found, location) = region_of(&bytes).unwrap();
        assert!(Arc::ptr_eq(&found, &region));
        let file = region.file();
        assert_eq!(location - file.location + file.offset as u64, 5010);
        assert!(file.location.abs_diff(other.file().location) >= 4096, "no two are the same");
        assert!(region_of(&[1, 2]).is_none());
    }

    #[test]
    fn a_region_tells_when_it_goes() {
        let object = Object::new("goes", 4096);
        let region = ClientRegion::open(&object.0, 0, 4096).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        region.watch(move || tell.send(()).unwrap());
        let kept = region.bytes(0, 8).unwrap();
        drop(region);
        assert!(told.try_recv().is_err());
        drop(kept);
        assert!(told.try_recv().is_ok());
    }

    #[test]
    fn an_object_that_was_cut_is_noticed() {
        let object = Object::new("cut", 8192);
        let region = ClientRegion::open(&object.0, 0, 8192).unwrap();
        assert!(region.is_whole());
        let opened = shm::open(&*object.0, OFlags::RDWR, Mode::empty()).unwrap();
        rustix::fs::ftruncate(&opened, 4096).unwrap();
        assert!(!region.is_whole());
    }

    #[test]
    fn pages_that_are_gone_are_zeros_and_the_region_is_done_with() {
        let object = Object::new("gone", 3 * 4096);
        let region = ClientRegion::open(&object.0, 0, 3 * 4096).unwrap();
        assert!(region.write(0, [Bytes::from(vec![7; 3 * 4096])].iter()));
        let bytes = region.bytes(0, 3 * 4096).unwrap();
        let opened = shm::open(&*object.0, OFlags::RDWR, Mode::empty()).unwrap();
        rustix::fs::ftruncate(&opened, 4096).unwrap();
        assert_eq!((bytes[0], bytes[4096], bytes[3 * 4096 - 1]), (7, 0, 0));
        assert!(region.write(8192, [Bytes::from("ab")].iter()), "nowhere, but nothing happens");
        rustix::fs::ftruncate(&opened, 3 * 4096).unwrap();
        assert!(!region.is_whole(), "its pages are not the object's any more");
    }
}
