//! Errors as gRPC statuses.

use nereid_inference::{Code, Error};
use tonic::Status;

/// Bytes of the largest message, in both directions.
pub(crate) const MAX_MESSAGE: usize = i32::MAX as usize;

pub(crate) fn status(error: &Error) -> Status {
    Status::new(status_code(error.code()), error.message())
}

fn status_code(code: Code) -> tonic::Code {
    match code {
        Code::Unknown => tonic::Code::Unknown,
        Code::Internal => tonic::Code::Internal,
        Code::NotFound => tonic::Code::NotFound,
        Code::InvalidArg => tonic::Code::InvalidArgument,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Unsupported => tonic::Code::Unimplemented,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::Cancelled => tonic::Code::Cancelled,
    }
}
