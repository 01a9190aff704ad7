//! Connection attempts and the records that are kept of them.

use std::net::SocketAddr;

use tcpguard_common::abi::{Mode, Reason};
use tcpguard_kit::net::packet::{Segment, flags};

use super::traffic::v4;
use super::{MS, Pair, START_NS};

/// TCP Fast Open: of the data in the SYN all, some or none may have been taken.
#[test]
fn a_handshake_whose_syn_carries_data_completes_by_what_was_taken_of_it() {
    for (taken, completes) in [(101, 1), (51, 1), (1, 1), (0, 0)] {
        let mut pair = Pair::new(Mode::Enforce, 0, false);
        let (client, server) = (SocketAddr::new(v4(9, 9), 4000), SocketAddr::new(v4(2, 1), 80));
        let mut syn = Segment::new(client, server, flags::SYN);
        (syn.seq, syn.payload) = (7, vec![1; 100]);
        pair.ingress(&syn.to_frame());
        let mut answer = Segment::new(server, client, flags::SYN | flags::ACK);
        (answer.seq, answer.ack) = (77, 7 + taken);
        pair.egress(&answer.to_frame());
        let mut ack = Segment::new(client, server, flags::ACK);
        (ack.seq, ack.ack) = (7 + taken, 78);
        pair.ingress(&ack.to_frame());
        pair.assert_same_state();
        let counters = pair.model.listener_counters.values();
        let acknowledged: u64 = counters.map(|counters| counters.acknowledged).sum();
        assert_eq!(acknowledged, completes, "{taken}");
    }
}

#[test]
fn a_third_ack_is_late_by_the_polls_since_its_syn_in_both() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    let server = SocketAddr::new(v4(2, 1), 80);
    for (port, polled_ms) in [(4000, [0, 0]), (4001, [100, 0]), (4002, [100, 50]), (4003, [200, 1])]
    {
        pair.model.config.polled_ns = polled_ms.map(|ms| START_NS + ms * MS);
        pair.dataplane.set_config(&pair.model.config).unwrap();
        pair.complete_handshake(SocketAddr::new(v4(9, 9), port), server);
        pair.assert_same_state();
    }
    assert_eq!(pair.model.listener_counters[&0].acknowledged, 4);
    assert_eq!(pair.model.late[&0].polls, [1, 2], "at once, one poll later, two polls later");
}

#[test]
fn a_syn_ack_repeated_after_the_third_ack_says_that_the_stack_ignored_it() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    let (client, server) = (SocketAddr::new(v4(9, 9), 4000), SocketAddr::new(v4(2, 1), 80));
    pair.complete_handshake(client, server);
    let mut repeated = Segment::new(server, client, flags::SYN | flags::ACK);
    (repeated.seq, repeated.ack) = (77, 1);
    pair.egress(&repeated.to_frame());
    pair.assert_same_state();
    assert_eq!(pair.model.listener_counters[&0].ack_ignored, 1);
}

#[test]
fn in_one_direction_a_third_ack_is_matched_by_its_number_and_validates_no_client() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    pair.model.config.one_sided = 1;
    pair.dataplane.set_config(&pair.model.config).unwrap();
    let (client, server) = (SocketAddr::new(v4(9, 9), 4000), SocketAddr::new(v4(2, 1), 80));
    pair.ingress(&Segment::new(client, server, flags::SYN).to_frame());
    let mut ack = Segment::new(client, server, flags::ACK);
    (ack.seq, ack.ack) = (1, 4711);
    pair.ingress(&ack.to_frame());
    pair.assert_same_state();
    assert_eq!(pair.reasons.get(&Reason::HandshakeAck), Some(&1));
    assert_eq!(pair.model.listener_counters[&0].acknowledged, 1);
    assert_eq!(pair.model.clients.len(), 0);
}

#[test]
fn a_source_that_has_come_round_its_ports_goes_on_with_its_attempts_in_both() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    let mut syn =
        Segment::new(SocketAddr::new(v4(7, 7), 5000), SocketAddr::new(v4(2, 1), 80), flags::SYN);
    for (at_ms, attempt_ms) in [(0, 0), (130, 0), (2_990, 0), (3_120, 3_120)] {
        pair.set_clock(START_NS + at_ms * MS);
        syn.seq += 1;
        pair.ingress(&syn.to_frame());
        pair.assert_same_state();
        let since: Vec<_> = pair.model.flows.iter().map(|(_, flow)| flow.syn_ns).collect();
        assert_eq!(since, [START_NS + attempt_ms * MS], "after {at_ms} ms");
    }
}
