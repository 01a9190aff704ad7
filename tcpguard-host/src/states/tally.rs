//! The data kept of all connections during the dump: little, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::QueueTally;
use crate::linux::{Connection, TcpState};

/// Destinations that are counted at once.
const PLACES: usize = 1024;
/// Destinations that are reported.
const LISTED: usize = 5;

/// Connections by state and family; IPv4 over a socket for both families is IPv4.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    ipv4: [u64; TcpState::ALL.len()],
    ipv6: [u64; TcpState::ALL.len()],
}

impl Counts {
    /// Returns the number of connections in this state, over IPv6 or over IPv4.
    pub fn of(&self, state: TcpState, ipv6: bool) -> u64 {
        let family = if ipv6 { &self.ipv6 } else { &self.ipv4 };
        family[state as usize]
    }

    /// Counts `number` more.
    pub fn add(&mut self, state: TcpState, ipv6: bool, number: u64) {
        let family = if ipv6 { &mut self.ipv6 } else { &mut self.ipv4 };
        family[state as usize] += number;
    }
}

/// Connections from one address of this host to one destination. Each takes a local port that no
/// other of them can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Destination {
    pub local: IpAddr,
    /// Remote address and port.
    pub remote: SocketAddr,
    /// Number of connections, at least.
    pub connections: u64,
}

/// The data kept of all connections.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Number of connections by state and family.
    pub counts: Counts,
    /// Inodes of those in CLOSE_WAIT, and [`Connection::accept_queue`].
    pub close_wait: Vec<(u32, Option<u16>)>,
    /// The data that waits in them, if it was asked for.
    pub queues: Option<QueueTally>,
    /// Ports on which this host listens: connections at these were accepted.
    listening: BTreeSet<u16>,
    /// Ports that the kernel takes for connections that this host opens.
    local_ports: Option<RangeInclusive<u16>>,
    opened: BTreeMap<(IpAddr, SocketAddr), u64>,
}

impl Tally {
    /// A tally of no connection yet. With `queues` it also keeps the data that waits in them.
    pub fn new(
        listening: BTreeSet<u16>,
        local_ports: Option<RangeInclusive<u16>>,
        queues: bool,
    ) -> Self {
        let queues = queues.then(QueueTally::default);
        Self { listening, local_ports, queues, ..Self::default() }
    }

    /// Takes one connection, or listener, into account.
    pub fn add(&mut self, connection: &Connection) {
        // A listener has no other end; its local address shows the family.
        self.counts.add(connection.state, connection.local.is_ipv6(), 1);
        match connection.state {
            TcpState::Listen | TcpState::SynRecv => return,
            TcpState::CloseWait => {
                self.close_wait.push((connection.inode, connection.accept_queue()));
            }
            _ => {}
        }
        let port = connection.local.port();
        let opened_here = self.local_ports.as_ref().is_some_and(|ports| ports.contains(&port))
            && !self.listening.contains(&port);
        if opened_here {
            self.count_opened((connection.local.ip(), connection.remote));
        }
        if let Some(queues) = &mut self.queues {
            queues.add(connection);
        }
    }

