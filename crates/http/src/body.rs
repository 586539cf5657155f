//! Receives the body of a request.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{EXPECT, HeaderMap};
use nereid_arena::{ALIGNMENT, ARENA_THRESHOLD, Arena, Chunk, exceeds_memory};
use nereid_inference::{Error, Result};
use tokio::time::timeout;

use crate::app::App;
use crate::reply::{Reply, TEXT, json_error, status_reply};

/// Why there is no body to work with.
enum NoBody {
    TooLarge(Error),
    /// The client hung up or broke the protocol.
    Lost,
    /// Nothing has come for too long.
    Slow,
}

impl NoBody {
    fn reply(self) -> Reply {
        match self {
            Self::TooLarge(error) => json_error(&error),
            Self::Slow => {
                let message = "no more of the request's body came in time";
                status_reply(StatusCode::REQUEST_TIMEOUT, TEXT, message)
            }
            // Nobody is left to read this.
            Self::Lost => status_reply(StatusCode::BAD_REQUEST, TEXT, "incomplete request"),
        }
    }
}

/// How long a client may send nothing in the middle of a body.
const SILENCE: Duration = Duration::from_secs(60);

/// What is set aside at once for a body that does not go into the arena; a promise of more costs
/// the client nothing, so it should not cost the server anything either.
const FIRST_CAPACITY: usize = 1 << 20;

/// Receives a whole body. `json_len` bytes of it are JSON: a large body is placed in the arena
/// such that what follows, its first binary tensor, is aligned for any use.
pub(crate) async fn receive(
    body: &mut Incoming,
    json_len: usize,
    app: &App,
) -> Result<Bytes, Reply> {
    let received = receive_within(body, json_len, app.limits.max_body, &app.arena).await;
    received.map_err(NoBody::reply)
}

/// Receives a body without tensors behind its text, of which there may be less.
pub(crate) async fn receive_text(body: &mut Incoming, app: &App) -> Result<Bytes, Reply> {
    collect(body, 0, app.limits.max_input_size).await.map_err(NoBody::reply)
}

async fn receive_within(
    body: &mut Incoming,
    json_len: usize,
    max_body: usize,
    arena: &Arena,
) -> Result<Bytes, NoBody> {
    let len = match body.size_hint().exact().map(usize::try_from) {
        None => return collect(body, 0, max_body).await,
        Some(Ok(len)) if len <= max_body => len,
        Some(_) => return Err(too_large(max_body)),
    };
    if let Some(left) = exceeds_memory(len) {
        return Err(NoBody::TooLarge(Error::unavailable(format!(
            "request of {len} bytes does not fit into the {left} bytes of memory that are left"
        ))));
    }
    if len >= ARENA_THRESHOLD {
        let start = start_for(json_len);
        return match arena.allocate(start + len) {
            Some(chunk) => receive_into(body, chunk, start, len).await,
            None => collect(body, len, max_body).await,
        };
    }
    // Most requests: small, and here at once.
    let first = next(body).await?.unwrap_or_default();
    if first.len() == len {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(len);
    whole.extend_from_slice(&first);
    while let Some(piece) = next(body).await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Reads what is left of a body and forgets it. Closing a connection on a client that is still
/// sending would take the answer from it: it gets a reset instead.
pub(crate) async fn discard(body: &mut Incoming, headers: &HeaderMap, max_body: usize) {
    // Who waits for permission to send is better told the answer.
    if body.is_end_stream() || headers.contains_key(EXPECT) {
        return;
    }
    let max_body = max_body as u64;
    let mut left = max_body;
    if body.size_hint().lower() > max_body {
        return;
    }
    while let Ok(Some(piece)) = next(body).await {
        match left.checked_sub(piece.len() as u64) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// Where in an aligned chunk a body starts whose tensors follow `json_len` bytes of JSON.
fn start_for(json_len: usize) -> usize {
    json_len.wrapping_neg() % ALIGNMENT
}

async fn receive_into(
    body: &mut Incoming,
    mut chunk: Chunk,
    start: usize,
    len: usize,
) -> Result<Bytes, NoBody> {
    let mut at = start;
    while let Some(piece) = next(body).await? {
        at = chunk.put(at, &piece).ok_or(NoBody::Lost)?;
    }
    // Behind the end of a short body are the bytes of another request.
    if at != start + len {
        return Err(NoBody::Lost);
    }
    Ok(chunk.freeze().slice(start..at))
}

/// A body whose length was not announced, or that has no place in the arena.
async fn collect(body: &mut Incoming, len: usize, max_body: usize) -> Result<Bytes, NoBody> {
    let mut whole = BytesMut::with_capacity(len.min(FIRST_CAPACITY));
    while let Some(piece) = next(body).await? {
        if piece.len() > max_body - whole.len() {
            return Err(too_large(max_body));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn too_large(max_body: usize) -> NoBody {
    NoBody::TooLarge(Error::invalid_arg(format!(
        "request body exceeds the maximum allowed size of {max_body} bytes"
    )))
}

/// The next piece of data; trailers are of no interest.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, NoBody> {
    loop {
        match timeout(SILENCE, body.frame()).await {
            Err(_) => return Err(NoBody::Slow),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(NoBody::Lost),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_behind_the_json_are_aligned() {
        for json_len in [0, 1, 63, 64, 65, 500] {
            let start = start_for(json_len);
            assert!(start < ALIGNMENT);
            assert_eq!((start + json_len) % ALIGNMENT, 0, "{json_len}");
        }
    }
}
