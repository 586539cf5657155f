//! Compressed bodies, of requests and of answers.

use std::io::Read;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap};
use nereid_inference::{Error, Result};

use crate::aside::{INLINE, aside};

/// Bytes that come out of a body without keeping the reactor from others: some hundred microseconds.
const UNPACKED_INLINE: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Deflate,
}

impl Encoding {
    /// Of the body of a request; `None`: not compressed.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Self>> {
        match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().trim_ascii()) {
            None | Some(b"") => Ok(None),
            Some(name) if name.eq_ignore_ascii_case(b"identity") => Ok(None),
            Some(name) => Self::named(name)
                .map(Some)
                .ok_or_else(|| Error::unsupported("Unsupported compression type")),
        }
    }

    /// What the client would like best for the answer; of equals the first.
    pub(crate) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let wishes = headers.get(ACCEPT_ENCODING)?.as_bytes();
        let mut best = (0.0, None);
        for wish in wishes.split(|&byte| byte == b',') {
            let mut parts = wish.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let encoding = Self::named(name);
            let quality = parts.find_map(|part| part.strip_prefix(b"q="));
            let quality = match quality.map(std::str::from_utf8) {
                None => 1.0,
                Some(text) => text.ok().and_then(|text| text.parse().ok()).unwrap_or(0.0),
            };
            let known = encoding.is_some() || name.eq_ignore_ascii_case(b"identity");
            if known && quality > best.0 {
                best = (quality, encoding);
            }
        }
        best.1
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        [Self::Gzip, Self::Deflate]
            .into_iter()
            .find(|encoding| name.eq_ignore_ascii_case(encoding.name().as_bytes()))
    }
}

/// The body as it was before it was compressed: at most `max` bytes of it. Its first bytes say
/// better than its headers how that was done.
pub(crate) async fn decompress(body: Bytes, max: usize) -> Result<Bytes> {
    if body.is_empty() {
        return Err(Error::invalid_arg("nothing to be decompressed"));
    }
    // A few bytes may become many: then the work begins anew where nobody waits for it.
    if body.len() <= INLINE
        && let Some(whole) = unpack(&body, max.min(UNPACKED_INLINE))?
    {
        return Ok(whole);
    }
    aside(usize::MAX, move || unpack(&body, max)).await?.ok_or_else(|| {
        Error::invalid_arg(format!(
            "decompressed request body exceeds the maximum allowed input size of {max} bytes. Use \
             --http-max-input-size to increase the limit."
        ))
    })
}

/// What comes out of a body; `None` if that is more than `max` bytes.
fn unpack(body: &[u8], max: usize) -> Result<Option<Bytes>> {
    let unpacked = match body.starts_with(&[0x1f, 0x8b]) {
        true => read(GzDecoder::new(body), max),
        false => read(ZlibDecoder::new(body), max),
    };
    unpacked.map_err(|error| {
        Error::invalid_arg(format!("failed to decompress the request body: {error}"))
    })
}

/// Compresses the pieces of an answer into one.
pub(crate) async fn compress(pieces: Vec<Bytes>, encoding: Encoding) -> Bytes {
    let len = pieces.iter().map(Bytes::len).sum();
    aside(len, move || {
        let whole = Pieces { pieces: pieces.into_iter(), first: Bytes::new() };
        // Tensors hardly get smaller, and whoever asks for this has a slow line, not much time.
        let (level, mut compressed) = (Compression::fast(), Vec::new());
        // Neither reading from memory nor writing to it fails.
        let _ = match encoding {
            Encoding::Gzip => GzEncoder::new(whole, level).read_to_end(&mut compressed),
            Encoding::Deflate => ZlibEncoder::new(whole, level).read_to_end(&mut compressed),
        };
        compressed.into()
    })
    .await
}

/// Everything that comes out of `reader`; `None` if that is more than `max` bytes.
fn read(reader: impl Read, max: usize) -> std::io::Result<Option<Bytes>> {
    let mut bytes = Vec::new();
    reader.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= max).then(|| bytes.into()))
}

struct Pieces {
    first: Bytes,
    pieces: std::vec::IntoIter<Bytes>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.first.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.first = piece,
                None => return Ok(0),
            }
        }
        let piece = self.first.split_to(self.first.len().min(buffer.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_best_wish_counts() {
        for (wishes, encoding) in [
            ("gzip", Some(Encoding::Gzip)),
            ("deflate, gzip", Some(Encoding::Deflate)),
            ("gzip;q=0.5, deflate", Some(Encoding::Deflate)),
            ("identity, gzip", None),
            ("br, *", None),
            ("GZIP ; q=0.1", Some(Encoding::Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=NaN, deflate;q=x", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(wishes));
            assert_eq!(Encoding::wanted(&headers), encoding, "{wishes}");
        }
    }

    #[tokio::test]
    async fn there_and_back() {
        let pieces = vec![Bytes::from("a".repeat(50_000)), Bytes::new(), Bytes::from("bc")];
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            let compressed = compress(pieces.clone(), encoding).await;
            assert!(compressed.len() < 1000);
            let whole = decompress(compressed.clone(), 50_002).await.unwrap();
            assert_eq!(whole, pieces.concat());
            let error = decompress(compressed, 50_001).await.unwrap_err();
            assert!(error.message().contains("--http-max-input-size"), "{error}");
        }
        // What grows a lot is unpacked elsewhere, and whole.
        let zeros = compress(vec![Bytes::from(vec![0; 4 << 20])], Encoding::Gzip).await;
        assert!(zeros.len() < INLINE);
        assert_eq!(decompress(zeros.clone(), 4 << 20).await.unwrap().len(), 4 << 20);
        decompress(zeros, (4 << 20) - 1).await.unwrap_err();
        let broken = decompress(Bytes::from("hello"), 100).await.unwrap_err();
        assert!(broken.message().starts_with("failed to decompress"), "{broken}");
    }
}
