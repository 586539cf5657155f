//! The part of ONNX Runtime's C interface that `ort`'s own types do not offer: running one session
//! from several threads, on memory of ours.

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use nereid_inference::{DataType, push_bytes_element};
use ort::AsPointer;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::sys::{
    OrtAllocator, OrtAllocatorType, OrtMemType, OrtMemoryInfo, OrtRunOptions, OrtStatusPtr,
    OrtValue,
};

use crate::datatypes::{datatype, element_type};

/// What went wrong, in ONNX Runtime's words.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// A tensor of ONNX Runtime, over its own memory (`'static`) or over memory of ours.
pub(crate) struct Value<'a> {
    raw: NonNull<OrtValue>,
    memory: PhantomData<&'a mut [u8]>,
}

// SAFETY: a value is a handle to memory that belongs to it or is borrowed by it; ONNX Runtime ties
// neither to a thread, and nothing here changes a value through `&`.
unsafe impl Send for Value<'_> {}
// SAFETY: as above.
unsafe impl Sync for Value<'_> {}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` came from ONNX Runtime and is released once.
        unsafe { (ort::api().ReleaseValue)(self.raw.as_ptr()) };
    }
}

impl<'a> Value<'a> {
    /// A tensor that a run reads. `data` holds exactly the elements of `shape`, aligned.
    pub(crate) fn reading(data: &'a [u8], datatype: DataType, shape: &[i64]) -> Result<Self> {
        // SAFETY: runs do not write to their inputs; the memory is borrowed for `'a`.
        unsafe { Self::over(data.as_ptr().cast_mut(), data.len(), datatype, shape) }
    }

    /// A tensor that a run writes to.
    pub(crate) fn writing(data: &'a mut [u8], datatype: DataType, shape: &[i64]) -> Result<Self> {
        // SAFETY: the memory is borrowed for `'a`, by nobody else.
        unsafe { Self::over(data.as_mut_ptr(), data.len(), datatype, shape) }
    }

    /// # Safety
    /// `data` points to `len` bytes that live for `'a`, and may be written to if the value is used
    /// as an output.
    unsafe fn over(data: *mut u8, len: usize, datatype: DataType, shape: &[i64]) -> Result<Self> {
        let memory = memory_info()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the pointers are valid for the call, and the memory is the caller's promise.
        check(unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                memory.as_ptr(),
                data.cast(),
                len,
                shape.as_ptr(),
                shape.len(),
                element_type(datatype),
                &raw mut raw,
            )
        })?;
        Self::from_raw(raw)
    }

    fn from_raw(raw: *mut OrtValue) -> Result<Self> {
        let raw = NonNull::new(raw).ok_or("ONNX Runtime made no tensor")?;
        Ok(Self { raw, memory: PhantomData })
    }

    /// Element type and shape; an error if it is no tensor, or one that no protocol carries.
    pub(crate) fn describe(&self) -> Result<(DataType, Vec<i64>)> {
        let mut is_tensor = 0;
        // SAFETY: `raw` is a valid value.
        check(unsafe { (ort::api().IsTensor)(self.raw.as_ptr(), &raw mut is_tensor) })?;
        if is_tensor == 0 {
            return Err("it is not a tensor".to_owned());
        }
        // A number, not the enum: a newer library may know more types than the enum does.
        let mut element = 0_i32;
        let (mut dims, mut rank) = (ptr::null(), 0);
        // SAFETY: the enum is represented by an i32; the pointers are valid for the call.
        check(unsafe {
            (ort::api().GetTensorElementTypeAndShapeDataReference)(
                self.raw.as_ptr(),
                (&raw mut element).cast(),
                &raw mut dims,
                &raw mut rank,
            )
        })?;
        let datatype = datatype(element)
            .ok_or_else(|| format!("its element type (number {element} in ONNX) is unsupported"))?;
        // SAFETY: `dims` refers to `rank` numbers inside the value; it may be null for rank 0.
        let shape = if rank == 0 { &[][..] } else { unsafe { slice::from_raw_parts(dims, rank) } };
        Ok((datatype, shape.to_vec()))
    }

    /// The bytes of a tensor of numbers with `len` bytes, which is what its description says.
    pub(crate) fn bytes(&self, len: usize) -> Result<&[u8]> {
        let mut data = ptr::null_mut();
        // SAFETY: `raw` is a valid tensor.
        check(unsafe { (ort::api().GetTensorMutableData)(self.raw.as_ptr(), &raw mut data) })?;
        if len == 0 || data.is_null() {
            return Ok(&[]);
        }
        // SAFETY: a tensor's memory is as large as its shape says, and lives as long as it does.
        Ok(unsafe { slice::from_raw_parts(data.cast::<u8>(), len) })
    }

    /// A tensor of `count` strings in the protocol's layout.
    pub(crate) fn strings(&self, count: usize) -> Result<Vec<u8>> {
        let value = self.raw.as_ptr();
        let mut len = 0;
        // SAFETY: `value` is a valid tensor of strings.
        check(unsafe { (ort::api().GetStringTensorDataLength)(value, &raw mut len) })?;
        let (mut content, mut starts) = (vec![0_u8; len], vec![0_usize; count]);
        // SAFETY: both buffers are as large as announced.
        check(unsafe {
            (ort::api().GetStringTensorContent)(
                value,
                content.as_mut_ptr().cast(),
                len,
                starts.as_mut_ptr(),
                count,
            )
        })?;
        let mut laid_out = Vec::with_capacity(len + 4 * count);
        for (index, &start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(len);
            push_bytes_element(&mut laid_out, &content[start..end]);
        }
        Ok(laid_out)
    }
}

