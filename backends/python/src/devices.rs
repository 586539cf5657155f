//! Tensors that workers keep in the memory of GPUs (CUDA IPC).
//!
//! The worker that has a tensor tells where it lies and keeps it until the server lets it go. Another
//! worker opens it where it is; the server itself copies it, for whoever is no worker. A worker that
//! gets its own tensor back knows it by its number.

use std::sync::Weak;

use bytes::Bytes;
use nereid_cuda::CudaRegion;
use nereid_inference::{DeviceMemory, DevicePlace, Error, Result};
use tokio::runtime::Handle;

use crate::link::Link;

/// How many GPUs there are. Where the server cannot copy their memory there are none.
pub(crate) fn count() -> usize {
    nereid_cuda::device_count()
}

/// A tensor of a worker's.
pub(crate) struct Exported {
    pub(crate) place: DevicePlace,
    pub(crate) link: Weak<Link>,
    pub(crate) generation: u64,
    pub(crate) reactor: Handle,
}

impl DeviceMemory for Exported {
    fn place(&self) -> DevicePlace {
        self.place
    }

    fn read(&self, offset: usize, len: usize) -> Result<Bytes> {
        let DevicePlace { device, handle, offset: start, .. } = self.place;
        // What is nonsense is not inside the allocation.
        let start = start.saturating_add(offset);
        CudaRegion::open(&handle, device, start.saturating_add(len))
            .and_then(|region| region.read(start, len))
            .map_err(Error::internal)
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        let (link, generation) = (self.link.clone(), self.generation);
        let number = self.place.number;
        // It may be dropped anywhere, even where the link's lock is held.
        self.reactor.spawn(async move {
            if let Some(link) = link.upgrade() {
                link.release_device(generation, number);
            }
        });
    }
}