    /// Finds the destinations with the most connections in a fixed number of slots (Misra and Gries,
    /// Science of Computer Programming 2, 1982): of `n` connections a destination is counted at most
    /// `n / (PLACES + 1)` too low, and exactly while there are no more destinations than slots.
    fn count_opened(&mut self, destination: (IpAddr, SocketAddr)) {
        if let Some(count) = self.opened.get_mut(&destination) {
            *count += 1;
        } else if self.opened.len() < PLACES {
            self.opened.insert(destination, 1);
        } else {
            self.opened.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The destinations with the most connections, these first.
    pub fn destinations(&self) -> Vec<Destination> {
        let mut found: Vec<_> = self
            .opened
            .iter()
            .map(|((local, remote), count)| Destination {
                local: *local,
                remote: *remote,
                connections: *count,
            })
            .collect();
        found.sort_by_key(|destination| std::cmp::Reverse(destination.connections));
        found.truncate(LISTED);
        found
    }

    /// The sockets for which owners are looked up.
    pub fn inodes(&self) -> BTreeSet<u32> {
        let waiting = self.queues.iter().flat_map(QueueTally::inodes);
        self.close_wait
            .iter()
            .map(|(inode, _)| *inode)
            .chain(waiting)
            .filter(|inode| *inode != 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(state: TcpState, local: &str, remote: &str, inode: u32) -> Connection {
        Connection {
            state,
            local: local.parse().expect("an address"),
            remote: remote.parse().expect("an address"),
            recv_queue: 0,
            send_queue: 0,
            inode,
            uid: 0,
            interface: 0,
        }
    }

    fn tally() -> Tally {
        Tally::new([443, 40_000].into(), Some(32_768..=60_999), false)
    }

    #[test]
    fn states_are_counted_by_family() {
        let mut tally = tally();
        for state in TcpState::ALL {
            tally.add(&connection(state, "192.0.2.1:443", "198.51.100.9:4000", 0));
        }
        tally.add(&connection(TcpState::SynRecv, "[2001:db8::1]:443", "[2001:db8::2]:4000", 0));
        for state in TcpState::ALL {
            assert_eq!(tally.counts.of(state, false), 1, "{state:?}");
            let of_ipv6 = u64::from(state == TcpState::SynRecv);
            assert_eq!(tally.counts.of(state, true), of_ipv6, "{state:?}");
        }
    }

    #[test]
    fn only_close_wait_asks_for_its_owner() {
        let mut tally = tally();
        for (state, inode) in [
            (TcpState::Established, 1),
            (TcpState::CloseWait, 2),
            (TcpState::CloseWait, 0),
            (TcpState::LastAck, 0),
            (TcpState::Listen, 4),
        ] {
            tally.add(&connection(state, "192.0.2.1:443", "198.51.100.9:4000", inode));
        }
        assert_eq!(tally.close_wait, [(2, None), (0, Some(443))]);
        assert_eq!(tally.inodes(), [2].into());
    }

    #[test]
    fn only_what_this_host_opened_costs_a_local_port() {
        let mut tally = tally();
        for (state, local) in [
            (TcpState::Established, "192.0.2.1:50000"),
            (TcpState::TimeWait, "192.0.2.1:50001"),
            (TcpState::SynSent, "192.0.2.1:60999"),
            (TcpState::Established, "192.0.2.2:50000"),
            // Accepted, opened from a port that was asked for, or half-open.
            (TcpState::Established, "192.0.2.1:443"),
            (TcpState::Established, "192.0.2.1:40000"),
            (TcpState::Established, "192.0.2.1:1023"),
            (TcpState::SynRecv, "192.0.2.1:50002"),
        ] {
            tally.add(&connection(state, local, "198.51.100.9:5432", 0));
        }
        let found: Vec<_> =
            tally.destinations().iter().map(|it| (it.local.to_string(), it.connections)).collect();
        assert_eq!(found, [("192.0.2.1".to_owned(), 3), ("192.0.2.2".to_owned(), 1)]);
    }

    #[test]
    fn a_peer_with_many_is_found_among_very_many() {
        let mut tally = tally();
        let mut all = 0;
        for round in 0..20_000u32 {
            let [a, b, c, d] = round.to_be_bytes();
            let once = format!("{}.{b}.{c}.{d}:443", a + 10);
            tally.add(&connection(TcpState::TimeWait, "192.0.2.1:50000", &once, 0));
            tally.add(&connection(TcpState::TimeWait, "192.0.2.1:50000", "203.0.113.7:5432", 0));
            all += 2;
        }
        let found = tally.destinations()[0];
        assert_eq!(found.remote, "203.0.113.7:5432".parse().expect("an address"));
        let too_low = all / (PLACES as u64 + 1);
        assert!((20_000 - too_low..=20_000).contains(&found.connections), "{found:?}");
        assert!(tally.opened.len() <= PLACES);
    }
}
