//! Closed ports, in the kernel and on the host.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tcpguard_common::abi::{Mode, Reason};
use tcpguard_kit::net::packet::{Segment, flags};

use super::Pair;
use super::traffic::v4;

/// More SYNs than the limit of 20 a second gives at once.
const SYNS: u8 = 30;

/// Nothing that is followed listens there.
fn closed() -> SocketAddr {
    SocketAddr::new(v4(2, 1), 9)
}

/// Number of SYNs of some unvalidated sources that both sides drop.
fn dropped(pair: &mut Pair) -> u64 {
    let drops = |pair: &Pair| pair.model.packets.reasons[Reason::DropClosedPort as usize];
    let before = drops(pair);
    for number in 0..SYNS {
        let new_client = SocketAddr::new(v4(9, 100 + number), 4000);
        pair.ingress(&Segment::new(new_client, closed(), flags::SYN).to_frame());
    }
    drops(pair) - before
}

fn set_ports(pair: &Pair, open: &[u16]) {
    let listeners = pair.model.listeners.iter().map(|(key, id)| (key, *id));
    let open: BTreeSet<u16> = open.iter().copied().collect();
    pair.dataplane.set_ports_beside(listeners, &open).unwrap();
}

#[test]
fn a_refusing_port_stays_closed_when_listeners_change_unless_one_opens_there() {
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    pair.keep_agent();
    assert_eq!(dropped(&mut pair), 0, "it refused nobody");
    let new_client = SocketAddr::new(v4(9, 9), 4000);
    let mut refusal = Segment::new(closed(), new_client, flags::RST | flags::ACK);
    (refusal.seq, refusal.ack) = (0, 1);
    pair.egress(&refusal.to_frame());
    assert_eq!(dropped(&mut pair), u64::from(SYNS) - 4, "but for the burst");
    set_ports(&pair, &[]);
    assert_eq!(dropped(&mut pair), u64::from(SYNS));
    // A socket that is not monitored.
    set_ports(&pair, &[9]);
    pair.model.ports.entry(9_u16.to_be_bytes()).or_default().open = 1;
    assert_eq!(dropped(&mut pair), 0);
    pair.assert_same_state();
}
