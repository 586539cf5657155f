//! The compiled shim, opened: safe calls over its C interface. All `unsafe` of the crate is here.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use bytes::Bytes;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY, RTLD_NOW, Symbol};

/// `NereidTensor` of the shim.
#[repr(C)]
struct RawTensor {
    data: *const c_void,
    bytes: i64,
    shape: *const i64,
    name: *const c_char,
    ndim: i32,
    scalar_type: i32,
    copy: i32,
}

/// `NereidOptions` of the shim: how a module is run. -1 leaves libtorch's default.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) inference_mode: i32,
    pub(crate) optimized: i32,
    pub(crate) dict_input: i32,
    pub(crate) jit_profiling: i32,
    pub(crate) jit_executor: i32,
    pub(crate) tensor_fuser: i32,
}

/// The shim's number for an input that was not sent.
const ABSENT: i32 = -2;

type Text = *mut c_char;

/// The shim's functions. The library is never closed: libtorch does not survive being unloaded.
pub(crate) struct Shim {
    load: unsafe extern "C" fn(*const c_char, i32, *mut *mut c_void) -> Text,
    unload: unsafe extern "C" fn(*mut c_void),
    describe: unsafe extern "C" fn(*mut c_void, *mut Text) -> Text,
    forward: unsafe extern "C" fn(
        *mut c_void,
        *const Options,
        *const RawTensor,
        i32,
        *mut *mut c_void,
        *mut i32,
    ) -> Text,
    output: unsafe extern "C" fn(*mut c_void, i32, *mut RawTensor),
    outputs_free: unsafe extern "C" fn(*mut c_void),
    free: unsafe extern "C" fn(*mut c_void),
    threads: unsafe extern "C" fn(i32, i32) -> Text,
}

/// Opens a library that others will need, for the rest of the process.
pub(crate) fn open_dependency(path: &Path) -> Result<(), String> {
    // Lazily: what a stand-in lacks is only missed where it is called.
    // SAFETY: running the initialisers of libtorch, or of a library that it asks for, is what
    // every program that links with it does.
    let library = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL) };
    library.map(std::mem::forget).map_err(|error| reason(&error))
}

/// The dynamic linker's own words.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl Shim {
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, String> {
        let failed = |error: libloading::Error| reason(&error);
        // SAFETY: the library is the one that `compile` made from `shim/torch_shim.cpp`; opening
        // it runs nothing but the initialisers of libtorch.
        let library = unsafe { Library::open(Some(path), RTLD_NOW) }.map_err(failed)?;
        // SAFETY: names and signatures are those of `shim/torch_shim.cpp`, and the library stays
        // open, so that the functions outlive the symbols they are copied from.
        let shim = unsafe {
            Self {
                load: *symbol(&library, "nereid_load")?,
                unload: *symbol(&library, "nereid_unload")?,
                describe: *symbol(&library, "nereid_describe")?,
                forward: *symbol(&library, "nereid_forward")?,
                output: *symbol(&library, "nereid_output")?,
                outputs_free: *symbol(&library, "nereid_outputs_free")?,
                free: *symbol(&library, "nereid_free")?,
                threads: *symbol(&library, "nereid_threads")?,
            }
        };
        std::mem::forget(library);
        Ok(Arc::new(shim))
    }

    /// Sets the sizes of libtorch's thread pools, which the process has once; 0 leaves one alone.
    pub(crate) fn set_threads(&self, intra_op: i32, inter_op: i32) -> Result<(), String> {
        // SAFETY: takes two numbers, touches no memory of ours.
        let error = unsafe { (self.threads)(intra_op, inter_op) };
        self.check(error)
    }

    fn check(&self, error: Text) -> Result<(), String> {
        self.take_text(error).map_or(Ok(()), Err)
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

/// # Safety
/// `T` must be the type of the function `name`, and `library` must stay open.
unsafe fn symbol<T>(library: &Library, name: &str) -> Result<Symbol<T>, String> {
    // SAFETY: as the caller promises.
    unsafe { library.get(name.as_bytes()) }.map_err(|error| reason(&error))
}

/// A loaded TorchScript module.
pub(crate) struct Module {
    shim: Arc<Shim>,
    handle: *mut c_void,
}

// SAFETY: a module is not bound to the thread that loaded it.
unsafe impl Send for Module {}
// SAFETY: the handle is only used by `describe` and `forward`, which libtorch allows from several
// threads. Modules that set their attributes are not shared (see `model`).
unsafe impl Sync for Module {}

/// One argument for [`Module::forward`].
pub(crate) enum Argument<'a> {
    Absent,
    Tensor {
        /// The key, for modules that take a dict.
        name: &'a CStr,
        scalar_type: i32,
        shape: &'a [i64],
        /// As long as `shape` and `scalar_type` say.
        data: &'a [u8],
        /// The module may write to it.
        copy: bool,
    },
}

