//! The checksum that a store states with an object, taken from the headers of its answer.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// The MD5 of a whole object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatedMd5(pub(crate) [u8; 16]);

/// Connects as usual, and notes the checksums of what comes.
#[derive(Debug, Default)]
pub(crate) struct Connector(ReqwestConnector);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Reading(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Reading(HttpClient);

#[async_trait]
impl HttpService for Reading {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut response = self.0.execute(request).await?;
        if let Some(md5) = stated(response.status(), response.headers()) {
            response.extensions_mut().insert(md5);
        }
        Ok(response)
    }
}

fn stated(status: StatusCode, headers: &HeaderMap) -> Option<StatedMd5> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let decoded = |base64: &str| STANDARD.decode(base64).ok()?.try_into().ok().map(StatedMd5);
    // Google's.
    let all = headers.get_all("x-goog-hash").iter().filter_map(|value| value.to_str().ok());
    if let Some(md5) =
        all.flat_map(|value| value.split(',')).find_map(|hash| hash.trim().strip_prefix("md5="))
    {
        return decoded(md5);
    }
    // Azure's; the plain header is that of a part, where only a part was asked for.
    if let Some(md5) = text("x-ms-blob-content-md5") {
        return decoded(md5);
    }
    if let (StatusCode::OK, Some(md5)) = (status, text("content-md5")) {
        return decoded(md5);
    }
    // Amazon's: the ETag, unless the object came in parts or is encrypted with a key of its own.
    let encrypted = text("x-amz-server-side-encryption").is_some_and(|how| how != "AES256")
        || text("x-amz-server-side-encryption-customer-algorithm").is_some();
    let hex = text("etag")?.trim_matches('"');
    if encrypted || hex.len() != 32 || text("x-ms-request-id").is_some() {
        return None;
    }
    let mut md5 = [0; 16];
    for (byte, digits) in md5.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(StatedMd5(md5))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const HEX: &str = "f97c5d29941bfb1b2fdab0874906ab82";

    fn of(headers: &[(&'static str, &str)]) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        stated(StatusCode::OK, &headers).is_some_and(|md5| md5.0[..2] == [0xf9, 0x7c])
    }

    #[test]
    fn each_cloud_states_it_in_its_way() {
        let quoted = format!("\"{HEX}\"");
        assert!(of(&[("etag", &quoted)]));
        assert!(of(&[("etag", &quoted), ("x-amz-server-side-encryption", "AES256")]));
        let base64 = STANDARD.encode([0xf9, 0x7c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(of(&[("x-goog-hash", &format!("crc32c=abc=, md5={base64}"))]));
        assert!(of(&[("x-ms-blob-content-md5", &base64), ("etag", "0x8D")]));
        assert!(of(&[("content-md5", &base64)]));
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        assert!(!of(&[("etag", &format!("\"{HEX}-2\""))]));
        assert!(!of(&[("etag", HEX), ("x-amz-server-side-encryption", "aws:kms")]));
        assert!(!of(&[("etag", "0x8DC0FFEE")]));
        assert!(!of(&[]));
    }
}
