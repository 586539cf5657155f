//! Regions of shared memory: registered, listed and forgotten.

use nereid_core::{CudaStatus, RegionStatus, Regions};
use nereid_inference::{Error, Result};

use crate::proto::cuda_shared_memory_status_response::RegionStatus as CudaRow;
use crate::proto::system_shared_memory_status_response::RegionStatus as Row;
use crate::proto::{
    CudaSharedMemoryStatusResponse, SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryStatusResponse,
};

pub(crate) fn register(
    regions: &Regions,
    request: SystemSharedMemoryRegisterRequest,
) -> Result<()> {
    let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = request;
    if name.is_empty() {
        return Err(Error::invalid_arg(
            "'region name' is necessary to register system shared memory region",
        ));
    }
    regions.register(&name, &key, offset, byte_size)
}

pub(crate) fn status(regions: &Regions, name: &str) -> Result<SystemSharedMemoryStatusResponse> {
    let found = regions.status(named(name))?;
    let regions = found.into_iter().map(|region| (region.name.clone(), row(region))).collect();
    Ok(SystemSharedMemoryStatusResponse { regions })
}

pub(crate) fn cuda_status(regions: &Regions, name: &str) -> Result<CudaSharedMemoryStatusResponse> {
    let row = |region: CudaStatus| {
        let CudaStatus { name, device, byte_size } = region;
        let row =
            CudaRow { name: name.clone(), device_id: device as u64, byte_size: byte_size as u64 };
        (name, row)
    };
    let regions = regions.cuda_status(named(name))?.into_iter().map(row).collect();
    Ok(CudaSharedMemoryStatusResponse { regions })
}

/// No name stands for all regions.
pub(crate) fn named(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

fn row(region: RegionStatus) -> Row {
    let RegionStatus { name, key, offset, byte_size } = region;
    Row { name, key, offset: offset as u64, byte_size: byte_size as u64 }
}