impl Module {
    pub(crate) fn load(shim: &Arc<Shim>, path: &Path, options: &Options) -> Result<Self, String> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| "a path cannot have a zero byte".to_owned())?;
        let mut handle = ptr::null_mut();
        // SAFETY: a string ended by a zero, and room for the handle.
        let error = unsafe { (shim.load)(path.as_ptr(), options.inference_mode, &mut handle) };
        shim.check(error)?;
        Ok(Self { shim: shim.clone(), handle })
    }

    /// What the shim says about the module, see `nereid_describe`.
    pub(crate) fn describe(&self) -> Result<String, String> {
        let mut description = ptr::null_mut();
        // SAFETY: the handle is alive, and there is room for the text.
        let error = unsafe { (self.shim.describe)(self.handle, &mut description) };
        self.shim.check(error)?;
        Ok(self.shim.take_text(description).unwrap_or_default())
    }

    /// Runs the module.
    pub(crate) fn forward(
        &self,
        options: &Options,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<TorchOutput>, String> {
        let raw: Vec<RawTensor> = arguments.iter().map(RawTensor::from).collect();
        let (mut outputs, mut count) = (ptr::null_mut(), 0);
        // SAFETY: handle, options and tensors are alive for the call, which borrows them; every
        // tensor has the memory that its shape needs (`arguments` of `model` sees to it), and the
        // shim copies those that the module writes to.
        let error = unsafe {
            let length = raw.len() as i32;
            (self.shim.forward)(
                self.handle,
                options,
                raw.as_ptr(),
                length,
                &mut outputs,
                &mut count,
            )
        };
        self.shim.check(error)?;
        let outputs = Arc::new(Outputs { shim: self.shim.clone(), handle: outputs });
        Ok((0..count).map(|index| outputs.clone().output(index)).collect())
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, dropped once.
        unsafe { (self.shim.unload)(self.handle) };
    }
}

impl RawTensor {
    const ABSENT: Self = Self {
        data: ptr::null(),
        bytes: 0,
        shape: ptr::null(),
        name: ptr::null(),
        ndim: 0,
        scalar_type: ABSENT,
        copy: 0,
    };

    fn from(argument: &Argument<'_>) -> Self {
        match *argument {
            Argument::Absent => Self::ABSENT,
            Argument::Tensor { name, scalar_type, shape, data, copy } => Self {
                data: data.as_ptr().cast(),
                bytes: data.len() as i64,
                shape: shape.as_ptr(),
                name: name.as_ptr(),
                ndim: shape.len() as i32,
                scalar_type,
                copy: i32::from(copy),
            },
        }
    }
}

/// One output, in libtorch's memory.
pub(crate) struct TorchOutput {
    pub(crate) scalar_type: i32,
    pub(crate) shape: Vec<i64>,
    pub(crate) data: Bytes,
}

/// The outputs of one run; their memory lives as long as this.
struct Outputs {
    shim: Arc<Shim>,
    handle: *mut c_void,
}

// SAFETY: the outputs are only read once they are here, and may be freed by any thread.
unsafe impl Send for Outputs {}
// SAFETY: as above.
unsafe impl Sync for Outputs {}

impl Outputs {
    fn output(self: Arc<Self>, index: i32) -> TorchOutput {
        let mut raw = RawTensor::ABSENT;
        // SAFETY: the index is one of those that `forward` counted, and there is room for it.
        unsafe { (self.shim.output)(self.handle, index, &mut raw) };
        let shape = match raw.ndim {
            0 => Vec::new(),
            // SAFETY: the shape of an output that `self` keeps alive, with this many dimensions.
            ndim => unsafe { std::slice::from_raw_parts(raw.shape, ndim as usize) }.to_vec(),
        };
        let len = usize::try_from(raw.bytes).unwrap_or(0);
        let memory = OutputMemory { _owner: self, data: raw.data.cast(), len };
        let data = if len == 0 { Bytes::new() } else { Bytes::from_owner(memory) };
        TorchOutput { scalar_type: raw.scalar_type, shape, data }
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
        // SAFETY: a contiguous output of this many bytes that nothing else shares (`own_memory`
        // of the shim); its owner is alive.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}
