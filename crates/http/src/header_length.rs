//! How much of a body is JSON, and what follows it.

use hyper::header::HeaderMap;
use nereid_inference::{Error, Result};

pub(crate) const HEADER: &str = "inference-header-content-length";

/// The part of a body that is JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum JsonPart {
    /// This much, with binary tensors behind it. 0: the body is one raw tensor.
    Bytes(usize),
    /// All of the body, if there is one.
    Whole,
}

impl JsonPart {
    /// What the headers say.
    pub(crate) fn announced(headers: &HeaderMap) -> Result<Self> {
        let Some(value) = headers.get(HEADER) else { return Ok(Self::Whole) };
        let text = value.to_str().unwrap_or_default().trim();
        let len: i64 = text.parse().map_err(|_| {
            Error::invalid_arg(format!(
                "Unable to parse Inference-Header-Content-Length, got: {text}"
            ))
        })?;
        // What is negative is out of range, and so is this.
        Ok(Self::Bytes(usize::try_from(len).unwrap_or(usize::MAX)))
    }

    /// Bytes of JSON in a body of `body_len` bytes.
    pub(crate) fn within(self, body_len: u64, headers: &HeaderMap) -> Result<usize> {
        let body = usize::try_from(body_len).unwrap_or(usize::MAX);
        match self {
            Self::Whole => Ok(body),
            Self::Bytes(len) if len <= body => Ok(len),
            Self::Bytes(_) => {
                let got = headers.get(HEADER).and_then(|value| value.to_str().ok());
                let got = got.unwrap_or_default().trim();
                Err(Error::invalid_arg(format!(
                    "inference header size should be in range (0, {body}), got: {got}"
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_len(header: Option<&'static str>, body_len: u64) -> Result<usize> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(HEADER, header.parse().unwrap());
        }
        JsonPart::announced(&headers)?.within(body_len, &headers)
    }

    #[test]
    fn lengths() {
        assert_eq!(json_len(None, 50), Ok(50));
        assert_eq!(json_len(None, 0), Ok(0));
        assert_eq!(json_len(Some("20"), 50), Ok(20));
        assert_eq!(json_len(Some("0"), 50), Ok(0));
        assert_eq!(json_len(Some(" 50 "), 50), Ok(50));
    }

    #[test]
    fn refusals() {
        for (header, message) in [
            ("abc", "Unable to parse Inference-Header-Content-Length, got: abc"),
            ("", "Unable to parse Inference-Header-Content-Length, got: "),
            ("1.5", "Unable to parse Inference-Header-Content-Length, got: 1.5"),
            ("51", "inference header size should be in range (0, 50), got: 51"),
            ("-1", "inference header size should be in range (0, 50), got: -1"),
        ] {
            assert_eq!(json_len(Some(header), 50), Err(Error::invalid_arg(message)));
        }
    }
}
