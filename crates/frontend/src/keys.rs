//! Keys that clients show, and what each is for. They stand in a file that is read again when it
//! changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::header::HeaderValue;
use ring::digest::{SHA256, digest};

use crate::access::{Denial, Wish};
use crate::reload::{follow, read};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Inference, and everything that shows what there is.
    Infer,
    /// Load, unload, shared memory, trace and log settings, and everything that shows what there is.
    Control,
    /// Everything.
    Admin,
}

impl Scope {
    const NAMES: [(&str, Self); 3] =
        [("infer", Self::Infer), ("control", Self::Control), ("admin", Self::Admin)];
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, scope)| scope == self);
        formatter.write_str(name.map_or("", |(name, _)| name))
    }
}

type Digest = [u8; 32];

struct Key {
    digest: Digest,
    scopes: Vec<Scope>,
}

/// The keys that are known.
pub struct Keys {
    current: ArcSwap<Vec<Key>>,
}

impl Keys {
    /// Reads the file now, and whenever it changes. A file that makes no sense then is logged, and
    /// the keys stay as they were.
    pub fn start(path: PathBuf) -> Result<Arc<Self>, String> {
        let keys = Arc::new(Self { current: ArcSwap::from_pointee(load(&path)?) });
        let used = Arc::downgrade(&keys);
        tokio::spawn(follow(vec![path.clone()], move || {
            let Some(keys) = used.upgrade() else { return false };
            match load(&path) {
                Ok(read) => {
                    keys.current.store(Arc::new(read));
                    tracing::info!("keys read again: {}", path.display());
                }
                Err(error) => tracing::error!("the keys stay as they are: {error}"),
            }
            true
        }));
        Ok(keys)
    }

    /// Whether the key in a header is for `wish`.
    pub(crate) fn check(&self, header: Option<&HeaderValue>, wish: Wish) -> Result<(), Denial> {
        let given = header.and_then(bearer).ok_or(Denial::NoKey)?;
        // What a comparison of digests gives away by its time is of no use to anybody.
        let given = digest(&SHA256, given);
        let keys = self.current.load();
        let key = keys.iter().find(|key| key.digest == given.as_ref()).ok_or(Denial::NoKey)?;
        let needed = match wish {
            Wish { control: true, .. } => Scope::Control,
            Wish { category: crate::Category::Inference, .. } => Scope::Infer,
            // To see what there is, any will do.
            _ => return Ok(()),
        };
        match key.scopes.contains(&needed) || key.scopes.contains(&Scope::Admin) {
            true => Ok(()),
            false => Err(Denial::Scope(needed)),
        }
    }
}

fn bearer(header: &HeaderValue) -> Option<&[u8]> {
    let (scheme, key) = header.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

fn load(path: &Path) -> Result<Vec<Key>, String> {
    parse(&read(path)?).map_err(|(line, error)| format!("{}:{line}: {error}", path.display()))
}

/// Lines `<scope>[,<scope>] <key>`, where a key may also be given as `sha256:<hexadecimal digest>`.
fn parse(text: &str) -> Result<Vec<Key>, (usize, String)> {
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        keys.push(parse_line(line).map_err(|error| (index + 1, error))?);
    }
    Ok(keys)
}

fn parse_line(line: &str) -> Result<Key, String> {
    let (scopes, key) = line.split_once(char::is_whitespace).ok_or("expected <scopes> <key>")?;
    let scope = |name: &str| {
        let found = Scope::NAMES.iter().find(|(known, _)| *known == name);
        let found = found.map(|(_, scope)| *scope);
        found.ok_or_else(|| format!("unknown scope '{name}'; there are infer, control and admin"))
    };
    let scopes = scopes.split(',').map(scope).collect::<Result<_, _>>()?;
    let key = key.trim();
    let digest = match key.strip_prefix("sha256:") {
        Some(hex) => from_hex(hex).ok_or("expected 64 hexadecimal digits behind 'sha256:'")?,
        None => digest(&SHA256, key.as_bytes()).as_ref().try_into().unwrap_or_default(),
    };
    Ok(Key { digest, scopes })
}

fn from_hex(text: &str) -> Option<Digest> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair[0] << 4 | pair[pair.len() - 1]).collect();
    (text.len() == 64).then(|| bytes.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Category;

    fn keys(text: &str) -> Keys {
        Keys { current: ArcSwap::from_pointee(parse(text).ok().unwrap()) }
    }

    #[test]
    fn keys_are_for_their_scopes() {
        let known = keys(
            "# comment\n\ninfer one\ninfer,control two\nadmin \
             sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n",
        );
        let infer = Wish::to_see(Category::Inference);
        let load = Wish::to_change(Category::ModelRepository);
        let index = Wish::to_see(Category::ModelRepository);
        let check =
            |header: &'static str, wish| known.check(Some(&HeaderValue::from_static(header)), wish);
        assert_eq!(check("Bearer one", infer), Ok(()));
        assert_eq!(check("Bearer one", index), Ok(()));
        assert_eq!(check("Bearer one", load), Err(Denial::Scope(Scope::Control)));
        assert_eq!(check("bearer  two ", load), Ok(()));
        assert_eq!(check("Bearer abc", load), Ok(()), "the digest is that of 'abc'");
        for unknown in ["Bearer three", "Bearer ", "Basic one", "one"] {
            assert_eq!(check(unknown, infer), Err(Denial::NoKey), "{unknown}");
        }
        assert_eq!(known.check(None, infer), Err(Denial::NoKey));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, message) in [
            ("infer", 1, "expected <scopes> <key>"),
            ("\ninfer,all a", 2, "unknown scope 'all'; there are infer, control and admin"),
            ("infer sha256:12", 1, "expected 64 hexadecimal digits behind 'sha256:'"),
        ] {
            assert_eq!(parse(text).err(), Some((line, message.to_owned())));
        }
    }
}
