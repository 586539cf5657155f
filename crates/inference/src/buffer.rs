//! The bytes of one tensor: refcounted, never copied by moving a tensor along.

use bytes::{Bytes, BytesMut};

use crate::DeviceBuffer;

/// Bytes of a tensor, in one piece or in several.
///
/// A piece is a slice of whatever it was received in (a request body, a shared arena), which stays
/// alive as long as the slice does. Several pieces appear where a tensor was put together, for
/// example out of the requests of a batch.
#[derive(Clone, Debug)]
pub enum Buffer {
    One(Bytes),
    Segments(Vec<Bytes>),
    /// In the memory of a GPU: there are no bytes to look at before they are brought to the host.
    Device(DeviceBuffer),
}

impl Buffer {
    pub fn empty() -> Self {
        Self::One(Bytes::new())
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Device(buffer) => buffer.len(),
            _ => self.segments().iter().map(Bytes::len).sum(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn segments(&self) -> &[Bytes] {
        match self {
            Self::One(bytes) => std::slice::from_ref(bytes),
            Self::Segments(segments) => segments,
            Self::Device(_) => &[],
        }
    }

    /// All bytes in one piece: free for [`Buffer::One`], a gathering copy otherwise.
    pub fn contiguous(&self) -> Bytes {
        match self {
            Self::One(bytes) => bytes.clone(),
            Self::Device(_) => Bytes::new(),
            Self::Segments(segments) => {
                let mut gathered = BytesMut::with_capacity(self.len());
                segments.iter().for_each(|segment| gathered.extend_from_slice(segment));
                gathered.freeze()
            }
        }
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Self {
        Self::One(bytes)
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self::One(bytes.into())
    }
}
