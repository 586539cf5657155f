//! One object: brought whole, or from where a download before was cut, and held against what the
//! store says of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use md5::{Digest, Md5};
use nereid_inference::{Error, Result};
use object_store::{GetOptions, GetRange, GetResult};
use rustix::fs::{FlockOperation, flock};

use crate::cache::Cache;
use crate::checksum::StatedMd5;
use crate::failure::failed;
use crate::listing::Object;
use crate::store::Store;

/// How often something damaged is asked for again.
const DAMAGED: usize = 2;

/// How long to wait for another server that brings the same object.
const TURN: Duration = Duration::from_millis(100);

/// Why an object did not come.
enum Trouble {
    Store(object_store::Error),
    Disk(io::Error),
    /// It is not what was listed.
    Changed,
    Damaged(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Brings an object into the cache; `name` is for messages.
pub(crate) async fn bring(store: &Store, cache: &Cache, object: &Object, name: &str) -> Result<()> {
    let partial = cache.partial(object);
    let (mut damaged, mut before) = (0, 0);
    let trouble = loop {
        let turn = turn(cache, object, &partial).await;
        let mut file = match turn {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(()),
            Err(error) => break Trouble::Disk(error),
        };
        let outcome = match rest(store, object, &mut file).await {
            Ok(()) => cache.keep(&file, object).map_err(Trouble::Disk),
            Err(trouble) => Err(trouble),
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(Trouble::Damaged(how)) if damaged < DAMAGED => {
                tracing::warn!("{name} arrived damaged, asking again: {how}");
                damaged += 1;
            }
            // Cut off, but it is moving on.
            Err(Trouble::Store(error)) if length(&file) > before => {
                before = length(&file);
                tracing::warn!(
                    "{name} was cut off after {before} of {} bytes: {error}",
                    object.size
                );
            }
            Err(trouble) => break trouble,
        }
    };
    Err(match trouble {
        Trouble::Store(error) => failed(&format!("read {name}"), &error, &store.secrets),
        Trouble::Disk(error) => {
            Error::internal(format!("failed to keep {name} in {}: {error}", partial.display()))
        }
        Trouble::Changed => Error::unavailable(format!("{name} has changed since it was listed")),
        Trouble::Damaged(how) => {
            Error::unavailable(format!("{name} arrived damaged {} times: {how}", DAMAGED + 1))
        }
    })
}

/// The file to write to, once nobody else does. `None`: the object is here.
async fn turn(cache: &Cache, object: &Object, partial: &Path) -> io::Result<Option<File>> {
    loop {
        if cache.holds(object) {
            return Ok(None);
        }
        let mut options = File::options();
        let file = options.create(true).truncate(false).read(true).write(true).open(partial)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            tokio::time::sleep(TURN).await;
            continue;
        }
        // Whoever had it may have finished and moved it away.
        let same = std::fs::metadata(partial).is_ok_and(|now| {
            file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
        });
        if same {
            return Ok(Some(file));
        }
    }
}

fn length(file: &File) -> u64 {
    file.metadata().map_or(0, |found| found.len())
}

/// Appends what is missing to `file`.
async fn rest(store: &Store, object: &Object, file: &mut File) -> std::result::Result<(), Trouble> {
    let mut have = length(file);
    if have >= object.size {
        // Whole, and yet not kept: nobody knows what is in it.
        file.set_len(0)?;
        have = 0;
    }
    if object.size == 0 {
        return Ok(());
    }
    let mut hasher = Md5::new();
    file.seek(SeekFrom::Start(0))?;
    digest(file, &mut hasher)?;
    let tag = object.e_tag.as_deref().map(unquoted);
    let options = GetOptions {
        range: (have > 0).then_some(GetRange::Offset(have)),
        if_match: tag.map(|tag| format!("\"{tag}\"")),
        ..GetOptions::default()
    };
    let result = match store.client.get_opts(&object.key, options).await {
        Err(object_store::Error::Precondition { .. }) => return Err(Trouble::Changed),
        other => other.map_err(Trouble::Store)?,
    };
    let now = result.meta.e_tag.as_deref().map(unquoted);
    if result.meta.size != object.size || (tag.is_some() && now.is_some() && tag != now) {
        return Err(Trouble::Changed);
    }
    let stated = result.extensions.get::<StatedMd5>().copied();
    append(result, file, &mut hasher).await?;
    verify(object, length(file), stated, hasher).inspect_err(|_| {
        // Nothing of it can be trusted. If this fails, the length will tell.
        let _ = file.set_len(0);
    })
}

async fn append(
    result: GetResult,
    file: &mut File,
    hasher: &mut Md5,
) -> std::result::Result<(), Trouble> {
    let mut stream = result.into_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(Trouble::Store)?;
        file.write_all(&chunk)?;
        hasher.update(&chunk);
    }
    Ok(())
}

fn verify(
    object: &Object,
    length: u64,
    stated: Option<StatedMd5>,
    hasher: Md5,
) -> std::result::Result<(), Trouble> {
    if length != object.size {
        return Err(Trouble::Damaged(format!("{length} bytes instead of {}", object.size)));
    }
    let found: [u8; 16] = hasher.finalize().into();
    match stated {
        Some(StatedMd5(stated)) if stated != found => {
            Err(Trouble::Damaged(format!("its MD5 is {} instead of {}", hex(&found), hex(&stated))))
        }
        _ => Ok(()),
    }
}

fn digest(file: &mut File, hasher: &mut Md5) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Listings and answers do not agree on the quotes.
fn unquoted(tag: &str) -> &str {
    tag.trim_matches('"')
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
