//! Survives clients that make the object of a region smaller while this process looks at it.
//!
//! To touch a page that has no file behind it any more is a fault, which ends a process that does
//! nothing about it. Here such a page is replaced by one of zeros, and its region is not used again:
//! the client gets nonsense for an answer, and nobody else notices.

use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::sync::OnceLock;

use libc::{SA_ONSTACK, SA_SIGINFO, SIGBUS, c_int, c_void, sigaction, siginfo_t};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::region::give_up_region_at;

/// What was done about the fault before.
static BEFORE: OnceLock<Before> = OnceLock::new();

struct Before(sigaction);

// SAFETY: a plain value that is only read.
unsafe impl Send for Before {}
// SAFETY: as above.
unsafe impl Sync for Before {}

/// Guards this process from here on.
pub(crate) fn set_up() {
    BEFORE.get_or_init(|| {
        // SAFETY: all zeros is a valid `sigaction`, whose fields are set as its interface has it;
        // the handler only does what is allowed in one.
        unsafe {
            let mut action: sigaction = zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = SA_SIGINFO | SA_ONSTACK;
            let mut before = MaybeUninit::zeroed();
            sigaction(SIGBUS, &action, before.as_mut_ptr());
            Before(before.assume_init())
        }
    });
}

/// Runs in the thread that faulted. It takes a lock, which is never held by who touches a client's
/// memory, and makes system calls; nothing is allocated.
extern "C" fn on_fault(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes what the interface promises.
    let address = unsafe { (*info).si_addr() } as usize;
    if give_up_region_at(address) && replace_page(address) {
        return;
    }
    if let Some(Before(before)) = BEFORE.get() {
        // SAFETY: puts back what was there; the fault happens again and goes to it.
        unsafe { sigaction(SIGBUS, before, ptr::null_mut()) };
    }
}

fn replace_page(address: usize) -> bool {
    let page = rustix::param::page_size();
    let start = (address - address % page) as *mut c_void;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the page belongs to the mapping of a region, and had nothing in it.
    unsafe { mmap_anonymous(start, page, access, MapFlags::PRIVATE | MapFlags::FIXED) }.is_ok()
}
