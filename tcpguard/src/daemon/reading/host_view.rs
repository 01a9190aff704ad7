//! The loop's view of the host beside the maps. A source that cannot be read for a while does not stop the agent: its
//! last values count until it can be read again, and the status says so.

use std::collections::{BTreeMap, BTreeSet};

use tcpguard_engine::{Listener, TcpExt, Timestamp};
use tcpguard_host::finding::Finding;
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{
    self, Addresses, HalfOpen, ListenerGroup, ListeningSocket, MOST_PROTECTED, MOST_SSH_CLIENTS,
    OWN, Protected, ProtectedSet, SockDiag, SoftnetCpu, TcpSegments, tcp_ext,
};
use tcpguard_host::units::span;

use crate::config::Config;

/// The values that were read last.
#[derive(Debug, Default)]
pub struct HostView {
    listeners: Vec<ListenerGroup>,
    listening: Listening,
    tcp_ext: TcpExt,
    tcp_segments: TcpSegments,
    softnet: Vec<SoftnetCpu>,
    addresses: Addresses,
    /// Number of protected prefixes that there is no room for, by their kind.
    left_out: BTreeMap<&'static str, usize>,
    unread: Unread,
}

/// Sockets that listen, and since when they do.
#[derive(Debug, Default)]
struct Listening {
    /// By inode: the address and port, and the last look that did not find it. Time 0: the first look found it.
    sockets: BTreeMap<u32, (Listener, Timestamp)>,
    looked: Timestamp,
}

impl Listening {
    fn note(&mut self, now: Timestamp, sockets: &[ListeningSocket]) {
        for socket in sockets {
            let listener = Listener { addr: socket.addr, port: socket.port };
            self.sockets.entry(socket.inode).or_insert((listener, self.looked));
        }
        if self.sockets.len() > sockets.len() {
            let inodes: BTreeSet<u32> = sockets.iter().map(|socket| socket.inode).collect();
            self.sockets.retain(|inode, _| inodes.contains(inode));
        }
        self.looked = now;
    }
}

