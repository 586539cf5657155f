//! A server that knows no GPU.

use std::convert::Infallible;

use bytes::Bytes;

use nereid_inference::DEVICE_HANDLE_SIZE;

pub fn device_count() -> usize {
    0
}

/// There is no such thing.
pub struct CudaRegion(Infallible);

impl CudaRegion {
    pub fn open(_: &[u8; DEVICE_HANDLE_SIZE], _: i32, _: usize) -> Result<Self, String> {
        Err("GPUs not supported".to_owned())
    }

    pub fn len(&self) -> usize {
        match self.0 {}
    }

    pub fn is_empty(&self) -> bool {
        match self.0 {}
    }

    pub fn read(&self, _: usize, _: usize) -> Result<Bytes, String> {
        match self.0 {}
    }

    pub fn write<'a>(&self, _: usize, _: impl Iterator<Item = &'a Bytes>) -> Result<(), String> {
        match self.0 {}
    }
}
