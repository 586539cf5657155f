//! The anonymous file behind an arena and its mapping into this process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Address space to try for, halved until the system agrees (`ulimit -v`, small machines).
const LARGEST: usize = 1 << 40;
const SMALLEST: usize = 1 << 30;

pub(crate) struct Mapping {
    file: OwnedFd,
    address: *mut u8,
    len: usize,
}

// SAFETY: the mapping is plain memory that lives until `Mapping` is dropped; who may touch which
// part of it is decided by the chunks handed out over it.
unsafe impl Send for Mapping {}
// SAFETY: as above; `Mapping` itself has no state that changes.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn reserve() -> io::Result<Self> {
        // Workers inherit the descriptor on purpose, where they are started: not otherwise.
        let file = memfd_create("nereid-arena", MemfdFlags::CLOEXEC)?;
        let mut len = LARGEST;
        loop {
            match Self::map(&file, len) {
                Ok(address) => return Ok(Self { file, address, len }),
                Err(error) if len <= SMALLEST => return Err(error),
                Err(_) => len /= 2,
            }
        }
    }

    fn map(file: &OwnedFd, len: usize) -> io::Result<*mut u8> {
        ftruncate(file, len as u64)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                0,
            )?
        };
        Ok(address.cast())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn address(&self) -> usize {
        self.address as usize
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// # Panics
    /// If the range is not inside the mapping: a defect of the allocator, not of any input.
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "range outside arena");
        // SAFETY: just checked to stay inside the one mapping.
        unsafe { self.address.add(offset) }
    }

    pub(crate) fn slice(&self, offset: usize, len: usize) -> &[u8] {
        // SAFETY: inside the mapping, initialised (the kernel zeroes new pages), and not written
        // while shared, by the agreement described at the top of the crate.
        unsafe { std::slice::from_raw_parts(self.pointer(offset, len), len) }
    }

    /// Gives the memory of a range back to the system; it reads as zeros from then on.
    pub(crate) fn return_pages(&self, offset: usize, len: usize) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // A failure only means that the memory stays in use until the range is used again.
        let _ = fallocate(&self.file, flags, offset as u64, len as u64);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more: chunks and borrows keep the arena alive.
        let _ = unsafe { munmap(self.address.cast(), self.len) };
    }
}
