//! Memory of a GPU that another process shares (CUDA IPC): opened, read and written.
//!
//! Written to the interface of NVIDIA's driver, which is loaded when it is first asked for. **There has
//! been no GPU at hand: tested with a stand-in for the driver** (`tests/gpu/libcuda.c`). Without the
//! feature `driver`, without a driver or without a GPU there is none, and whoever asks is told so.

#[cfg(feature = "driver")]
mod driver;
#[cfg(not(feature = "driver"))]
mod none;

#[cfg(feature = "driver")]
use driver as imp;
#[cfg(not(feature = "driver"))]
use none as imp;

pub use imp::{CudaRegion, device_count};
