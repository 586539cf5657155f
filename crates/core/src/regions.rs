//! Regions of shared memory that clients have registered.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use nereid_arena::{ClientRegion, RegionError};
use nereid_cuda::CudaRegion;
use nereid_inference::{
    Buffer, Code, DEVICE_HANDLE_SIZE, DeviceBuffer, DeviceMemory, DevicePlace, Error, RegionRange,
    Result, Tensor,
};

/// All regions by name. What a request refers to stays mapped until the request has ended, also if
/// the region is unregistered meanwhile.
pub struct Regions {
    /// `--allow-client-shm`
    allowed: bool,
    by_name: RwLock<BTreeMap<String, Registered>>,
}

#[derive(Clone)]
struct Registered {
    status: RegionStatus,
    memory: Memory,
}

#[derive(Clone)]
enum Memory {
    System(Arc<ClientRegion>),
    Cuda(Arc<GpuRegion>),
}

/// A region on a GPU, and how others open it.
struct GpuRegion {
    region: CudaRegion,
    device: i32,
    handle: [u8; DEVICE_HANDLE_SIZE],
}

/// What a request refers to of it.
struct Referred(Arc<GpuRegion>);

impl DeviceMemory for Referred {
    fn place(&self) -> DevicePlace {
        let GpuRegion { device, handle, .. } = *self.0;
        DevicePlace { device, handle, offset: 0, owner: 0, number: 0 }
    }

    fn read(&self, offset: usize, len: usize) -> Result<Bytes> {
        self.0.region.read(offset, len).map_err(Error::internal)
    }
}

/// A registered region, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    pub name: String,
    pub key: String,
    pub offset: usize,
    pub byte_size: usize,
}

/// The same of a region on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaStatus {
    pub name: String,
    pub device: i32,
    pub byte_size: usize,
}

/// A place for an output.
pub struct OutputPlace {
    memory: Memory,
    offset: usize,
    byte_size: usize,
}

impl Regions {
    pub fn new(allowed: bool) -> Self {
        Self { allowed, by_name: RwLock::default() }
    }