impl Value<'static> {
    /// A tensor of strings, copied: ONNX Runtime has its own layout for them.
    pub(crate) fn of_strings(elements: &[&[u8]], shape: &[i64]) -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: the pointers are valid for the call; the default allocator is never released.
        check(unsafe {
            (ort::api().CreateTensorAsOrtValue)(
                default_allocator()?,
                shape.as_ptr(),
                shape.len(),
                element_type(DataType::Bytes),
                &raw mut raw,
            )
        })?;
        let value = Self::from_raw(raw)?;
        for (index, element) in elements.iter().enumerate() {
            let mut place = ptr::null_mut();
            // SAFETY: the tensor was made for these elements; `place` gets room for one of them.
            unsafe {
                check((ort::api().GetResizedStringTensorElementBuffer)(
                    value.raw.as_ptr(),
                    index,
                    element.len(),
                    &raw mut place,
                ))?;
                ptr::copy_nonoverlapping(element.as_ptr(), place.cast(), element.len());
            }
        }
        Ok(value)
    }
}

/// Where an output of a run goes.
pub(crate) enum Output<'a> {
    /// Into memory of ours.
    Into(Value<'a>),
    /// Wherever ONNX Runtime finds a place.
    Anywhere,
}

/// Runs a session. Any number of threads may run the same one. Returns the outputs that were left
/// to ONNX Runtime, at their positions.
pub(crate) fn run(
    session: &Session,
    options: &RunOptions,
    inputs: &[(&CStr, Value<'_>)],
    outputs: &[(&CStr, Output<'_>)],
) -> Result<Vec<Option<Value<'static>>>> {
    let input_names: Vec<_> = inputs.iter().map(|(name, _)| name.as_ptr()).collect();
    let input_values: Vec<_> =
        inputs.iter().map(|(_, value)| value.raw.as_ptr().cast_const()).collect();
    let output_names: Vec<_> = outputs.iter().map(|(name, _)| name.as_ptr()).collect();
    let pointer = |output: &Output| match output {
        Output::Into(value) => value.raw.as_ptr(),
        Output::Anywhere => ptr::null_mut(),
    };
    let mut results: Vec<_> = outputs.iter().map(|(_, output)| pointer(output)).collect();
    // SAFETY: names and values are valid for the call and as many as announced. `Run` is the one
    // call of a session that may be made by several threads at a time.
    let status = unsafe {
        (ort::api().Run)(
            session.ptr().cast_mut(),
            options.0,
            input_names.as_ptr(),
            input_values.as_ptr(),
            inputs.len(),
            output_names.as_ptr(),
            outputs.len(),
            results.as_mut_ptr(),
        )
    };
    // What was made before an error must be released, too.
    let made = outputs.iter().zip(results).map(|((_, output), result)| match output {
        Output::Into(_) => None,
        Output::Anywhere => Value::from_raw(result).ok(),
    });
    let made = made.collect();
    check(status).map(|()| made)
}

/// Options of a run.
pub(crate) struct RunOptions(*mut OrtRunOptions);

// SAFETY: they are not changed once made, and runs only read them.
unsafe impl Send for RunOptions {}
// SAFETY: as above.
unsafe impl Sync for RunOptions {}

impl RunOptions {
    /// `entries`: keys and values of ONNX Runtime's own run options.
    pub(crate) fn new(entries: &[(&str, &str)]) -> Result<Self> {
        if entries.is_empty() {
            return Ok(Self(ptr::null_mut()));
        }
        let mut raw = ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        check(unsafe { (ort::api().CreateRunOptions)(&raw mut raw) })?;
        let options = Self(raw);
        for (key, value) in entries {
            let (key, value) = (c_string(key)?, c_string(value)?);
            // SAFETY: `raw` was just made, the strings end with a zero.
            check(unsafe { (ort::api().AddRunConfigEntry)(raw, key.as_ptr(), value.as_ptr()) })?;
        }
        Ok(options)
    }
}

impl Drop for RunOptions {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made by `CreateRunOptions`, released once.
            unsafe { (ort::api().ReleaseRunOptions)(self.0) };
        }
    }
}

/// Lets a session take memory from the system for every tensor, as `enable_mem_arena: 0` asks.
pub(crate) fn disable_memory_arena(builder: &mut SessionBuilder) -> Result<()> {
    // SAFETY: the builder's options are valid and borrowed by nobody else.
    check(unsafe { (ort::api().DisableCpuMemArena)(builder.ptr_mut()) })
}

pub(crate) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| format!("'{text}' has a zero byte in it"))
}

