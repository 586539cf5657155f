//! The page for people, at `/`. Clients of the API never see it: only who asks for HTML does.

use bytes::Bytes;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use crate::reply::{Reply, reply};

const HTML: &str = include_str!("page/index.html");

/// Everything the page needs is in it, and it talks to this server only.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Whether this is a browser that somebody sits in front of.
pub(crate) fn wants_page(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    path == "/" && method == Method::GET && accept.contains("text/html")
}

pub(crate) fn page() -> Reply {
    let mut page =
        reply(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(HTML.as_bytes()));
    let headers = page.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    page
}
