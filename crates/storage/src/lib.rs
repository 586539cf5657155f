//! Model repositories in S3, Google Cloud Storage and Azure Blob Storage: what they hold is listed
//! from afar, and a model is brought into a folder of this machine when somebody loads it.
#![forbid(unsafe_code)]

mod cache;
mod checksum;
mod credentials;
mod download;
mod engine;
mod failure;
mod listing;
mod mirror;
mod profile;
mod snapshot;
mod store;
mod url;

use std::path::Path;
use std::sync::Arc;

use nereid_inference::Result;
use nereid_repository::Remote;

/// A repository at an `s3://`, `gs://` or `as://` URL, with credentials found as Triton finds them.
/// Nothing is asked of the network yet. `cache` is where models are kept, unless the environment
/// names a folder (`TRITON_AWS_MOUNT_DIRECTORY` and its kin).
pub fn open(url: &str, cache: &Path) -> Result<Arc<dyn Remote>> {
    Ok(mirror::Mirror::open(url, cache)?)
}