/// The description of ordinary memory, made once.
fn memory_info() -> Result<NonNull<OrtMemoryInfo>> {
    struct Info(NonNull<OrtMemoryInfo>);
    // SAFETY: it is a description that nobody changes.
    unsafe impl Send for Info {}
    // SAFETY: as above.
    unsafe impl Sync for Info {}
    static INFO: std::sync::OnceLock<Info> = std::sync::OnceLock::new();
    if let Some(info) = INFO.get() {
        return Ok(info.0);
    }
    let mut raw = ptr::null_mut();
    // SAFETY: the pointer is valid for the call.
    check(unsafe {
        (ort::api().CreateCpuMemoryInfo)(
            OrtAllocatorType::OrtDeviceAllocator,
            OrtMemType::OrtMemTypeDefault,
            &raw mut raw,
        )
    })?;
    let made = NonNull::new(raw).ok_or("ONNX Runtime knows no ordinary memory")?;
    Ok(INFO.get_or_init(|| Info(made)).0)
}

fn default_allocator() -> Result<*mut OrtAllocator> {
    let mut allocator = ptr::null_mut();
    // SAFETY: the pointer is valid for the call.
    check(unsafe { (ort::api().GetAllocatorWithDefaultOptions)(&raw mut allocator) })?;
    Ok(allocator)
}

fn check(status: OrtStatusPtr) -> Result<()> {
    // SAFETY: every status comes straight from a call and is given up here.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| error.message().to_owned())
}
