//! Replies and their bodies.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use nereid_inference::Error;
use nereid_protocol::{InferResponse, error_body, http_status};

use crate::compression::{Encoding, compress};
use crate::generate::Answers;
use crate::header_length::HEADER;

pub(crate) type Reply = Response<Content>;

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain";

/// The body of a reply.
pub(crate) enum Content {
    /// Several pieces, sent one behind the other without being copied together.
    Pieces(VecDeque<Bytes>),
    /// Events as they come, behind the first of them.
    Events { first: Option<Bytes>, answers: Box<Answers> },
}

/// Bodies up to this size are copied together: one write costs less than two pieces.
const JOIN_BELOW: usize = 16 << 10;

impl Content {
    fn new(json: Vec<u8>, tail: Vec<Bytes>) -> Self {
        let len = json.len() + tail.iter().map(Bytes::len).sum::<usize>();
        if len > JOIN_BELOW {
            return Self::Pieces([Bytes::from(json)].into_iter().chain(tail).collect());
        }
        let mut joined = json;
        tail.iter().for_each(|piece| joined.extend_from_slice(piece));
        Self::one(joined.into())
    }

    fn one(body: Bytes) -> Self {
        Self::Pieces(if body.is_empty() { VecDeque::new() } else { VecDeque::from([body]) })
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Pieces(pieces) => pieces.pop_front(),
            Self::Events { first, answers } => match first.take() {
                Some(first) => Some(first),
                None => ready!(answers.poll_event(context)),
            },
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Pieces(pieces) if pieces.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Pieces(pieces) => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Self::Events { .. } => SizeHint::default(),
        }
    }
}

pub(crate) fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Content::one(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

pub(crate) fn json_reply(body: Vec<u8>) -> Reply {
    reply(StatusCode::OK, JSON, body.into())
}

/// The answer to something that was to be done and has no result.
pub(crate) fn done_reply(done: Result<(), Error>) -> Reply {
    match done {
        Ok(()) => reply(StatusCode::OK, JSON, Bytes::new()),
        Err(error) => json_error(&error),
    }
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

/// A stream of events that goes on.
pub(crate) fn event_reply(status: StatusCode, first: Option<Bytes>, answers: Answers) -> Reply {
    let mut reply = Response::new(Content::Events { first, answers: Box::new(answers) });
    *reply.status_mut() = status;
    let events = HeaderValue::from_static("text/event-stream; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, events);
    reply
}

/// A stream of events that begins with an error of the model.
pub(crate) fn failed_event_reply(error: &Error, first: Bytes, answers: Answers) -> Reply {
    event_reply(status_of(error), Some(first), answers)
}

/// The ninth and last stop of a request.
pub(crate) async fn infer_reply(written: InferResponse, encoding: Option<Encoding>) -> Reply {
    let InferResponse { json, tail } = written;
    let binary = !tail.is_empty();
    let json_len = json.len();
    let mut reply = Response::new(match encoding {
        None => Content::new(json, tail),
        Some(encoding) => {
            let pieces = [Bytes::from(json)].into_iter().chain(tail).collect();
            Content::one(compress(pieces, encoding).await)
        }
    });
    let headers = reply.headers_mut();
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    if binary {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        // Of the JSON as it was before it was compressed.
        headers.insert(HEADER, HeaderValue::from(json_len));
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    }
    reply
}
