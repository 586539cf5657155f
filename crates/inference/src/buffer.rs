//! The bytes of one tensor: refcounted, never copied by moving a tensor along.

use bytes::{Bytes, BytesMut};

/// Bytes of a tensor, in one piece or in several.
///
/// A piece is a slice of whatever it was received in (a request body, a shared arena), which stays
/// alive as long as the slice does. Several pieces appear where a tensor was put together, for
/// example out of the requests of a batch.
#[derive(Clone, Debug)]
pub enum Buffer {
    One(Bytes),
    Segments(Vec<Bytes>),
}

impl Buffer {
    pub fn empty() -> Self {
        Self::One(Bytes::new())
    }

    pub fn len(&self) -> usize {
        self.segments().iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn segments(&self) -> &[Bytes] {
        match self {
            Self::One(bytes) => std::slice::from_ref(bytes),
            Self::Segments(segments) => segments,
        }
    }

    /// All bytes in one piece: free for [`Buffer::One`], a gathering copy otherwise.
    pub fn contiguous(&self) -> Bytes {
        match self {
            Self::One(bytes) => bytes.clone(),
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
