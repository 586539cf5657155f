//! Where entries are kept.

use nereid_inference::{Error, Result};

use crate::{Local, Settings};

/// The one cache of a server.
pub enum ResponseCache {
    Local(Local),
}

impl ResponseCache {
    pub fn new(settings: &Settings) -> Result<Self> {
        match settings.cache() {
            "local" => local(settings).map(Self::Local),
            other => Err(Error::invalid_arg(format!("there is no cache '{other}'"))),
        }
    }
}

fn local(settings: &Settings) -> Result<Local> {
    let fail =
        |reason: &str| Error::invalid_arg(format!("Failed to initialize LocalCache: {reason}"));
    settings.check_keys(&["size"])?;
    let size = settings.get("size");
    let size = size.ok_or_else(|| fail("config didn't contain a valid 'size' field."))?;
    match size.parse() {
        Ok(size) if size > 0 => Ok(Local::new(size)),
        _ => Err(fail(&format!("'size' must be a number of bytes above 0, got '{size}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(given: &[(&str, &str, &str)]) -> Result<(), String> {
        let own = |(a, b, c): &(&str, &str, &str)| (a.to_string(), b.to_string(), c.to_string());
        let given: Vec<_> = given.iter().map(own).collect();
        let settings = Settings::new(&given).map_err(|error| error.to_string())?.unwrap();
        ResponseCache::new(&settings).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn settings() {
        assert_eq!(made(&[("local", "size", "x"), ("local", "size", "1000")]), Ok(()));
        for wrong in [
            &[("local", "size", "0")][..],
            &[("local", "size", "-1")],
            &[("local", "sise", "1000")],
            &[("other", "size", "1000")],
            &[("local", "size", "1000"), ("redis", "host", "a")],
        ] {
            made(wrong).unwrap_err();
        }
        assert!(Settings::new(&[]).unwrap().is_none());
    }
}
