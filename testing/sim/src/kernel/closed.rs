//! SYNs to addresses and ports at which nothing listens: counted by source as the data path does
//! (`tcpguard_common::fastpath::closed_port_sources`), and refused by the stack as far as it is left to
//! (`tcpguard_common::fastpath::closed`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use tcpguard_common::abi::maps::CLOSED_PORT_CELLS;
use tcpguard_common::abi::{Addr, ClosedPortSource as Cell, FlowKey, HashKey};
use tcpguard_common::fastpath::{closed_port_sources, hash};
use tcpguard_engine::{ClosedPortSource, Listener, Timestamp};

use crate::random::{ln, mix};

/// The cells, each for one source, and the limit.
#[derive(Clone)]
pub(super) struct Closed {
    key: HashKey,
    cells: Vec<Cell>,
    /// Ports that are taken to be closed. (The BPF programs forget them after a minute, and learn them again at once.)
    ports: BTreeSet<u16>,
    /// SYNs a second that go to the stack; `None`: all of them.
    limit: Option<u32>,
    /// Resets are not seen, so that closed ports are recognised by SYNs.
    unseen: bool,
    /// Tokens that are left of the limit, and the time of that count.
    tokens: (f64, Timestamp),
}

impl Default for Closed {
    fn default() -> Self {
        Self {
            key: HashKey(std::array::from_fn(|word| mix(word as u64))),
            cells: vec![Cell::default(); CLOSED_PORT_CELLS as usize],
            ports: BTreeSet::new(),
            limit: None,
            unseen: false,
            tokens: (0.0, Timestamp::default()),
        }
    }
}

impl Closed {
    /// Counts a SYN to this address and port.
    pub fn note(&mut self, now: Timestamp, client: IpAddr, place: Listener) {
        let flow = FlowKey {
            client: packed(client),
            server: packed(place.addr),
            client_port: [0; 2],
            server_port: place.port.to_be_bytes(),
        };
        let cell = hash::source(&self.key, &flow.client.client()) % u64::from(CLOSED_PORT_CELLS);
        closed_port_sources::note(&mut self.cells[cell as usize], &self.key, &flow, now.as_nanos());
    }

    /// Lets so many SYNs a second go to the stack; `None`: all of them.
    pub fn limit(&mut self, per_second: Option<u32>, unseen: bool) {
        (self.limit, self.unseen) = (per_second, unseen);
    }

    /// The stack refuses a SYN to a port, and that is seen.
    pub fn refuse(&mut self, port: u16) {
        self.ports.insert(port);
    }

    /// Returns whether another SYN to a port is one too many for the stack.
    pub fn is_over(&mut self, now: Timestamp, port: u16) -> bool {
        let Some(rate) = self.limit.map(f64::from) else { return false };
        if !self.ports.contains(&port) {
            if self.unseen {
                self.ports.insert(port);
            }
            return false;
        }
        let (tokens, since) = self.tokens;
        let tokens = (tokens + now.since(since).as_secs_f64() * rate).min(rate / 8.0 + 1.0);
        let over = tokens < 1.0;
        self.tokens = (if over { tokens } else { tokens - 1.0 }, now);
        over
    }

    /// Returns the sources as the agent reads them. It is not shown which of them are clients as well.
    pub fn sources(&self) -> impl Iterator<Item = ClosedPortSource> {
        let time = |seconds: u32| Timestamp::from_millis(u64::from(seconds) * 1000);
        self.cells.iter().filter(|cell| cell.syns > 0).map(move |cell| ClosedPortSource {
            source: unpacked(&cell.source),
            server: unpacked(&cell.server),
            port: u16::from_be_bytes(cell.port),
            ports: distinct(cell.ports),
            servers: distinct(cell.servers),
            syns: cell.syns,
            completed: 0,
            since: time(cell.since_s),
            last: time(cell.last_s),
        })
    }
}

fn packed(addr: IpAddr) -> Addr {
    match addr {
        IpAddr::V4(addr) => Addr::from_v4(addr.octets()),
        IpAddr::V6(addr) => Addr::from_v6(addr.octets()),
    }
}

fn unpacked(addr: &Addr) -> IpAddr {
    IpAddr::from(addr.octets()).to_canonical()
}

/// Returns the estimated number of distinct values that set these bits (linear counting: Whang, Vander-Zanden, Taylor,
/// 1990).
fn distinct(bits: u64) -> u32 {
    let unset = f64::from(bits.count_zeros().max(1));
    (64.0 * ln(64.0 / unset)).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> Listener {
        Listener { addr: [203, 0, 113, 10].into(), port }
    }

    #[test]
    fn ports_are_counted_by_source_and_sources_apart() {
        let mut closed = Closed::default();
        let (scanner, client) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for port in 0..40 {
            closed.note(Timestamp::from_millis(5000), scanner, place(1000 + port));
            closed.note(Timestamp::from_millis(6000), client, place(8080));
        }
        let found =
            |source: IpAddr| closed.sources().find(|probe| probe.source == source).expect("a cell");
        assert!((30..50).contains(&found(scanner).ports), "{:?}", found(scanner));
        assert_eq!((found(scanner).syns, found(client).syns), (40, 40));
        assert_eq!((found(client).ports, found(client).port), (1, 8080));
        assert_eq!(found(client).since, Timestamp::from_millis(6000));
    }

    #[test]
    fn the_stack_is_left_so_many_a_second() {
        let mut closed = Closed::default();
        let passing = |closed: &mut Closed, from: u64| {
            let over = |ms| closed.is_over(Timestamp::from_millis(from + ms), 9);
            (0..10_000).map(over).filter(|over| !over).count()
        };
        assert_eq!(passing(&mut closed, 0), 10_000, "all of them");
        closed.limit(Some(50), false);
        assert_eq!(passing(&mut closed, 20_000), 10_000, "nobody was refused there");
        closed.refuse(9);
        let limited = passing(&mut closed, 40_000);
        assert!((500..510).contains(&limited), "{limited} in ten seconds");
        let mut tried = Closed::default();
        tried.limit(Some(50), true);
        assert!((500..511).contains(&passing(&mut tried, 20_000)), "the first SYN decides");
    }

    #[test]
    fn a_flood_of_single_syns_takes_no_more_cells_than_there_are() {
        let mut closed = Closed::default();
        for host in 0..5000_u32 {
            let client = std::net::Ipv4Addr::from_bits(0x0b00_0000 + host).into();
            closed.note(Timestamp::from_millis(5000), client, place(8080));
        }
        let sources = closed.sources().count();
        assert!((1000..=CLOSED_PORT_CELLS as usize).contains(&sources), "{sources}");
    }
}
