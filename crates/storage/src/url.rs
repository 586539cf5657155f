//! The URLs of repositories, in Triton's forms.

use nereid_inference::{Error, Result};
use object_store::path::Path;

/// Whose storage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloud {
    S3,
    Google,
    Azure,
}

/// Where a repository lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// As the user has written it.
    pub(crate) url: String,
    pub(crate) cloud: Cloud,
    /// A server of the user's own: `http://host:port`.
    pub(crate) endpoint: Option<String>,
    /// Azure's account.
    pub(crate) account: Option<String>,
    /// Bucket or container.
    pub(crate) bucket: String,
    /// The repository's folder in the bucket.
    pub(crate) prefix: Path,
}

impl Location {
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid_arg(format!("invalid repository '{url}': {why}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("not a URL"))?;
        let cloud = match scheme {
            "s3" => Cloud::S3,
            "gs" => Cloud::Google,
            "as" => Cloud::Azure,
            _ => return Err(invalid("known are s3://, gs:// and as://")),
        };
        let (endpoint, rest) = match cloud {
            Cloud::S3 => endpoint(rest),
            _ => (None, rest),
        };
        // A path may be written with more slashes than it has.
        let mut parts = rest.split('/').filter(|part| !part.is_empty());
        let account = match cloud {
            Cloud::Azure => {
                let host = parts.next().ok_or_else(|| invalid("it names no account"))?;
                Some(host.strip_suffix(".blob.core.windows.net").unwrap_or(host).to_owned())
            }
            _ => None,
        };
        let missing = "it names no bucket";
        let bucket = parts.next().ok_or_else(|| invalid(missing))?.to_owned();
        let prefix = Path::parse(parts.collect::<Vec<_>>().join("/"));
        let prefix = prefix.map_err(|error| invalid(&error.to_string()))?;
        Ok(Self { url: url.to_owned(), cloud, endpoint, account, bucket, prefix })
    }

    /// An object of the bucket, for messages.
    pub(crate) fn name(&self, key: &Path) -> String {
        let scheme = match self.cloud {
            Cloud::S3 => "s3",
            Cloud::Google => "gs",
            Cloud::Azure => "as",
        };
        let account = self.account.iter().map(|account| format!("{account}/")).collect::<String>();
        format!("{scheme}://{account}{}/{key}", self.bucket)
    }
}

/// `[http[s]://]host:port/…`: a server that is not Amazon's. Without a scheme it is HTTP.
fn endpoint(rest: &str) -> (Option<String>, &str) {
    let (scheme, rest) = match (rest.strip_prefix("https://"), rest.strip_prefix("http://")) {
        (Some(rest), _) => (Some("https"), rest),
        (_, Some(rest)) => (Some("http"), rest),
        _ => (None, rest),
    };
    let rest = rest.trim_start_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if scheme.is_none() && !has_port {
        return (None, rest);
    }
    (Some(format!("{}://{host}", scheme.unwrap_or("http"))), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (Option<String>, Option<String>, String, String) {
        let location = Location::parse(url).unwrap();
        (location.endpoint, location.account, location.bucket, location.prefix.to_string())
    }

    #[test]
    fn tritons_forms_are_understood() {
        let s3 = |endpoint: Option<&str>, bucket: &str, prefix: &str| {
            (endpoint.map(str::to_owned), None, bucket.to_owned(), prefix.to_owned())
        };
        assert_eq!(parsed("s3://bucket"), s3(None, "bucket", ""));
        assert_eq!(parsed("s3://bucket/"), s3(None, "bucket", ""));
        assert_eq!(parsed("s3://my.bucket/a//b/"), s3(None, "my.bucket", "a/b"));
        let own = Some("http://localhost:4566");
        assert_eq!(parsed("s3://localhost:4566/bucket/a"), s3(own, "bucket", "a"));
        assert_eq!(parsed("s3://http://localhost:4566/bucket/a"), s3(own, "bucket", "a"));
        let tls = Some("https://s3.example.com:443");
        assert_eq!(parsed("s3://https://s3.example.com:443/b/models"), s3(tls, "b", "models"));
        assert_eq!(parsed("gs://bucket/x/y"), s3(None, "bucket", "x/y"));
        let azure = (None, Some("account".to_owned()), "box".to_owned(), "x".to_owned());
        assert_eq!(parsed("as://account/box/x"), azure);
        assert_eq!(parsed("as://account.blob.core.windows.net/box/x"), azure);
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |url: &str| Location::parse(url).unwrap_err().message().to_owned();
        assert_eq!(message("s3://"), "invalid repository 's3://': it names no bucket");
        assert!(message("s3://localhost:4566/").contains("no bucket"));
        assert!(message("as://").contains("no account"));
        assert!(message("as://account").contains("no bucket"));
        assert!(message("ftp://x/y").contains("known are"));
        assert!(message("s3://b/../c").contains("invalid repository"));
    }

    #[test]
    fn an_object_is_named_without_its_server() {
        let location = Location::parse("s3://localhost:4566/bucket/a").unwrap();
        assert_eq!(location.name(&Path::from("a/b")), "s3://bucket/a/b");
    }
}
