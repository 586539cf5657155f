//! Vendors that hand on no headers but the content type: it says where binary tensors begin.

use hyper::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use nereid_inference::{Error, Result};

use crate::header_length::HEADER;
use crate::reply::Reply;

/// A content type, up to the number of bytes of JSON.
#[derive(Clone, Copy)]
pub(super) struct BinaryMime(pub(super) &'static str);

impl BinaryMime {
    /// Says in the API's words what a request says in the vendor's.
    pub(super) fn translate_request(self, headers: &mut HeaderMap) -> Result<()> {
        headers.remove(HEADER);
        // Answers are never compressed.
        headers.remove(ACCEPT_ENCODING);
        let Some(given) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
            return Ok(());
        };
        let Some(at) = given.find(self.0) else { return Ok(()) };
        if at > 0 {
            return Err(Error::invalid_arg(format!(
                "expect MIME type for binary data starts with '{}', got: {given}",
                self.0
            )));
        }
        let length = &given[self.0.len()..];
        let value = HeaderValue::from_str(length.trim()).ok().filter(|_| is_number(length));
        let value = value.ok_or_else(|| {
            Error::invalid_arg(format!("Unable to parse inference header size, got: {length}"))
        })?;
        headers.insert(HEADER, value);
        Ok(())
    }

    /// The other way round, for an answer.
    pub(super) fn translate_reply(self, mut reply: Reply) -> Reply {
        let headers = reply.headers_mut();
        let length = headers.get(HEADER).and_then(|length| length.to_str().ok());
        let mime = length.and_then(|length| format!("{}{length}", self.0).parse().ok());
        if let Some(mime) = mime {
            headers.insert(CONTENT_TYPE, mime);
        }
        reply
    }
}

fn is_number(text: &str) -> bool {
    text.trim().parse::<i64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIME: BinaryMime = BinaryMime("application/x+json;size=");

    fn translated(content_type: &'static str) -> Result<Option<String>> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static("7"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        MIME.translate_request(&mut headers)?;
        Ok(headers.get(HEADER).map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn only_the_content_type_counts() {
        assert_eq!(translated("application/json"), Ok(None));
        assert_eq!(translated("application/x+json;size=12"), Ok(Some("12".to_owned())));
        assert_eq!(translated("application/x+json;size=-1"), Ok(Some("-1".to_owned())));
        let error = translated("application/x+json;size=x").unwrap_err();
        assert_eq!(error.message(), "Unable to parse inference header size, got: x");
        let error = translated("a, application/x+json;size=1").unwrap_err();
        assert!(error.message().starts_with("expect MIME type"), "{error}");
    }
}
