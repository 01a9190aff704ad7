//! Fill levels of the listeners' queues, and their limits: `tcpguard listeners`.

mod advice;
pub mod application;
mod document;
mod group;
mod judge;
pub mod limits;

pub use document::*;
pub use group::Place;
pub use judge::{Earlier, ListenerFacts, judge};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::net::netdevice::index_to_name;
use rustix::net::{AddressFamily, SocketType};

use crate::finding::{or_unread, owners};
use crate::linux::{Error, ListeningSocket, SockDiag, Sysctls, tcp_ext};
use crate::time::Time;

/// Reads everything that [`judge`] needs.
///
/// # Errors
/// When the kernel does not list TCP sockets, or `/proc` cannot be read.
pub fn gather(at: Time) -> Result<ListenerFacts, Error> {
    let mut unread = Vec::new();
    let mut diag = SockDiag::open()?;
    let sockets = diag.listeners()?;
    let mut half_open: BTreeMap<Place, Vec<Duration>> = BTreeMap::new();
    for entry in diag.half_open(None)? {
        let place = (entry.server.ip(), entry.server.port(), entry.interface);
        half_open.entry(place).or_default().push(entry.timer_age());
    }
    let inodes = sockets.iter().map(|socket| socket.inode).collect();
    Ok(ListenerFacts {
        at,
        half_open,
        interfaces: interfaces(&sockets),
        tcp: or_unread(Sysctls::default().tcp().map(Some), &mut unread).unwrap_or_default(),
        tcp_ext: or_unread(tcp_ext().map(Some), &mut unread),
        owners: owners(&inodes, &mut unread)?,
        earlier: None,
        sockets,
        unread,
    })
}

/// The names of the interfaces that sockets are bound to. One that has gone has its number.
fn interfaces(sockets: &[ListeningSocket]) -> BTreeMap<u32, String> {
    let bound: BTreeSet<u32> =
        sockets.iter().map(|socket| socket.interface).filter(|index| *index != 0).collect();
    let name = |index: u32| {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
        index_to_name(socket, index).ok()
    };
    bound
        .into_iter()
        .map(|index| (index, name(index).unwrap_or_else(|| index.to_string())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_running_host_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("address").port();
        let at = Time("2026-11-20T14:05:31.204Z".parse().expect("a time"));
        let report = judge(&gather(at).expect("readable"));
        let found: Vec<_> = report.listeners.iter().filter(|it| it.port == port).collect();
        let [found] = found[..] else { panic!("{found:?}") };
        assert_eq!(found.pids, [std::process::id()]);
        assert_eq!((found.accept.waiting, found.drops), (0, Some(0)));
        assert!(report.settings.somaxconn.is_some() && report.host.is_some());
    }
}
