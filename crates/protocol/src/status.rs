//! Errors on the wire: the status of each code, and the body.

use nereid_inference::{Code, Error};

use crate::json::push_string;

/// The HTTP status that Triton gives for `code`.
pub fn http_status(code: Code) -> u16 {
    match code {
        Code::Internal => 500,
        Code::NotFound => 404,
        Code::Unavailable => 503,
        Code::Unsupported => 501,
        Code::Unknown | Code::InvalidArg | Code::AlreadyExists | Code::Cancelled => 400,
    }
}

/// `{"error":"<message>"}`
pub fn error_body(error: &Error) -> Vec<u8> {
    let mut body = b"{\"error\":".to_vec();
    push_string(&mut body, error.message().as_bytes());
    body.push(b'}');
    body
}
