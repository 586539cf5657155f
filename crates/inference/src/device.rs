//! Bytes in the memory of a GPU.
//!
//! Only those who say that they take them meet them: the inputs of other models and the outputs for
//! other sinks ([`crate::ResponseSink::takes_devices`]) are brought to the host before.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::Result;

/// Bytes of a `CUipcMemHandle`.
pub const DEVICE_HANDLE_SIZE: usize = 64;

/// How another process finds memory of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePlace {
    /// The GPU, as its driver counts.
    pub device: i32,
    /// What the owner's driver gave out for the whole allocation (CUDA IPC).
    pub handle: [u8; DEVICE_HANDLE_SIZE],
    /// Where in the allocation the memory starts.
    pub offset: usize,
    /// Whose it is, since nobody can open his own handle, and the number that it has there. 0: nobody's
    /// that would get it back.
    pub owner: u64,
    pub number: u64,
}

/// Memory of a GPU. Dropping it gives it back to its owner.
pub trait DeviceMemory: Send + Sync {
    fn place(&self) -> DevicePlace;

    /// A copy of a range in the host's memory.
    fn read(&self, offset: usize, len: usize) -> Result<Bytes>;
}

/// A range of such memory.
#[derive(Clone)]
pub struct DeviceBuffer {
    memory: Arc<dyn DeviceMemory>,
    offset: usize,
    len: usize,
}

impl DeviceBuffer {
    /// All of `memory`, which is `len` bytes long.
    pub fn new(memory: impl DeviceMemory + 'static, len: usize) -> Self {
        Self { memory: Arc::new(memory), offset: 0, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of it, if it has such a part.
    pub fn slice(&self, offset: usize, len: usize) -> Option<Self> {
        let end = offset.checked_add(len)?;
        let inside = end <= self.len;
        inside.then(|| Self { offset: self.offset + offset, len, ..self.clone() })
    }

    pub fn place(&self) -> DevicePlace {
        let place = self.memory.place();
        DevicePlace { offset: place.offset.saturating_add(self.offset), ..place }
    }

    pub fn to_host(&self) -> Result<Bytes> {
        self.memory.read(self.offset, self.len)
    }
}

impl fmt::Debug for DeviceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of GPU {}", self.len, self.place().device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, DataType, Error, Tensor};

    /// Numbers from 0 on, or nothing that can be read.
    struct Counting(bool);

    impl DeviceMemory for Counting {
        fn place(&self) -> DevicePlace {
            let handle = [7; DEVICE_HANDLE_SIZE];
            DevicePlace { device: 1, handle, offset: 100, owner: 5, number: 6 }
        }

        fn read(&self, offset: usize, len: usize) -> Result<Bytes> {
            let numbers = || (offset..offset + len).map(|number| number as u8).collect();
            self.0.then(numbers).ok_or_else(|| Error::internal("the GPU is gone"))
        }
    }

    #[test]
    fn a_part_of_a_part() {
        let whole = DeviceBuffer::new(Counting(true), 50);
        let part = whole.slice(10, 20).and_then(|part| part.slice(5, 3)).unwrap();
        assert_eq!((part.len(), part.place().offset), (3, 115));
        assert_eq!(part.to_host().unwrap(), [15, 16, 17][..]);
        assert!(whole.slice(40, 11).is_none() && whole.slice(usize::MAX, 2).is_none());
        assert!(part.slice(2, 2).is_none(), "only of its own range");
    }

    #[test]
    fn a_tensor_is_brought_to_the_host_or_named() {
        let tensor = |readable| Tensor {
            name: "IN".to_owned(),
            datatype: DataType::Uint8,
            shape: vec![3],
            data: Buffer::Device(DeviceBuffer::new(Counting(readable), 3)),
        };
        let mut there = tensor(true);
        assert_eq!((there.data.len(), there.data.segments().len()), (3, 0));
        there.bring_to_host().unwrap();
        assert_eq!(there.data.contiguous(), [0, 1, 2][..]);
        let error = tensor(false).bring_to_host().unwrap_err();
        assert_eq!(error.message(), "tensor 'IN' cannot be read from GPU 1: the GPU is gone");
    }
}
