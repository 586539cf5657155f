//! The compiled shim, opened: safe calls over its C interface.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use bytes::Bytes;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use nereid_backend::GatheredInput;
use nereid_inference::{DataType, Error, Result};

#[repr(C)]
struct RawTensor {
    data: *mut c_void,
    scalar_type: i32,
    ndim: i32,
    shape: *const i64,
}

type Text = *mut c_char;

/// The shim's functions. They live as long as the library, which is never closed: libtorch does
/// not survive being unloaded.
pub(crate) struct Shim {
    load: unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> Text,
    unload: unsafe extern "C" fn(*mut c_void),
    arguments: unsafe extern "C" fn(*mut c_void) -> Text,
    forward: unsafe extern "C" fn(*mut c_void, *const RawTensor, i32, *mut *mut c_void, *mut i32) -> Text,
    output: unsafe extern "C" fn(*mut c_void, i32, *mut RawTensor, *mut i64),
    outputs_free: unsafe extern "C" fn(*mut c_void),
    free: unsafe extern "C" fn(*mut c_void),
    threads: unsafe extern "C" fn(i32),
}

impl Shim {
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>> {
        let failed = |error: libloading::Error| {
            Error::unavailable(format!("{} cannot be opened: {error}", path.display()))
        };
        // SAFETY: the library is the one that `build` compiled; what its initialisers and those
        // of libtorch do is what every program that uses libtorch relies on.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(failed)?;
        // SAFETY: names and signatures are those of `shim/torch_shim.cpp`.
        let shim = unsafe {
            Self {
                load: *library.get(b"nereid_load\0").map_err(failed)?,
                unload: *library.get(b"nereid_unload\0").map_err(failed)?,
                arguments: *library.get(b"nereid_arguments\0").map_err(failed)?,
                forward: *library.get(b"nereid_forward\0").map_err(failed)?,
                output: *library.get(b"nereid_output\0").map_err(failed)?,
                outputs_free: *library.get(b"nereid_outputs_free\0").map_err(failed)?,
                free: *library.get(b"nereid_free\0").map_err(failed)?,
                threads: *library.get(b"nereid_threads\0").map_err(failed)?,
            }
        };
        std::mem::forget(library);
        Ok(Arc::new(shim))
    }

    pub(crate) fn set_threads(&self, count: i32) {
        // SAFETY: takes a number, touches no memory of ours.
        unsafe { (self.threads)(count) };
    }

    /// The text as ours; `None` for a null pointer.
    fn take_text(&self, text: Text) -> Option<String> {
        if text.is_null() {
            return None;
        }
        // SAFETY: not null, so a string that the shim allocated for us and ended with a zero.
        let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: allocated by the shim, not used after this.
        unsafe { (self.free)(text.cast()) };
        Some(copy)
    }
}

/// A loaded TorchScript module. Running it does not change it, so threads may share it.
pub(crate) struct Module {
    shim: Arc<Shim>,
    handle: *mut c_void,
}

// SAFETY: the handle is only used through `forward`, which libtorch allows from any thread.
unsafe impl Send for Module {}
// SAFETY: as above: in evaluation mode `forward` only reads the module.
unsafe impl Sync for Module {}

