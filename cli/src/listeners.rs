//! The sockets that are listened on: opened here, or handed over by systemd (socket activation).

use std::net::SocketAddr;

use listenfd::ListenFd;
use rustix::io::FdFlags;
use tokio::net::{TcpListener, TcpSocket};

use crate::flags::ServeFlags;
use crate::serve::Failure;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Names of sockets, as `FileDescriptorName=` gives them, in the order of those without names.
const NAMES: [&str; 3] = ["http", "grpc", "metrics"];

pub(crate) struct Listeners {
    pub(crate) http: Option<TcpListener>,
    pub(crate) grpc: Option<TcpListener>,
    pub(crate) metrics: Option<TcpListener>,
}

impl Listeners {
    pub(crate) fn open(flags: &ServeFlags) -> Result<Self, Failure> {
        let [http, grpc, metrics] = handed_over()?;
        let open = |given: Option<TcpListener>, service, wanted: bool, address, port, share| {
            if !wanted || given.is_some() {
                return Ok::<_, Failure>(given.filter(|_| wanted));
            }
            flags.cloud.allows_port(service, port)?;
            listen(SocketAddr::new(address, port), share).map(Some)
        };
        let (address, share) = (flags.http_address, flags.reuse_http_port);
        let http = open(http, "HTTP", flags.allows_http(), address, flags.http_port, share)?;
        let share = flags.reuse_grpc_port;
        let grpc_port = flags.grpc_port;
        let grpc = open(grpc, "GRPC", flags.allows_grpc(), flags.grpc_address, grpc_port, share)?;
        let (wanted, port) = (flags.metrics.allow_metrics, flags.metrics.metrics_port);
        let address = flags.metrics.metrics_address.unwrap_or(address);
        let metrics = open(metrics, "metrics", wanted, address, port, false)?;
        Ok(Self { http, grpc, metrics })
    }
}

/// The sockets that systemd has opened, in the order of [`NAMES`].
fn handed_over() -> Result<[Option<TcpListener>; 3], Failure> {
    let mut sockets = ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let places = places(&names, sockets.len())?;
    let mut given = [None, None, None];
    for (index, place) in places.into_iter().enumerate() {
        let failed =
            |error| format!("socket {index} that was handed over is of no use here: {error}");
        let socket = sockets.take_tcp_listener(index).map_err(failed)?;
        let Some(socket) = socket else { continue };
        // Workers must not keep the port.
        rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        socket.set_nonblocking(true)?;
        given[place] = Some(TcpListener::from_std(socket)?);
    }
    Ok(given)
}

/// Which of [`NAMES`] each socket is: by its name, or by its number where it has none of them.
fn places(names: &str, count: usize) -> Result<Vec<usize>, String> {
    let named: Vec<Option<usize>> = names
        .split(':')
        .map(|name| NAMES.iter().position(|known| *known == name))
        .chain(std::iter::repeat(None))
        .take(count)
        .collect();
    let by_number = named.iter().all(Option::is_none);
    let places: Vec<usize> = match by_number {
        true => (0..count).collect(),
        false => named.into_iter().flatten().collect(),
    };
    let fits = places.len() == count
        && places.iter().enumerate().all(|(i, place)| *place < 3 && !places[..i].contains(place));
    if fits {
        return Ok(places);
    }
    Err(format!(
        "{count} sockets were handed over, named '{names}': expected at most one each of {}",
        NAMES.join(", ")
    ))
}

pub(crate) fn listen(address: SocketAddr, share: bool) -> Result<TcpListener, Failure> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Connections of a server before this one may still linger on the port.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(share)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| format!("failed to listen on {address}: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn sockets_are_known_by_name_or_by_number() {
        assert_eq!(places("", 0), Ok(vec![]));
        assert_eq!(places("grpc:http", 2), Ok(vec![1, 0]));
        assert_eq!(places("nereid.socket:nereid.socket", 2), Ok(vec![0, 1]));
        assert_eq!(places("", 3), Ok(vec![0, 1, 2]));
        for (names, count) in [("http:http", 2), ("http:other", 2), ("", 4)] {
            assert!(places(names, count).is_err(), "{names}");
        }
    }
}
