//! Replies and their bodies.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use nereid_inference::Error;
use nereid_protocol::{InferResponse, error_body, http_status};

pub(crate) type Reply = Response<Pieces>;

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain";

/// A body in several pieces, sent one behind the other without being copied together.
pub(crate) struct Pieces(VecDeque<Bytes>);

/// Bodies up to this size are copied together: one write costs less than two pieces.
const JOIN_BELOW: usize = 16 << 10;

impl Pieces {
    fn new(json: Vec<u8>, tail: Vec<Bytes>) -> Self {
        let len = json.len() + tail.iter().map(Bytes::len).sum::<usize>();
        if len > JOIN_BELOW {
            return Self([Bytes::from(json)].into_iter().chain(tail).collect());
        }
        let mut joined = json;
        tail.iter().for_each(|piece| joined.extend_from_slice(piece));
        Self(VecDeque::from([Bytes::from(joined)]))
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

pub(crate) fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let pieces = if body.is_empty() { VecDeque::new() } else { VecDeque::from([body]) };
    let mut reply = Response::new(Pieces(pieces));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

pub(crate) fn json_reply(body: Vec<u8>) -> Reply {
    reply(StatusCode::OK, JSON, body.into())
}

/// An error that a handler found while it dealt with JSON.
pub(crate) fn json_error(error: &Error) -> Reply {
    reply(status_of(error), JSON, error_body(error).into())
}

/// An error before that, or one that came back from the model: Triton sends these as text.
pub(crate) fn text_error(error: &Error) -> Reply {
    reply(status_of(error), TEXT, error_body(error).into())
}

/// An error of HTTP itself.
pub(crate) fn status_reply(status: StatusCode, content_type: &'static str, message: &str) -> Reply {
    reply(status, content_type, error_body(&Error::unknown(message)).into())
}

fn status_of(error: &Error) -> StatusCode {
    StatusCode::from_u16(http_status(error.code())).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The ninth and last stop of a request.
pub(crate) fn infer_reply(written: InferResponse) -> Reply {
    let InferResponse { json, tail } = written;
    let binary = !tail.is_empty();
    let json_len = json.len();
    let mut reply = Response::new(Pieces::new(json, tail));
    let headers = reply.headers_mut();
    if binary {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert("inference-header-content-length", HeaderValue::from(json_len));
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    }
    reply
}
