//! The nouns of inference: datatype, tensor, request, response, responder, error.
//!
//! Everything else in Nereid is written in terms of these types. This crate knows no transport, no
//! wire format, no model configuration and no backend.
#![forbid(unsafe_code)]

mod buffer;
mod bytes_tensor;
mod cancellation;
mod datatype;
mod device;
mod error;
mod nesting;
mod parameter;
mod region;
mod request;
mod responder;
mod response;
mod tensor;
mod times;
mod trace;
mod window;

pub use buffer::Buffer;
pub use bytes_tensor::{BytesElements, Truncated, push_bytes_element};
pub use cancellation::{Cancellation, Watch};
pub use datatype::DataType;
pub use device::{DEVICE_HANDLE_SIZE, DeviceBuffer, DeviceMemory, DevicePlace};
pub use error::{Code, Error, Result};
pub use nesting::Nesting;
pub use parameter::{Parameter, Parameters};
pub use region::RegionRange;
pub use request::{CorrelationId, Request, SEQUENCE_END, SEQUENCE_START, log_prefix};
pub use responder::{Answer, Responder, ResponseSink};
pub use response::Response;
pub use tensor::{Tensor, display_shape, element_count};
pub use times::{CacheLookup, Times};
pub use trace::{Begin, Trace};
pub use window::{Place, Window};
