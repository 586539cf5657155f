//! Clients of the three clouds, with credentials.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path as File;
use std::sync::{Arc, Once};
use std::time::Duration;

use nereid_inference::{Error, Result};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::checksum::Connector;
use crate::credentials::{Credentials, variable};
use crate::profile;
use crate::url::{Cloud, Location};

/// A server that says nothing for so long is given up for this time.
const SILENCE: Duration = Duration::from_secs(30);

/// Who tells programs in Google's cloud their credentials.
const GOOGLE_METADATA: &str = "metadata.google.internal:80";

/// Variables in which the libraries find a server that is not the cloud's. Only one that is named in
/// plain HTTP is spoken to without TLS.
const ENDPOINTS: [(Cloud, &str); 4] = [
    (Cloud::S3, "AWS_ENDPOINT_URL"),
    (Cloud::S3, "AWS_ENDPOINT"),
    (Cloud::Google, "GOOGLE_BASE_URL"),
    (Cloud::Azure, "AZURE_STORAGE_ENDPOINT"),
];

pub(crate) struct Store {
    pub(crate) client: Arc<dyn ObjectStore>,
    /// What messages must not show.
    pub(crate) secrets: Vec<String>,
}

impl Store {
    pub(crate) fn open(location: &Location) -> Result<Self> {
        choose_cryptography();
        let mut credentials = Credentials::find(location)?;
        let client = match location.cloud {
            Cloud::S3 => {
                profile::complete(&mut credentials)?;
                s3(location, &credentials)
            }
            Cloud::Google => google(location, &credentials),
            Cloud::Azure => azure(location, &credentials)?,
        };
        let secrets = credentials.secrets();
        let client = client.map_err(|error| {
            let doing = format!("open {}", location.url);
            crate::failure::failed(&doing, &error, &secrets)
        })?;
        Ok(Self { client, secrets })
    }
}

type Client = object_store::Result<Arc<dyn ObjectStore>>;

fn s3(location: &Location, credentials: &Credentials) -> Client {
    let mut builder = AmazonS3Builder::from_env()
        .with_http_connector(Connector::default())
        .with_client_options(options(location))
        .with_retry(retry())
        .with_virtual_hosted_style_request(false)
        .with_bucket_name(&location.bucket);
    if !credentials.key_id.is_empty() && !credentials.secret.is_empty() {
        builder = builder
            .with_access_key_id(&credentials.key_id)
            .with_secret_access_key(&credentials.secret);
        if !credentials.session_token.is_empty() {
            builder = builder.with_token(&credentials.session_token);
        }
    }
    if !credentials.region.is_empty() {
        builder = builder.with_region(&credentials.region);
    }
    if let Some(endpoint) = &location.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    Ok(Arc::new(builder.build()?))
}

fn google(location: &Location, credentials: &Credentials) -> Client {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_http_connector(Connector::default())
        .with_client_options(options(location))
        .with_retry(retry())
        .with_bucket_name(&location.bucket);
    if !credentials.file.is_empty() {
        builder = builder.with_application_credentials(&credentials.file);
    } else if !google_may_tell_credentials() {
        // A public bucket, then.
        builder = builder.with_skip_signature(true);
    }
    Ok(Arc::new(builder.build()?))
}

/// Whether there is anybody to ask: a file of `gcloud auth`, or the machine's own account.
fn google_may_tell_credentials() -> bool {
    let usual = ".config/gcloud/application_default_credentials.json";
    let file = variable("HOME").map(|home| File::new(&home).join(usual));
    let named = ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"];
    if file.is_some_and(|file| file.exists()) || named.iter().any(|name| variable(name).is_some()) {
        return true;
    }
    let Ok(mut addresses) = GOOGLE_METADATA.to_socket_addrs() else { return false };
    let wait = Duration::from_secs(1);
    addresses.any(|address| TcpStream::connect_timeout(&address, wait).is_ok())
}

fn azure(location: &Location, credentials: &Credentials) -> Result<Client> {
    let named = location.account.as_deref().unwrap_or_default();
    let account = if credentials.account.is_empty() { named } else { &credentials.account };
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_http_connector(Connector::default())
        .with_client_options(options(location))
        .with_retry(retry())
        .with_account(account)
        .with_container_name(&location.bucket);
    builder = match credentials.auth_type.as_str() {
        "" | "key" if credentials.secret.is_empty() => builder.with_skip_signature(true),
        "" | "key" => builder.with_access_key(&credentials.secret),
        "managed_identity" => builder.with_credential_type("managed_identity"),
        "default" => builder,
        other => {
            return Err(Error::invalid_arg(format!(
                "{}: unknown AZURE_STORAGE_AUTH_TYPE '{other}': known are key, managed_identity \
                 and default",
                location.url
            )));
        }
    };
    if !credentials.client_id.is_empty() {
        builder = builder.with_client_id(&credentials.client_id);
    }
    Ok(builder.build().map(|client| Arc::new(client) as _))
}

/// Triton's timeouts are the libraries'. A large object may take long, a silent server may not.
fn options(location: &Location) -> ClientOptions {
    let named = location.endpoint.clone().or_else(|| {
        ENDPOINTS
            .iter()
            .find_map(|(cloud, name)| variable(name).filter(|_| *cloud == location.cloud))
    });
    ClientOptions::new()
        .with_allow_http(named.is_some_and(|url| url.starts_with("http://")))
        .with_timeout_disabled()
        .with_read_timeout(SILENCE)
        .with_connect_timeout(Duration::from_secs(5))
}

/// How a server that answers 5xx, or nothing, is asked again: for some seconds.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(3),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 5, retry_timeout: Duration::from_secs(60) }
}

/// What TLS computes with is named once in a process.
fn choose_cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Another one that was chosen before does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
