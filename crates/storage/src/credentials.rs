//! Credentials, found as Triton finds them: in the file of `TRITON_CLOUD_CREDENTIAL_PATH`, under the
//! longest name with which the repository's URL begins; without such a file in the environment.

use std::fmt;

use nereid_inference::{Error, Result};
use serde_json::Value;

use crate::url::{Cloud, Location};

const FILE: &str = "TRITON_CLOUD_CREDENTIAL_PATH";

/// What a repository is opened with. Empty where nothing is said.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) key_id: String,
    pub(crate) secret: String,
    pub(crate) session_token: String,
    pub(crate) region: String,
    pub(crate) profile: String,
    /// Google's: a file.
    pub(crate) file: String,
    /// Azure's.
    pub(crate) account: String,
    pub(crate) auth_type: String,
    pub(crate) client_id: String,
}

impl Credentials {
    pub(crate) fn find(location: &Location) -> Result<Self> {
        match variable(FILE) {
            Some(path) => Self::in_file(location, &path),
            None => {
                Ok(Self::in_environment(location.cloud, &|name| variable(name).unwrap_or_default()))
            }
        }
    }

    fn in_file(location: &Location, path: &str) -> Result<Self> {
        let unreadable = |error: &dyn fmt::Display| {
            Error::invalid_arg(format!("failed to read {path} ({FILE}): {error}"))
        };
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
        let json: Value = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
        Self::in_json(location, &json).ok_or_else(|| {
            Error::not_found(format!("Cannot match credential for path  {}", location.url))
        })
    }

    fn in_json(location: &Location, json: &Value) -> Option<Self> {
        let cloud = match location.cloud {
            Cloud::S3 => "s3",
            Cloud::Google => "gs",
            Cloud::Azure => "as",
        };
        let named = json.get(cloud)?.as_object()?.iter();
        let matching = named.filter(|(name, _)| location.url.starts_with(name.as_str()));
        let (_, found) = matching.max_by_key(|(name, _)| name.len())?;
        let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        Some(match location.cloud {
            Cloud::S3 => Self {
                key_id: text("key_id"),
                secret: text("secret_key"),
                session_token: text("session_token"),
                region: text("region"),
                profile: text("profile"),
                ..Self::default()
            },
            Cloud::Google => {
                Self { file: found.as_str().unwrap_or("").to_owned(), ..Self::default() }
            }
            Cloud::Azure => Self {
                account: text("account_str"),
                secret: text("account_key"),
                auth_type: text("auth_type"),
                client_id: text("client_id"),
                ..Self::default()
            },
        })
    }

    fn in_environment(cloud: Cloud, variable: &dyn Fn(&str) -> String) -> Self {
        match cloud {
            Cloud::S3 => Self {
                key_id: variable("AWS_ACCESS_KEY_ID"),
                secret: variable("AWS_SECRET_ACCESS_KEY"),
                session_token: variable("AWS_SESSION_TOKEN"),
                region: variable("AWS_DEFAULT_REGION"),
                profile: variable("AWS_PROFILE"),
                ..Self::default()
            },
            Cloud::Google => {
                Self { file: variable("GOOGLE_APPLICATION_CREDENTIALS"), ..Self::default() }
            }
            Cloud::Azure => Self {
                account: variable("AZURE_STORAGE_ACCOUNT"),
                secret: variable("AZURE_STORAGE_KEY"),
                auth_type: variable("AZURE_STORAGE_AUTH_TYPE"),
                client_id: variable("AZURE_STORAGE_CLIENT_ID"),
                ..Self::default()
            },
        }
    }

    /// What no message may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let secrets = [&self.secret, &self.session_token];
        secrets.into_iter().filter(|secret| !secret.is_empty()).cloned().collect()
    }
}

/// A variable of the environment, unless it is empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(url: &str) -> Option<Credentials> {
        let json = json!({
            "s3": {
                "": { "key_id": "any", "secret_key": "s" },
                "s3://special": { "key_id": "special", "region": "eu-west-1" },
                "s3://special/deep": { "profile": "deep" },
            },
            "gs": { "gs://bucket": "/keys/bucket.json" },
            "as": { "as://account/box": { "account_str": "a", "account_key": "k" } },
        });
        Credentials::in_json(&Location::parse(url).unwrap(), &json)
    }

    #[test]
    fn the_longest_name_counts() {
        let any = found("s3://other/x").unwrap();
        assert_eq!((any.key_id.as_str(), any.secret.as_str()), ("any", "s"));
        let special = found("s3://special/x").unwrap();
        assert_eq!((special.key_id.as_str(), special.region.as_str()), ("special", "eu-west-1"));
        assert_eq!(found("s3://special/deep/x").unwrap().profile, "deep");
        assert_eq!(found("gs://bucket/x").unwrap().file, "/keys/bucket.json");
        assert!(found("gs://elsewhere/x").is_none());
        let azure = found("as://account/box/x").unwrap();
        assert_eq!((azure.account.as_str(), azure.secret.as_str()), ("a", "k"));
    }

    #[test]
    fn variables_have_tritons_names() {
        let named = |cloud| Credentials::in_environment(cloud, &str::to_owned);
        assert_eq!(named(Cloud::S3).secret, "AWS_SECRET_ACCESS_KEY");
        assert_eq!(named(Cloud::S3).region, "AWS_DEFAULT_REGION");
        assert_eq!(named(Cloud::Google).file, "GOOGLE_APPLICATION_CREDENTIALS");
        assert_eq!(named(Cloud::Azure).auth_type, "AZURE_STORAGE_AUTH_TYPE");
    }
}
