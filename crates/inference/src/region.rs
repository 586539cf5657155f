//! Where in a client's shared memory a tensor is.

/// A range of a registered region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionRange {
    pub region: String,
    pub offset: u64,
    pub byte_size: u64,
}