/// The sources that could not be read when they were asked last.
#[derive(Debug, Default)]
struct Unread(BTreeMap<&'static str, Failure>);

#[derive(Debug)]
struct Failure {
    since: Timestamp,
    why: String,
}

impl HostView {
    /// The listening sockets that are open to the network; with those of the `loopback` where it is attached.
    pub fn listeners(
        &mut self,
        now: Timestamp,
        loopback: bool,
        sockets: &mut SockDiag,
    ) -> &[ListenerGroup] {
        let read = if loopback { sockets.listeners() } else { sockets.open_listeners() };
        read.iter().for_each(|sockets| self.listening.note(now, sockets));
        let read = read.map(|sockets| ListenerGroup::merge(&sockets));
        self.unread.take(now, "listening sockets", read, &mut self.listeners);
        &self.listeners
    }

    /// The time before which no socket at an address and port has been listening, for each. Half-open handshakes from
    /// before it are those of earlier sockets.
    pub fn listening_since(&self) -> BTreeMap<Listener, Timestamp> {
        let mut since = BTreeMap::new();
        for (listener, at) in self.listening.sockets.values() {
            let oldest = since.entry(*listener).or_insert(*at);
            *oldest = (*oldest).min(*at);
        }
        since
    }

    /// The sockets that listen on these ports now; none where they cannot be read.
    pub fn listeners_on(
        &self,
        ports: &BTreeSet<u16>,
        sockets: &mut SockDiag,
    ) -> Vec<ListenerGroup> {
        let read = ports.iter().map(|port| sockets.listeners_on(*port));
        let read: Result<Vec<_>, _> = read.collect();
        read.map(|found| ListenerGroup::merge(&found.concat())).unwrap_or_default()
    }

    /// The half-open handshakes; `None` when they cannot be read, since the previous ones are over.
    pub fn half_open(&mut self, now: Timestamp, sockets: &mut SockDiag) -> Option<Vec<HalfOpen>> {
        let mut found = None;
        let read = sockets.half_open(None).map(Some);
        self.unread.take(now, "half-open handshakes", read, &mut found);
        found
    }

    /// The network namespace's TcpExt counters.
    pub fn tcp_ext(&mut self, now: Timestamp) -> TcpExt {
        self.unread.take(now, "/proc/net/netstat", tcp_ext(), &mut self.tcp_ext);
        self.tcp_ext
    }

    /// Segments that the network namespace's stack has counted.
    pub fn tcp_segments(&mut self, now: Timestamp) -> TcpSegments {
        self.unread.take(now, "/proc/net/snmp", linux::tcp_segments(), &mut self.tcp_segments);
        self.tcp_segments
    }

    /// Packets that each CPU received and lost.
    pub fn softnet(&mut self, now: Timestamp) -> &[SoftnetCpu] {
        self.unread.take(now, "/proc/net/softnet_stat", linux::softnet(), &mut self.softnet);
        &self.softnet
    }

    /// Prefixes that must not be cut off.
    pub fn protected(
        &mut self,
        now: Timestamp,
        sockets: &mut SockDiag,
        config: &Config,
    ) -> Vec<Protected> {
        let unread = &mut self.unread;
        self.addresses.read(now, sockets, &config.protect.ssh_ports, |source, read, last| {
            unread.take(now, source, read, last);
        });
        self.addresses.read_networks(|source, read, last| unread.take(now, source, read, last));
        let ProtectedSet { prefixes, left_out } =
            self.addresses.protected(&config.protect.prefixes);
        for (what, count) in left_out.iter().filter(|_| self.left_out.is_empty()) {
            log::warn!("{}", no_room(what, *count));
        }
        self.left_out = left_out;
        prefixes
    }

    /// Returns whether all addresses of the host's own are among those `protected`.
    pub fn knows_own_addresses(&self, protected: &[Protected]) -> bool {
        let left_out = self.left_out.keys().any(|what| OWN.contains(what));
        !left_out && protected.iter().any(|it| it.own)
    }

    /// Sources that cannot be read at the moment, and prefixes that there is no room for.
    pub fn health(&self, now: Timestamp) -> Vec<Finding> {
        let hint = "name the networks that matter (protect.prefixes), then: tcpguard reload";
        let left_out = self.left_out.iter().map(|(what, count)| {
            Finding::warning("exempt_full", no_room(what, *count)).about(*what).hint(hint)
        });
        self.unread.health(now).into_iter().chain(left_out).collect()
    }
}

impl Unread {
    /// Replaces `last` by the value that was `read`, if there is one.
    fn take<T>(
        &mut self,
        now: Timestamp,
        source: &'static str,
        read: Result<T, linux::Error>,
        last: &mut T,
    ) {
        match read {
            Ok(value) => {
                *last = value;
                if self.0.remove(source).is_some() {
                    log::info!("{source} readable again");
                }
            }
            Err(error) => {
                if !self.0.contains_key(source) {
                    let why = error.with_hint();
                    log::warn!("{source} unreadable, the last values read still apply: {why}");
                }
                let why = error.to_string();
                self.0.entry(source).or_insert(Failure { since: now, why });
            }
        }
    }

    fn health(&self, now: Timestamp) -> Vec<Finding> {
        let finding = |(source, failure): (&&str, &Failure)| {
            let text = format!(
                "{source} unreadable for {} ({}), the last values read still apply",
                span(now.since(failure.since)),
                failure.why
            );
            let hint = "tcpguard doctor";
            Finding::warning("source_unread", text).about(*source).hint(hint)
        };
        self.0.iter().map(finding).collect()
    }
}

fn no_room(what: &str, count: usize) -> String {
    format!(
        "{count} prefixes of the kind \"{what}\" are not exempt from rules: the limit is \
         {MOST_PROTECTED} protected prefixes of each IP version, {MOST_SSH_CLIENTS} of them for SSH clients"
    )
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn refused() -> Result<u32, linux::Error> {
        let source = io::Error::from_raw_os_error(libc::EACCES);
        Err(linux::Error::Read { path: PathBuf::from("/etc/resolv.conf"), source })
    }

    #[test]
    fn the_last_value_counts_while_a_source_cannot_be_read() {
        let (mut unread, mut last) = (Unread::default(), 0);
        unread.take(at(1), "resolvers", Ok(7), &mut last);
        assert_eq!((last, unread.health(at(1)).len()), (7, 0));

        unread.take(at(2), "resolvers", refused(), &mut last);
        unread.take(at(7), "resolvers", refused(), &mut last);
        let health = unread.health(at(9));
        assert_eq!((last, health.len()), (7, 1));
        assert_eq!(health[0].code, "source_unread");
        let text = &health[0].text;
        assert!(text.contains("resolvers unreadable for 7s"), "since the first time: {text}");
        assert!(text.contains("/etc/resolv.conf"), "{text}");

        unread.take(at(10), "resolvers", Ok(8), &mut last);
        assert_eq!((last, unread.health(at(10)).len()), (8, 0));
    }

    fn listening(inode: u32, port: u16) -> ListeningSocket {
        ListeningSocket {
            addr: [0; 4].into(),
            port,
            dual_stack: false,
            accept: 0,
            backlog: 128,
            inode,
            uid: 0,
            interface: 0,
            mptcp: false,
            drops: None,
        }
    }

    #[test]
    fn a_socket_listens_since_the_last_look_without_it_and_a_group_since_its_oldest_does() {
        let mut view = HostView::default();
        let mut since = |at: Timestamp, sockets: &[ListeningSocket]| {
            view.listening.note(at, sockets);
            view.listening_since().into_values().collect::<Vec<_>>()
        };
        assert_eq!(since(at(5), &[listening(1, 80), listening(2, 443)]), [at(0), at(0)]);
        // Restarted, and joined by a second one.
        assert_eq!(since(at(6), &[listening(3, 80), listening(2, 443)]), [at(5), at(0)]);
        let joined = [listening(3, 80), listening(4, 80)];
        assert_eq!(since(at(7), &joined), [at(5)]);
        assert_eq!(since(at(8), &joined[1..]), [at(6)]);
    }

    #[test]
    fn one_source_does_not_speak_for_another() {
        let (mut unread, mut last) = (Unread::default(), 0);
        unread.take(at(1), "resolvers", refused(), &mut last);
        unread.take(at(1), "gateways", Ok(1), &mut last);
        assert_eq!(unread.health(at(1)).len(), 1);
    }
}
