//! Scanners: attempts that failed, grouped by source.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::evidence::{RETRANSMIT_AGE, source};
use crate::input::{ClosedPortSource, Flow, FlowState, Timestamp, constants};
use crate::listener::{SCAN_ADDRESSES, SCAN_PORTS, SCAN_PORTS_LIKELY};

constants! {
    /// Likelihood ratio from which the failures and successes of a source are a scanner's and not a
    /// client's. 256 is four more failures than successes.
    pub(crate) const SCAN_LIKELIHOOD: f64 = 256.0 Number in 16.0..=1e12,
        "Threshold random walk (Jung, Paxson, Berger, Balakrishnan, 2004): a client's first \
         try succeeds with 0.8, a scanner's with 0.2.";
}

/// Handshakes that a scanner leaves half-open at one address and port at most, on average: it tries once,
/// or twice. More are those of a health check, which returns.
const TRIES_PER_PLACE: usize = 2;
/// Chance that the first try of a real client at an address and port succeeds, and that a scanner's
/// does (Jung, Paxson, Berger, Balakrishnan, "Fast portscan detection using sequential hypothesis
/// testing", 2004).
const CLIENT_SUCCEEDS: f64 = 0.8;
const SCANNER_SUCCEEDS: f64 = 0.2;

/// Returns whether a source is a scanner: by the number of ports or addresses that it tried, or because its
/// failures outweigh its successes so far that no client's would.
pub(super) fn is_scanner(probe: &ClosedPortSource) -> bool {
    let likely = || likelihood(probe.ports, probe.completed) >= SCAN_LIKELIHOOD;
    // A host that connects to many others finds some of them dead, and completes most of its handshakes.
    let mostly_fails = || probe.completed < u64::from(probe.servers);
    probe.ports >= SCAN_PORTS
        || probe.servers >= SCAN_ADDRESSES && mostly_fails()
        || probe.ports >= SCAN_PORTS_LIKELY && likely()
}

/// Returns the factor by which this many failures and successes are more likely a scanner's than a client's.
fn likelihood(failures: u32, successes: u64) -> f64 {
    let failure = (1.0 - SCANNER_SUCCEEDS) / (1.0 - CLIENT_SUCCEEDS);
    let success = SCANNER_SUCCEEDS / CLIENT_SUCCEEDS;
    // More than this says no more, and stays a number.
    let (failures, successes) = (failures.min(128), successes.min(128));
    failure.powi(failures as i32) * success.powi(successes as i32)
}

/// Sources that leave handshakes half-open at many listeners, once at each: they scan for open
/// ports. Flows come with their listener's port. A source without an attempt within `recent` is
/// left out.
pub(super) fn half_open(
    now: Timestamp,
    flows: impl Iterator<Item = (Flow, u16)>,
    recent: Duration,
) -> Vec<ClosedPortSource> {
    let left_open = flows.filter(|(flow, _)| is_left_open(now, flow));
    let mut tries: Vec<Try> = left_open.map(|(flow, port)| Try::new(&flow, port)).collect();
    tries.sort_unstable_by_key(|one| (one.source, one.at));
    let tried = tries.chunk_by(|one, next| one.source == next.source).filter_map(tried);
    tried.filter(|probe| now.since(probe.last) <= recent).collect()
}

/// One handshake that was left half-open. After a flood there may be tens of thousands.
struct Try {
    source: IpAddr,
    server: IpAddr,
    port: u16,
    weight: u32,
    at: Timestamp,
}

impl Try {
    fn new(flow: &Flow, port: u16) -> Self {
        let weight = flow.weight().try_into().unwrap_or(u32::MAX);
        Self { source: source(flow.client), server: flow.server, port, weight, at: flow.syn_at }
    }
}

/// Returns whether a scanner left this handshake half-open. A client without a return path retransmits its
/// SYN, while a scanner needs only the SYN-ACK.
fn is_left_open(now: Timestamp, flow: &Flow) -> bool {
    flow.syn_retransmits == 0
        && match flow.state {
            FlowState::Reset => true,
            FlowState::SynAck => now.since(flow.syn_at) >= RETRANSMIT_AGE,
            _ => false,
        }
}

/// Summary of one source's attempts, which are sorted by time.
fn tried(tries: &[Try]) -> Option<ClosedPortSource> {
    let (first, last) = (tries.first()?, tries.last()?);
    let places: BTreeSet<(IpAddr, u16)> = tries.iter().map(|one| (one.server, one.port)).collect();
    let servers: BTreeSet<IpAddr> = places.iter().map(|(server, _)| *server).collect();
    let ports: BTreeSet<u16> = places.iter().map(|(_, port)| *port).collect();
    (tries.len() <= TRIES_PER_PLACE * places.len()).then(|| ClosedPortSource {
        source: last.source,
        server: last.server,
        port: last.port,
        ports: ports.len() as u32,
        servers: servers.len() as u32,
        syns: tries.iter().fold(0, |syns: u32, one| syns.saturating_add(one.weight)),
        completed: 0,
        since: first.at,
        last: last.at,
    })
}

/// A source's attempts at closed ports and at open ports, combined.
pub(super) fn together(closed: &ClosedPortSource, open: &ClosedPortSource) -> ClosedPortSource {
    let same_server = closed.servers == 1 && open.servers == 1 && closed.server == open.server;
    let same_port = closed.ports == 1 && open.ports == 1 && closed.port == open.port;
    ClosedPortSource {
        ports: if same_port { 1 } else { closed.ports + open.ports },
        servers: if same_server { 1 } else { closed.servers + open.servers },
        syns: closed.syns.saturating_add(open.syns),
        since: closed.since.min(open.since),
        last: closed.last.max(open.last),
        ..*closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(ports: u32, completed: u64) -> ClosedPortSource {
        ClosedPortSource {
            source: [192, 0, 2, 1].into(),
            server: [203, 0, 113, 1].into(),
            port: 22,
            ports,
            servers: 1,
            syns: ports,
            completed,
            since: Timestamp::default(),
            last: Timestamp::default(),
        }
    }

    #[test]
    fn a_new_client_that_fails_at_eight_ports_scans_and_a_validated_one_gets_more() {
        let scans = |ports, completed| is_scanner(&probe(ports, completed));
        assert!(!scans(7, 0), "too few to tell, however likely");
        assert!(scans(8, 0));
        assert!(scans(8, 4));
        assert!(!scans(8, 5), "one in three succeeds");
        assert!(!scans(14, 100));
        assert!(scans(15, 100), "so many are a scan of any source");
        assert!(!scans(0, u64::MAX));
    }

    /// A mail server, of whose destinations one in twenty is dead.
    #[test]
    fn a_host_of_whose_own_connections_most_complete_scans_no_addresses() {
        let scans =
            |servers, completed| is_scanner(&ClosedPortSource { servers, ..probe(1, completed) });
        assert!(scans(25, 0));
        assert!(scans(33, 32), "most fail");
        assert!(!scans(33, 33));
        assert!(!scans(33, 640));
        assert!(scans(ClosedPortSource::MOST, 200));
    }

    #[test]
    fn closed_and_open_places_add_up() {
        let both = together(&probe(10, 0), &probe(6, 0));
        assert_eq!((both.ports, both.servers, both.syns), (16, 1, 16));
        let elsewhere = ClosedPortSource { server: [203, 0, 113, 2].into(), ..probe(1, 0) };
        let both = together(&probe(1, 0), &elsewhere);
        assert_eq!((both.ports, both.servers), (1, 2));
    }
}
