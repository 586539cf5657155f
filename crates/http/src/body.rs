//! Receives the body of a request.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use nereid_arena::{ALIGNMENT, ARENA_THRESHOLD, Arena};
use nereid_inference::{Error, Result};

/// Why there is no body to work with.
pub(crate) enum NoBody {
    TooLarge(Error),
    /// The client hung up or broke the protocol.
    Lost,
}

/// Receives a whole body. `header_len` bytes of it are JSON: a large body is placed in the arena
/// such that what follows, its first binary tensor, is aligned for any use.
pub(crate) async fn receive(
    mut body: Incoming,
    header_len: usize,
    max_body: usize,
    arena: &Arena,
) -> Result<Bytes, NoBody> {
    let expected = body.size_hint().exact().map(usize::try_from);
    let too_large = || {
        NoBody::TooLarge(Error::invalid_arg(format!(
            "request body exceeds the maximum allowed size of {max_body} bytes"
        )))
    };
    match expected {
        Some(Ok(len)) if len > max_body => Err(too_large()),
        Some(Err(_)) => Err(too_large()),
        Some(Ok(len)) if len >= ARENA_THRESHOLD => {
            let start = header_len.wrapping_neg() % ALIGNMENT;
            match arena.allocate(start + len) {
                Some(chunk) => receive_into(body, chunk, start, len).await,
                None => collect(body, len, max_body).await.map_err(|e| e.unwrap_or_else(too_large)),
            }
        }
        // Most requests: small, and here at once.
        Some(Ok(len)) if len > 0 => {
            let first = next(&mut body).await?.unwrap_or_default();
            if first.len() == len {
                return Ok(first);
            }
            let mut whole = BytesMut::with_capacity(len);
            whole.extend_from_slice(&first);
            while let Some(piece) = next(&mut body).await? {
                whole.extend_from_slice(&piece);
            }
            Ok(whole.freeze())
        }
        _ => collect(body, 0, max_body).await.map_err(|e| e.unwrap_or_else(too_large)),
    }
}

async fn receive_into(
    mut body: Incoming,
    mut chunk: nereid_arena::Chunk,
    start: usize,
    len: usize,
) -> Result<Bytes, NoBody> {
    let mut at = start;
    while let Some(piece) = next(&mut body).await? {
        let end = at + piece.len();
        chunk.get_mut(at..end).ok_or(NoBody::Lost)?.copy_from_slice(&piece);
        at = end;
    }
    Ok(chunk.freeze().slice(start..start + len))
}

/// A body whose length was not announced. `Err(None)`: it grew too large.
async fn collect(mut body: Incoming, capacity: usize, max: usize) -> Result<Bytes, Option<NoBody>> {
    let mut whole = BytesMut::with_capacity(capacity);
    while let Some(piece) = next(&mut body).await.map_err(Some)? {
        if whole.len() + piece.len() > max {
            return Err(None);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// The next piece of data; trailers are of no interest.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, NoBody> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(_)) => return Err(NoBody::Lost),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
