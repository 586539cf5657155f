//! Clients that take an HTTP/2 stream back before they have opened it.
//!
//! grpcio does so when a call is cancelled in the moment it is made: it resets a stream whose headers
//! it never sends. To RFC 9113 that is an error of the whole connection, and h2 closes it, with every
//! other call on it; Triton's gRPC library looks past it. Here such a frame gets a type that does not
//! exist before h2 sees it, which h2 has to look past, too.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Length, type, flags and stream of a frame.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const NO_TYPE: u8 = 0xfa;

/// A connection that speaks HTTP/2 from its first byte.
pub(crate) struct WithoutIdleResets<I> {
    inner: I,
    frames: Frames,
    /// A head that was received in pieces.
    head: [u8; HEAD],
    /// How much of it is there.
    received: usize,
    /// How much of it has been passed on; less than `received` only while it is passed on.
    passed: usize,
}

impl<I> WithoutIdleResets<I> {
    pub(crate) fn new(inner: I) -> Self {
        Self { inner, frames: Frames::default(), head: [0; HEAD], received: 0, passed: 0 }
    }

    fn pass_head(&mut self, buf: &mut ReadBuf<'_>) {
        let left = &self.head[self.passed..self.received];
        let left = &left[..left.len().min(buf.remaining())];
        buf.put_slice(left);
        self.passed += left.len();
        if self.passed == self.received {
            (self.received, self.passed) = (0, 0);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for WithoutIdleResets<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.passed > 0 || buf.remaining() == 0 {
            this.pass_head(buf);
            return Poll::Ready(Ok(()));
        }
        if this.received == 0 {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let read = &mut buf.filled_mut()[before..];
            let rest = this.frames.look_through(read);
            let whole = read.len() - rest;
            this.head[..rest].copy_from_slice(&read[whole..]);
            this.received = rest;
            buf.set_filled(before + whole);
            if whole > 0 || rest == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        while this.received < HEAD {
            let mut more = ReadBuf::new(&mut this.head[this.received..]);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut more))?;
            let count = more.filled().len();
            if count == 0 {
                // The end, within a head: h2 shall judge that.
                break;
            }
            this.received += count;
        }
        if this.received == HEAD {
            this.frames.look_through(&mut this.head);
        }
        this.pass_head(buf);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for WithoutIdleResets<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Where the frames of a client begin, and which streams they have opened.
struct Frames {
    /// Bytes before the next head.
    skip: usize,
    /// The youngest stream that was opened: the numbers of a client's streams grow.
    opened: u32,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, opened: 0 }
    }
}

impl Frames {
    /// Goes through bytes that follow those before. What is returned is how many of them, at their
    /// end, are the beginning of a head: they are to come again, with its rest.
    fn look_through(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            self.skip -= skipped;
            at += skipped;
            let Some(head) = bytes[at..].first_chunk_mut() else { return bytes.len() - at };
            self.look_at(head);
            at += HEAD;
        }
    }

    fn look_at(&mut self, head: &mut [u8; HEAD]) {
        let [a, b, c, kind, _, stream @ ..] = head;
        let stream = u32::from_be_bytes(*stream) & (u32::MAX >> 1);
        match *kind {
            HEADERS => self.opened = self.opened.max(stream),
            RST_STREAM if stream > self.opened => *kind = NO_TYPE,
            _ => {}
        }
        self.skip = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let head = [0, 0, payload.len() as u8, kind, 0, 0, 0, 0, stream];
        [&head[..], payload].concat()
    }

    /// What a client says, and what is to be made of it.
    fn conversation() -> (Vec<u8>, Vec<u8>) {
        let preface = vec![b'P'; PREFACE];
        let reset = |stream| frame(RST_STREAM, stream, &[0, 0, 0, 8]);
        let ignored = |stream| frame(NO_TYPE, stream, &[0, 0, 0, 8]);
        // A payload that looks like a reset of its own.
        let data = frame(0, 3, &reset(9));
        let opened = frame(HEADERS, 3, b"abc");
        let sent = [preface.clone(), reset(1), opened.clone(), data.clone(), reset(3), reset(5)];
        let seen = [preface, ignored(1), opened, data, reset(3), ignored(5)];
        (sent.concat(), seen.concat())
    }

    #[tokio::test]
    async fn only_resets_of_streams_that_are_not_open_are_changed() {
        let (sent, seen) = conversation();
        for piece in 1..sent.len() {
            let (mut client, server) = duplex(piece);
            let said = sent.clone();
            let speaking = tokio::spawn(async move { client.write_all(&said).await });
            let mut heard = Vec::new();
            WithoutIdleResets::new(server).read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, seen, "in pieces of {piece}");
            speaking.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn small_buffers_and_a_cut_head() {
        let (mut sent, seen) = conversation();
        sent.truncate(sent.len() - 8);
        let mut server = WithoutIdleResets::new(sent.as_slice());
        let mut heard = Vec::new();
        let mut buffer = [0; 2];
        loop {
            match server.read(&mut buffer).await.unwrap() {
                0 => break,
                count => heard.extend_from_slice(&buffer[..count]),
            }
        }
        // The kind of the last frame was never known to be wrong.
        let whole = seen.len() - 13;
        assert_eq!(heard[..whole], seen[..whole]);
        assert_eq!(heard[whole..], sent[whole..]);
    }
}
