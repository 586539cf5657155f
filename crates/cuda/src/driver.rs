//! NVIDIA's driver, by its C interface.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use bytes::Bytes;
use libloading::{Library, Symbol};

use nereid_inference::DEVICE_HANDLE_SIZE;

type Status = c_int;
type Device = c_int;
type Context = *mut c_void;
type DevicePointer = u64;

/// Passed by value, as the interface has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct IpcHandle([c_char; DEVICE_HANDLE_SIZE]);

/// Lets other GPUs of this machine reach the memory.
const LAZY_ENABLE_PEER_ACCESS: c_uint = 1;

/// The functions that are used. They live as long as the process.
struct Driver {
    devices: usize,
    error_name: unsafe extern "C" fn(Status, *mut *const c_char) -> Status,
    device_get: unsafe extern "C" fn(*mut Device, c_int) -> Status,
    context_retain: unsafe extern "C" fn(*mut Context, Device) -> Status,
    context_set: unsafe extern "C" fn(Context) -> Status,
    ipc_open: unsafe extern "C" fn(*mut DevicePointer, IpcHandle, c_uint) -> Status,
    ipc_close: unsafe extern "C" fn(DevicePointer) -> Status,
    range: unsafe extern "C" fn(*mut DevicePointer, *mut usize, DevicePointer) -> Status,
    to_host: unsafe extern "C" fn(*mut c_void, DevicePointer, usize) -> Status,
    to_device: unsafe extern "C" fn(DevicePointer, *const c_void, usize) -> Status,
}

fn driver() -> Option<&'static Driver> {
    static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();
    DRIVER.get_or_init(load).as_ref()
}

/// The driver, if there is one and it knows a GPU.
fn load() -> Option<Driver> {
    // SAFETY: the driver's library runs nothing of ours when it is loaded, and stays loaded.
    let library: &'static Library =
        Box::leak(Box::new(unsafe { Library::new("libcuda.so.1") }.ok()?));
    /// A function of the driver under its name there.
    ///
    /// # Safety
    /// `T` must be the type that the driver's header gives the function.
    unsafe fn find<T: Copy + 'static>(library: &'static Library, name: &str) -> Option<T> {
        // SAFETY: the caller's.
        let symbol: Symbol<'static, T> = unsafe { library.get(name.as_bytes()) }.ok()?;
        Some(*symbol)
    }
    // SAFETY: the types are those of cuda.h.
    let (init, count): (
        unsafe extern "C" fn(c_uint) -> Status,
        unsafe extern "C" fn(*mut c_int) -> Status,
    ) = unsafe { (find(library, "cuInit")?, find(library, "cuDeviceGetCount")?) };
    let mut devices = 0;
    // SAFETY: `devices` outlives the call.
    let ready = unsafe { init(0) == 0 && count(&mut devices) == 0 };
    let devices = usize::try_from(devices).ok().filter(|&devices| ready && devices > 0)?;
    // SAFETY: as above.
    Some(unsafe {
        Driver {
            devices,
            error_name: find(library, "cuGetErrorName")?,
            device_get: find(library, "cuDeviceGet")?,
            context_retain: find(library, "cuDevicePrimaryCtxRetain")?,
            context_set: find(library, "cuCtxSetCurrent")?,
            ipc_open: find(library, "cuIpcOpenMemHandle_v2")?,
            ipc_close: find(library, "cuIpcCloseMemHandle")?,
            range: find(library, "cuMemGetAddressRange_v2")?,
            to_host: find(library, "cuMemcpyDtoH_v2")?,
            to_device: find(library, "cuMemcpyHtoD_v2")?,
        }
    })
}

/// How many GPUs there are.
pub fn device_count() -> usize {
    driver().map_or(0, |driver| driver.devices)
}

/// Memory of a GPU, for as long as this value lives.
pub struct CudaRegion {
    driver: &'static Driver,
    context: Context,
    pointer: DevicePointer,
    len: usize,
}

// SAFETY: contexts and device pointers may be used by any thread that makes the context current.
unsafe impl Send for CudaRegion {}
// SAFETY: as above; the driver orders copies.
unsafe impl Sync for CudaRegion {}

impl CudaRegion {
    pub fn open(
        handle: &[u8; DEVICE_HANDLE_SIZE],
        device: i32,
        len: usize,
    ) -> Result<Self, String> {
        let driver = driver().ok_or("GPUs not supported")?;
        let (mut gpu, mut context, mut pointer) = (0, ptr::null_mut(), 0);
        let handle = IpcHandle(handle.map(|byte| byte as c_char));
        // SAFETY: each call gets places that outlive it, and what those before it have made.
        unsafe {
            driver.check((driver.device_get)(&mut gpu, device))?;
            driver.check((driver.context_retain)(&mut context, gpu))?;
            driver.check((driver.context_set)(context))?;
            driver.check((driver.ipc_open)(&mut pointer, handle, LAZY_ENABLE_PEER_ACCESS))?;
        }
        let region = Self { driver, context, pointer, len };
        let (mut base, mut size) = (0, 0);
        // SAFETY: the memory is open.
        driver.check(unsafe { (driver.range)(&mut base, &mut size, pointer) })?;
        let left = (base + size as u64).saturating_sub(pointer);
        if len == 0 || len as u64 > left {
            return Err("invalid args".to_owned());
        }
        Ok(region)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A copy of a range.
    pub fn read(&self, offset: usize, len: usize) -> Result<Bytes, String> {
        let from = self.place(offset, len)?;
        let mut bytes: Vec<u8> = Vec::with_capacity(len);
        // SAFETY: `len` bytes are written into room for as many, which then are there.
        unsafe {
            self.driver.check((self.driver.context_set)(self.context))?;
            self.driver.check((self.driver.to_host)(bytes.as_mut_ptr().cast(), from, len))?;
            bytes.set_len(len);
        }
        Ok(bytes.into())
    }

    /// Writes the pieces one behind the other.
    pub fn write<'a>(
        &self,
        offset: usize,
        pieces: impl Iterator<Item = &'a Bytes>,
    ) -> Result<(), String> {
        let mut at = offset;
        for piece in pieces {
            let to = self.place(at, piece.len())?;
            // SAFETY: the piece is read to its end, and the range is inside the region.
            unsafe {
                self.driver.check((self.driver.context_set)(self.context))?;
                let from = piece.as_ptr().cast();
                self.driver.check((self.driver.to_device)(to, from, piece.len()))?;
            }
            at += piece.len();
        }
        Ok(())
    }

    fn place(&self, offset: usize, len: usize) -> Result<DevicePointer, String> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        inside.then_some(self.pointer + offset as u64).ok_or_else(|| "invalid args".to_owned())
    }
}

impl Drop for CudaRegion {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, and nobody holds it any more. The context stays: it is the
        // process's, and others may be using it.
        unsafe {
            (self.driver.context_set)(self.context);
            (self.driver.ipc_close)(self.pointer);
        }
    }
}

impl Driver {
    fn check(&self, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        let mut name = ptr::null();
        // SAFETY: the name is a constant of the driver's.
        let name = unsafe {
            match (self.error_name)(status, &mut name) {
                0 if !name.is_null() => CStr::from_ptr(name).to_string_lossy().into_owned(),
                _ => format!("CUDA error {status}"),
            }
        };
        Err(name)
    }
}
