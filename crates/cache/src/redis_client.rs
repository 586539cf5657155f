//! Where a Redis server is, who we are to it, and by what we know it: Triton's settings.

use std::path::Path;
use std::str::FromStr;

use nereid_inference::{Error, Result};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisResult, TlsCertificates,
};

use crate::Settings;

const DEFAULT_PORT: u16 = 6379;

/// Not connected yet. Name and password may come from the environment.
pub(crate) fn client(host: &str, settings: &Settings) -> Result<RedisResult<Client>> {
    let secret = |key: &str, variable: &str| {
        settings.get(key).map(str::to_owned).or_else(|| std::env::var(variable).ok())
    };
    let mut who = RedisConnectionInfo::default().set_db(number(settings, "db", 0)?);
    if let Some(user) = secret("user", "TRITONCACHE_REDIS_USERNAME") {
        who = who.set_username(user);
    }
    if let Some(password) = secret("password", "TRITONCACHE_REDIS_PASSWORD") {
        who = who.set_password(password);
    }
    let (host, port) = (host.to_owned(), number(settings, "port", DEFAULT_PORT)?);
    let with = |address: ConnectionAddr| -> RedisResult<ConnectionInfo> {
        Ok(address.into_connection_info()?.set_redis_settings(who))
    };
    let Some(certificates) = certificates(&host, settings)? else {
        return Ok(with(ConnectionAddr::Tcp(host, port)).and_then(Client::open));
    };
    let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
    Ok(with(address).and_then(|info| Client::build_with_tls(info, certificates)))
}

/// `None` without TLS.
fn certificates(host: &str, settings: &Settings) -> Result<Option<TlsCertificates>> {
    let enabled = match settings.get("tls_enabled") {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(other) => {
            return Err(fail(&format!("'tls_enabled' is neither true nor false: '{other}'")));
        }
    };
    if !enabled {
        // Otherwise a password would go out in the clear that was meant to be protected.
        let meant = ["cert", "key", "cacert", "cacert_dir", "sni"];
        let found = meant.into_iter().find(|key| settings.get(key).is_some());
        return found.map_or(Ok(None), |key| {
            Err(fail(&format!("'{key}' is given, but 'tls_enabled' is not true")))
        });
    }
    if settings.get("sni").is_some_and(|name| name != host) {
        return Err(fail("'sni' must be the 'host', by which the server's certificate is checked"));
    }
    let client_tls = match (settings.get("cert"), settings.get("key")) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? })
        }
        _ => return Err(fail("'cert' and 'key' go together")),
    };
    let root_cert = match (settings.get("cacert"), settings.get("cacert_dir")) {
        (Some(file), None) => Some(read(file)?),
        (None, Some(folder)) => Some(read_all(folder)?),
        (None, None) => None,
        _ => return Err(fail("'cacert' and 'cacert_dir' exclude each other")),
    };
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}

/// A setting that is a number.
pub(crate) fn number<T: FromStr>(settings: &Settings, key: &str, default: T) -> Result<T> {
    let Some(value) = settings.get(key) else { return Ok(default) };
    value.parse().map_err(|_| fail(&format!("'{key}' is no such number: '{value}'")))
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    std::fs::read(path).map_err(|error| fail(&format!("{}: {error}", path.display())))
}

/// The files of a folder, one behind the other.
fn read_all(folder: &str) -> Result<Vec<u8>> {
    let problem = |error: std::io::Error| fail(&format!("{folder}: {error}"));
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(problem)? {
        let path = entry.map_err(problem)?.path();
        if path.is_file() {
            all.extend(read(path)?);
            all.push(b'\n');
        }
    }
    Ok(all)
}

fn fail(reason: &str) -> Error {
    Error::invalid_arg(format!("Failed to initialize RedisCache: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(given: &[(&str, &str)]) -> String {
        let own = |(key, value): &(&str, &str)| ("redis".into(), (*key).into(), (*value).into());
        let given: Vec<_> = given.iter().map(own).collect();
        let settings = Settings::new(&given).unwrap().unwrap();
        client("localhost", &settings).unwrap_err().to_string()
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        let tls = ("tls_enabled", "true");
        assert!(refusal(&[("port", "no")]).contains("'port' is no such number: 'no'"));
        assert!(refusal(&[("cacert", "a")]).contains("'tls_enabled' is not true"));
        assert!(refusal(&[("tls_enabled", "maybe")]).contains("neither true nor false"));
        assert!(refusal(&[tls, ("cert", "a")]).contains("'cert' and 'key' go together"));
        assert!(refusal(&[tls, ("sni", "other")]).contains("'sni' must be the 'host'"));
        assert!(refusal(&[tls, ("cacert", "/no/such/file")]).contains("/no/such/file: "));
        assert!(refusal(&[tls, ("cacert_dir", "/no/such")]).contains("/no/such: "));
    }
}
