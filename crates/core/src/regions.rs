//! Regions of shared memory that clients have registered.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use nereid_arena::{ClientRegion, RegionError};
use nereid_inference::{Error, RegionRange, Result, Tensor};

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
    memory: Arc<ClientRegion>,
}

/// A registered region, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    pub name: String,
    pub key: String,
    pub offset: usize,
    pub byte_size: usize,
}

/// A place for an output.
pub struct OutputPlace {
    memory: Arc<ClientRegion>,
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
        if self.find(name).is_some() {
            return Err(Error::new(
                nereid_inference::Code::AlreadyExists,
                format!("shared memory region '{name}' already in manager"),
            ));
        }
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
        let registered = Registered { status, memory: Arc::new(memory) };
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).insert(name, registered);
        Ok(())
    }

    /// Forgets a region, or all of them. An unknown name is not an error.
    pub fn unregister(&self, name: Option<&str>) -> Result<()> {
        self.refuse_unless_allowed()?;
        let mut regions = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        match name {
            Some(name) => drop(regions.remove(name)),
            None => regions.clear(),
        }
        Ok(())
    }

    /// One region, or all of them by name.
    pub fn status(&self, name: Option<&str>) -> Result<Vec<RegionStatus>> {
        let Some(name) = name else {
            let regions = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
            return Ok(regions.values().map(|region| region.status.clone()).collect());
        };
        self.find(name).map(|region| vec![region.status]).ok_or_else(|| {
            Error::not_found(format!("Unable to find system shared memory region: '{name}'"))
        })
    }

    /// What the status of CUDA regions comes to in a server that has none: an error if one is
    /// asked for by name.
    pub fn no_cuda_region(&self, name: Option<&str>) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        Err(Error::not_found(match self.find(name) {
            Some(_) => format!(
                "The region named '{name}' is registered as system shared memory, not CUDA shared \
                 memory"
            ),
            None => format!("Unable to find cuda shared memory region: '{name}'"),
        }))
    }

    /// Why a CUDA region cannot be registered.
    pub fn refuse_cuda(&self, name: &str) -> Error {
        self.refuse_unless_allowed().err().unwrap_or_else(|| {
            Error::invalid_arg(format!(
                "failed to register CUDA shared memory region: '{name}', GPUs not supported"
            ))
        })
    }

    /// The bytes of an input, where the client has put them.
    pub fn input(&self, range: &RegionRange) -> Result<Bytes> {
        let (memory, offset, byte_size) = self.checked(range)?;
        memory.bytes(offset, byte_size).ok_or_else(|| out_of_range(range))
    }

    /// The place where an output is to go.
    pub fn output(&self, range: &RegionRange) -> Result<OutputPlace> {
        let (memory, offset, byte_size) = self.checked(range)?;
        Ok(OutputPlace { memory, offset, byte_size })
    }

    fn checked(&self, range: &RegionRange) -> Result<(Arc<ClientRegion>, usize, usize)> {
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

impl OutputPlace {
    /// Writes the bytes of an output; returns how many they are.
    pub fn write(&self, output: &Tensor) -> Result<usize> {
        let len = output.data.len();
        let fits =
            len <= self.byte_size && self.memory.write(self.offset, output.data.segments().iter());
        if fits {
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