    /// Maps a range of the shared memory object `key` under `name`.
    pub fn register(&self, name: &str, key: &str, offset: u64, byte_size: u64) -> Result<()> {
        self.refuse_unless_allowed()?;
        check_key(name, key)?;
        self.refuse_twice(name)?;
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let (offset, byte_size) = (size(offset), size(byte_size));
        let memory = ClientRegion::open(key, offset, byte_size).map_err(|error| match error {
            RegionError::Open(_) => {
                Error::internal(format!("Unable to open shared memory region: '{key}'"))
            }
            RegionError::Range => Error::invalid_arg(format!(
                "failed to register shared memory region '{name}': invalid args"
            )),
            RegionError::Map(error) => Error::internal(format!(
                "failed to register shared memory region '{name}': {error}"
            )),
        })?;
        let (name, key) = (name.to_owned(), key.to_owned());
        let status = RegionStatus { name: name.clone(), key, offset, byte_size };
        let registered = Registered { status, memory: Memory::System(memory) };
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).insert(name, registered);
        Ok(())
    }

    /// Whether this server can reach the memory of GPUs. If not, there are no CUDA regions and none
    /// can be made.
    pub fn has_cuda(&self) -> bool {
        nereid_cuda::device_count() > 0
    }

    /// Opens the memory of a GPU that a client shares by `handle`.
    pub fn register_cuda(
        &self,
        name: &str,
        handle: &[u8],
        device: i64,
        byte_size: u64,
    ) -> Result<()> {
        self.refuse_unless_allowed()?;
        let failed = |why: &str| {
            Error::invalid_arg(format!(
                "failed to register CUDA shared memory region: '{name}'{why}"
            ))
        };
        if !self.has_cuda() {
            return Err(failed(", GPUs not supported"));
        }
        self.refuse_twice(name)?;
        let handle = <[u8; DEVICE_HANDLE_SIZE]>::try_from(handle).map_err(|_| {
            Error::invalid_arg("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t")
        })?;
        let device = i32::try_from(device).map_err(|_| failed(": invalid args"))?;
        let byte_size = usize::try_from(byte_size).unwrap_or(usize::MAX);
        let region = CudaRegion::open(&handle, device, byte_size)
            .map_err(|error| failed(&format!(": {error}")))?;
        let name = name.to_owned();
        let status = RegionStatus { name: name.clone(), key: String::new(), offset: 0, byte_size };
        let memory = Memory::Cuda(Arc::new(GpuRegion { region, device, handle }));
        let registered = Registered { status, memory };
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).insert(name, registered);
        Ok(())
    }

    /// Forgets a region, or all of them. An unknown name is not an error.
    pub fn unregister(&self, name: Option<&str>) -> Result<()> {
        self.forget(name, |memory| matches!(memory, Memory::System(_)))
    }

    /// The same for CUDA regions.
    pub fn unregister_cuda(&self, name: Option<&str>) -> Result<()> {
        if !self.has_cuda() {
            return Ok(());
        }
        self.forget(name, |memory| matches!(memory, Memory::Cuda(_)))
    }

    fn forget(&self, name: Option<&str>, is_meant: impl Fn(&Memory) -> bool) -> Result<()> {
        self.refuse_unless_allowed()?;
        let mut regions = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let is_named = |known: &str| name.is_none_or(|name| name == known);
        regions.retain(|known, region| !(is_named(known) && is_meant(&region.memory)));
        Ok(())
    }

    /// One region, or all of them by name.
    pub fn status(&self, name: Option<&str>) -> Result<Vec<RegionStatus>> {
        let system = |region: Registered| match region.memory {
            Memory::System(_) => Some(region.status),
            Memory::Cuda(_) => None,
        };
        self.listed(name, "system", "CUDA", system)
    }

    /// The same for CUDA regions.
    pub fn cuda_status(&self, name: Option<&str>) -> Result<Vec<CudaStatus>> {
        let cuda = |region: Registered| match region.memory {
            Memory::System(_) => None,
            Memory::Cuda(gpu) => {
                let RegionStatus { name, byte_size, .. } = region.status;
                Some(CudaStatus { name, device: gpu.device, byte_size })
            }
        };
        self.listed(name, "CUDA", "system", cuda)
    }

    /// Those regions of which `shown` makes something; an error if one is named that is not there, or
    /// of the other kind.
    fn listed<T>(
        &self,
        name: Option<&str>,
        kind: &str,
        other: &str,
        shown: impl Fn(Registered) -> Option<T>,
    ) -> Result<Vec<T>> {
        let Some(name) = name else {
            let regions = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
            return Ok(regions.values().cloned().filter_map(shown).collect());
        };
        let found = self.find(name).ok_or_else(|| {
            let kind = kind.to_lowercase();
            Error::not_found(format!("Unable to find {kind} shared memory region: '{name}'"))
        })?;
        shown(found).map(|one| vec![one]).ok_or_else(|| {
            Error::not_found(format!(
                "The region named '{name}' is registered as {other} shared memory, not {kind} shared \
                 memory"
            ))
        })
    }

    fn refuse_twice(&self, name: &str) -> Result<()> {
        match self.find(name) {
            None => Ok(()),
            Some(_) => Err(Error::new(
                Code::AlreadyExists,
                format!("shared memory region '{name}' already in manager"),
            )),
        }
    }

    /// The bytes of an input, where the client has put them.
    pub fn input(&self, range: &RegionRange) -> Result<Buffer> {
        let (memory, offset, byte_size) = self.checked(range)?;
        let found = match memory {
            Memory::System(region) => region.bytes(offset, byte_size).map(Buffer::One),
            Memory::Cuda(gpu) => {
                let whole = DeviceBuffer::new(Referred(gpu.clone()), gpu.region.len());
                whole.slice(offset, byte_size).map(Buffer::Device)
            }
        };
        found.ok_or_else(|| out_of_range(range))
    }

    /// The place where an output is to go.
    pub fn output(&self, range: &RegionRange) -> Result<OutputPlace> {
        let (memory, offset, byte_size) = self.checked(range)?;
        Ok(OutputPlace { memory, offset, byte_size })
    }

    fn checked(&self, range: &RegionRange) -> Result<(Memory, usize, usize)> {
        let name = &range.region;
        let found = self.find(name).ok_or_else(|| {
            Error::not_found(format!("Unable to find shared memory region: '{name}'"))
        })?;
        let len = found.memory.len();
        let offset = usize::try_from(range.offset).ok().filter(|&offset| offset < len);
        let Some(offset) = offset else {
            return Err(Error::invalid_arg(format!(
                "Invalid offset for shared memory region: '{name}'"
            )));
        };
        if !found.memory.is_whole() {
            return Err(Error::invalid_arg(format!(
                "shared memory region '{name}' has become smaller since it was registered"
            )));
        }
        // Triton takes a size that was left out for a range that cannot be.
        let byte_size = usize::try_from(range.byte_size).ok().filter(|&size| size > 0);
        let byte_size = byte_size.filter(|&size| size <= len - offset);
        Ok((found.memory, offset, byte_size.ok_or_else(|| out_of_range(range))?))
    }

    fn find(&self, name: &str) -> Option<Registered> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn refuse_unless_allowed(&self) -> Result<()> {
        if self.allowed {
            return Ok(());
        }
        Err(Error::unsupported(
            "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to \
             enable.",
        ))
    }
}