impl Module {
    pub(crate) fn load(shim: &Arc<Shim>, path: &Path) -> Result<Self> {
        let text = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| Error::invalid_arg("a path cannot have a zero byte"))?;
        let mut handle = ptr::null_mut();
        // SAFETY: a string ended by a zero, and room for the handle.
        let error = unsafe { (shim.load)(text.as_ptr(), &mut handle) };
        match shim.take_text(error) {
            None => Ok(Self { shim: shim.clone(), handle }),
            Some(message) => {
                let first = message.lines().next().unwrap_or_default();
                Err(Error::internal(format!("failed to load {}: {first}", path.display())))
            }
        }
    }

    /// Names of `forward`'s arguments.
    pub(crate) fn arguments(&self) -> Vec<String> {
        // SAFETY: the handle is alive.
        let names = unsafe { (self.shim.arguments)(self.handle) };
        let names = self.shim.take_text(names).unwrap_or_default();
        names.lines().map(str::to_owned).collect()
    }

    /// Runs the module; inputs in the order of its arguments.
    pub(crate) fn forward(&self, inputs: &[&GatheredInput]) -> Result<Vec<TorchOutput>> {
        let raw: Vec<RawTensor> = inputs
            .iter()
            .map(|input| {
                Ok(RawTensor {
                    data: input.data.as_ptr().cast_mut().cast(),
                    scalar_type: scalar_type(input.datatype)?,
                    ndim: input.shape.len() as i32,
                    shape: input.shape.as_ptr(),
                })
            })
            .collect::<Result<_>>()?;
        let (mut outputs, mut count) = (ptr::null_mut(), 0);
        // SAFETY: handle and tensors are alive for the call, which borrows them; a model that
        // writes to its inputs in place would write to memory of its own request only.
        let error = unsafe {
            (self.shim.forward)(self.handle, raw.as_ptr(), raw.len() as i32, &mut outputs, &mut count)
        };
        if let Some(message) = self.shim.take_text(error) {
            return Err(Error::internal(format!("PyTorch execute failure: {message}")));
        }
        let outputs = Arc::new(Outputs { shim: self.shim.clone(), handle: outputs });
        (0..count).map(|index| outputs.clone().tensor(index)).collect()
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, dropped once.
        unsafe { (self.shim.unload)(self.handle) };
    }
}

/// One output, in libtorch's memory.
pub(crate) struct TorchOutput {
    pub(crate) datatype: DataType,
    pub(crate) shape: Vec<i64>,
    pub(crate) data: Bytes,
}

/// The outputs of one run; their memory lives as long as this.
struct Outputs {
    shim: Arc<Shim>,
    handle: *mut c_void,
}

// SAFETY: the outputs are only read once they are here.
unsafe impl Send for Outputs {}
// SAFETY: as above.
unsafe impl Sync for Outputs {}

impl Outputs {
    fn tensor(self: Arc<Self>, index: i32) -> Result<TorchOutput> {
        let mut raw =
            RawTensor { data: ptr::null_mut(), scalar_type: 0, ndim: 0, shape: ptr::null() };
        let mut len = 0;
        // SAFETY: the index is one of those that `forward` counted, and there is room for both.
        unsafe { (self.shim.output)(self.handle, index, &mut raw, &mut len) };
        let shape = match raw.ndim {
            0 => Vec::new(),
            // SAFETY: the shape of a tensor that `self` keeps alive, with this many dimensions.
            ndim => unsafe { std::slice::from_raw_parts(raw.shape, ndim as usize) }.to_vec(),
        };
        let datatype = datatype(raw.scalar_type)?;
        let len = usize::try_from(len).unwrap_or(0);
        let memory = OutputMemory { _owner: self, data: raw.data.cast(), len };
        let data = if len == 0 { Bytes::new() } else { Bytes::from_owner(memory) };
        Ok(TorchOutput { datatype, shape, data })
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        // SAFETY: made once by `forward`, freed once.
        unsafe { (self.shim.outputs_free)(self.handle) };
    }
}

struct OutputMemory {
    _owner: Arc<Outputs>,
    data: *const u8,
    len: usize,
}

// SAFETY: plain memory that nobody writes any more, kept alive by its owner.
unsafe impl Send for OutputMemory {}

impl AsRef<[u8]> for OutputMemory {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a contiguous tensor of this many bytes; its owner is alive.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// libtorch's numbers for element types (`c10::ScalarType`).
const SCALAR_TYPES: [(i32, DataType); 10] = [
    (0, DataType::Uint8),
    (1, DataType::Int8),
    (2, DataType::Int16),
    (3, DataType::Int32),
    (4, DataType::Int64),
    (5, DataType::Fp16),
    (6, DataType::Fp32),
    (7, DataType::Fp64),
    (11, DataType::Bool),
    (15, DataType::Bf16),
];

fn scalar_type(datatype: DataType) -> Result<i32> {
    let found = SCALAR_TYPES.iter().find(|(_, known)| *known == datatype);
    found.map(|(number, _)| *number).ok_or_else(|| {
        Error::unsupported(format!("PyTorch has no tensors of datatype {datatype}"))
    })
}

fn datatype(scalar_type: i32) -> Result<DataType> {
    let found = SCALAR_TYPES.iter().find(|(number, _)| *number == scalar_type);
    found.map(|(_, datatype)| *datatype).ok_or_else(|| {
        Error::internal(format!("the model returned a tensor of PyTorch's type {scalar_type}"))
    })
}
