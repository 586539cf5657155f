//! Receives the body of a request.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{EXPECT, HeaderMap};
use nereid_arena::{ALIGNMENT, ARENA_THRESHOLD, Arena, Chunk, exceeds_memory};
use nereid_inference::{Error, Result};
use tokio::time::{Instant, Sleep, sleep_until};

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
    let mut pieces = Pieces::of(body);
    let first = pieces.next().await?.unwrap_or_default();
    if first.len() == len {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(len);
    whole.extend_from_slice(&first);
    while let Some(piece) = pieces.next().await? {
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
    let mut pieces = Pieces::of(body);
    while let Ok(Some(piece)) = pieces.next().await {
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
    let (mut at, mut pieces) = (start, Pieces::of(body));
    while let Some(piece) = pieces.next().await? {
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
    let mut pieces = Pieces::of(body);
    while let Some(piece) = pieces.next().await? {
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

/// Pieces of a body as they come, from a client that is not silent for too long.
struct Pieces<'a, B> {
    body: &'a mut B,
    /// How long is too long.
    silence: Duration,
    /// Set once a piece was not there at once.
    timer: Option<Pin<Box<Sleep>>>,
    heard: Instant,
}

impl<'a, B: Body<Data = Bytes> + Unpin> Pieces<'a, B> {
    fn of(body: &'a mut B) -> Self {
        Self { body, silence: SILENCE, timer: None, heard: Instant::now() }
    }

    /// The next piece of data; trailers are of no interest.
    async fn next(&mut self) -> Result<Option<Bytes>, NoBody> {
        loop {
            match poll_fn(|context| self.poll(context)).await? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, NoBody>> {
        if let Poll::Ready(frame) = Pin::new(&mut *self.body).poll_frame(context) {
            self.heard = Instant::now();
            return Poll::Ready(frame.transpose().map_err(|_| NoBody::Lost));
        }
        // Not set anew for each piece: that would wake the reactor each time.
        let limit = || self.heard + self.silence;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(limit())));
        while timer.as_mut().poll(context).is_ready() {
            if limit() <= Instant::now() {
                return Poll::Ready(Err(NoBody::Slow));
            }
            timer.as_mut().reset(limit());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn tensors_behind_the_json_are_aligned() {
        for json_len in [0, 1, 63, 64, 65, 500] {
            let start = start_for(json_len);
            assert!(start < ALIGNMENT);
            assert_eq!((start + json_len) % ALIGNMENT, 0, "{json_len}");
        }
    }

    /// Each piece comes a little after the one before, and no more after the last.
    struct Slow {
        pieces: usize,
        next: Pin<Box<Sleep>>,
    }

    const LITTLE: Duration = Duration::from_millis(5);

    impl Body for Slow {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.pieces == 0 {
                return Poll::Pending;
            }
            std::task::ready!(self.next.as_mut().poll(context));
            self.next.as_mut().reset(Instant::now() + LITTLE);
            self.pieces -= 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
        }
    }

    #[tokio::test]
    async fn a_body_may_take_its_time_but_not_fall_silent() {
        let mut body = Slow { pieces: 5, next: Box::pin(sleep_until(Instant::now())) };
        let mut pieces = Pieces { silence: 3 * LITTLE, ..Pieces::of(&mut body) };
        for _ in 0..5 {
            assert!(matches!(pieces.next().await, Ok(Some(piece)) if piece == "piece"));
        }
        assert!(matches!(pieces.next().await, Err(NoBody::Slow)));
    }
}