impl Memory {
    fn len(&self) -> usize {
        match self {
            Self::System(region) => region.len(),
            Self::Cuda(gpu) => gpu.region.len(),
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::System(region) => region.is_whole(),
            Self::Cuda(_) => true,
        }
    }

    /// Whether there was room for the output.
    fn write(&self, offset: usize, output: &Tensor) -> Result<bool> {
        let segments = output.data.segments();
        match self {
            Self::System(region) => Ok(region.write(offset, segments.iter())),
            Self::Cuda(gpu) => {
                gpu.region.write(offset, segments.iter()).map(|()| true).map_err(|error| {
                    let name = &output.name;
                    Error::internal(format!("failed to write output '{name}' to a GPU: {error}"))
                })
            }
        }
    }
}

impl OutputPlace {
    /// Writes the bytes of an output; returns how many they are.
    pub fn write(&self, output: &Tensor) -> Result<usize> {
        let len = output.data.len();
        if len <= self.byte_size && self.memory.write(self.offset, output)? {
            return Ok(len);
        }
        Err(Error::internal(format!(
            "shared memory size specified with the request for output '{}' ({} bytes) should be at \
             least {len} bytes to hold the results",
            output.name, self.byte_size
        )))
    }
}

fn out_of_range(range: &RegionRange) -> Error {
    let name = &range.region;
    Error::invalid_arg(format!("Invalid offset + byte size for shared memory region: '{name}'"))
}

/// Keys that Triton's own workers use are not for clients.
fn check_key(name: &str, key: &str) -> Result<()> {
    const RESERVED: &str = "triton_python_backend_shm_region_";
    let bare = key.trim_start_matches('/');
    if bare.starts_with(RESERVED) {
        return Err(Error::invalid_arg(format!(
            "cannot register shared memory region '{name}' with key '{key}' as the key contains \
             the reserved prefix '{RESERVED}'"
        )));
    }
    if bare.is_empty() || bare.contains('/') {
        return Err(Error::invalid_arg(format!(
            "cannot register shared memory region '{name}' - invalid shm key '{key}'"
        )));
    }
    Ok(())
}
