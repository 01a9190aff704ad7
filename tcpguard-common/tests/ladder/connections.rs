//! SYNs of clients with a connection of which something is left at the host.

use tcpguard_common::abi::{Action, Addr, FlowState, ListenerEntry, Rate, Reason};
use tcpguard_common::fastpath::{hash, pending, sets};
use tcpguard_common::model::{Model, Packet};

use super::{
    BUDGET, S, any_source, counters, exhaust_stack, flood, flow, host, send, syn, third_ack, v4,
    validate,
};

const COOKIES: u8 = ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;
pub(super) const BOTH: [Addr; 2] =
    [Addr::from_v4([198, 51, 100, 7]), Addr::from_v6_words([0x2001_0db8, 7, 7, 7])];

/// The reply of the host's stack to [`syn`].
pub(super) fn syn_ack(client: Addr, seq: u32) -> Vec<u8> {
    let mut frame = syn(client, 4711);
    let (source, length, tcp) = if client.as_v4().is_some() { (26, 4, 34) } else { (22, 16, 54) };
    frame[..12].rotate_left(6);
    frame[source..source + 2 * length].rotate_left(length);
    frame[tcp..tcp + 4].rotate_left(2);
    frame[tcp + 8..tcp + 12].copy_from_slice(&seq.wrapping_add(1).to_be_bytes());
    frame[tcp + 13] = 0x12;
    frame
}

/// Returns whether a client connects with its next SYN, with the kernel's sockets as they are. A SYN that is handed to
/// the stack connects, and replaces the connection that there was. A returned cookie is found to be good, but it
/// is of use only where the kernel finds the listening socket for it.
fn gets_in(host: &mut Model, client: Addr, seq: u32) -> bool {
    host.config.heartbeat_ns = host.now_ns;
    let mut packet = Packet(syn(client, seq));
    match host.ingress_packet(&mut packet).action() {
        Action::Pass => true,
        Action::Drop => false,
        Action::Tx => {
            let ack = third_ack(client, seq, &packet.0);
            assert!(host.redeem(&ack).is_some(), "a wrong cookie");
            !host.sockets.connections.contains(&flow(client))
        }
    }
}

/// A busy client reuses a port. Its last connection waits at the host in TIME_WAIT, or was there
/// before the client restarted. The naive variant answers it with a cookie like any other SYN: it
/// hangs.
#[test]
fn a_client_of_whose_connection_something_is_left_is_not_answered_with_a_cookie() {
    let few = Rate { interval_ns: u32::MAX, burst: 1 };
    for (mitigations, replies) in [
        (COOKIES, Rate::default()),
        (COOKIES, few),
        (COOKIES | BUDGET, Rate::default()),
        (COOKIES | BUDGET, few),
    ] {
        for client in BOTH {
            let mut host = host(mitigations);
            exhaust_stack(&mut host);
            host.config.replies_per_cpu = replies;
            assert_eq!(send(&mut host, any_source(1), 1), Reason::Cookie);
            validate(&mut host, client);
            // More than its bucket holds: 50, and as many more as it completed lately.
            for seq in 0..200 {
                assert_eq!(gets_in(&mut host, client, seq), seq < 51 || replies != few);
            }
            host.sockets.connections.insert(flow(client));
            let before = counters(&host);
            for seq in 200..400 {
                assert!(gets_in(&mut host, client, seq), "{mitigations:#b}, {seq}");
            }
            assert_eq!(host.packets.reasons[Reason::Syn as usize], 200);
            assert_eq!(counters(&host).limited, before.limited);
            host.sockets.connections.clear();
            host.now_ns += S;
            assert_eq!(send(&mut host, client, 400), Reason::Cookie, "nothing is left");

            // As if no client was validated.
            host.sockets.connections.insert(flow(client));
            host.client_filter.clear();
            host.config.replies_per_cpu = Rate::default();
            host.listener_entries.values_mut().for_each(|entry| entry.mitigations = COOKIES);
            assert!(!gets_in(&mut host, client, 401), "it would not have hung");
        }
    }
}

/// After an upgrade, or where the agent is started in a flood, no client is validated yet.
#[test]
fn while_the_tables_are_new_the_socket_table_knows_whose_connections_are_left() {
    for client in BOTH {
        let mut host = host(COOKIES);
        host.config.preexisting_connections = 1;
        host.sockets.connections.insert(flow(client));
        assert!(gets_in(&mut host, client, 1));
        assert_eq!(flood(&mut host, 1_000, S, any_source).answered, 1_000, "new clients have none");
        assert_eq!(host.sockets.searches, 1_001);
        host.config.preexisting_connections = 0;
        assert!(!gets_in(&mut host, client, 2), "it would not have hung");
    }
}

/// The socket table is searched for sources that can be in it, at any rate, and for no unvalidated
/// source.
#[test]
fn a_flood_pays_for_no_search_unless_it_is_in_a_clients_name() {
    let mut host = host(COOKIES);
    let client = BOTH[0];
    validate(&mut host, client);
    host.sockets.connections.insert(flow(v4(198, 51, 100, 8)));
    assert_eq!(flood(&mut host, 20_000, S, any_source).answered, 20_000);
    assert_eq!(host.sockets.searches, 0);
    let spoofed = flood(&mut host, 20_000, S, |_| client);
    assert_eq!(host.sockets.searches, 20_000);
    assert_eq!((spoofed.passed, spoofed.dropped), (0, 0), "there is no such connection");
    for mitigations in [BUDGET, ListenerEntry::OUT_OF_STATE] {
        host.listener_entries.get_mut(&0).unwrap().mitigations = mitigations;
        flood(&mut host, 1_000, S, |_| client);
    }
    assert_eq!(host.sockets.searches, 20_000, "nothing is answered there");
}

/// The client's SYN was in the kernel's queue when cookies began at the listener. It is retransmitted, because
/// the reply was lost or is still on its way.
#[test]
fn a_half_open_connection_of_a_new_client_goes_on_as_it_began() {
    for client in BOTH {
        for followed in [true, false] {
            let mut host = host(0);
            host.config.sample_shift = if followed { 0 } else { 31 };
            assert_eq!(send(&mut host, client, 1), Reason::Syn);
            host.egress(&syn_ack(client, 1));
            host.sockets.connections.insert(flow(client));
            host.listener_entries.values_mut().for_each(|entry| entry.mitigations = COOKIES);
            host.now_ns += S;
            let once_more = send(&mut host, client, 1);
            assert_eq!(once_more, if followed { Reason::Syn } else { Reason::Cookie });
            // The stack has given up.
            host.sockets.connections.clear();
            host.now_ns += S;
            assert_eq!(send(&mut host, client, 1), Reason::Cookie);
            let searches = host.sockets.searches;
            host.now_ns += S;
            assert_eq!(send(&mut host, client, 1), Reason::Cookie, "the answer was lost");
            assert_eq!(host.sockets.searches, searches + u64::from(followed));
        }
    }
}

/// An entry as two CPUs may leave it that record two SYNs in one slot at once: the key of one with the
/// rest of the other. The sender of both knows the sequence number of the reply to its own SYN.
#[test]
fn a_mixed_entry_validates_no_client() {
    let others = [v4(198, 51, 100, 8), Addr::from_v6_words([0x2001_0db8, 8, 8, 8])];
    for (own, spoofed) in BOTH.into_iter().zip(others) {
        for unbound in [false, true] {
            let mut host = host(0);
            host.config.established_seen = 0;
            send(&mut host, own, 7);
            let answer = syn_ack(own, 7);
            host.egress(&answer);
            let (_, mut mixed) = host.flows.iter().next().expect("it was recorded");
            assert_eq!(mixed.state, FlowState::SynAck as u8);
            let [mine, others] =
                [own, spoofed].map(|of| hash::flow(&host.config.hash_key, &flow(of)));
            if unbound {
                mixed.isn = sets::bound(others, sets::bound(mine, mixed.isn));
            }
            let set = host.flows.set(sets::index(others));
            (set.tags[0], set.keys[0], set.values[0]) = (sets::tag(others), flow(spoofed), mixed);
            host.pending.insert(pending::place(others), pending::mark(host.now_ns));
            host.ingress(&third_ack(spoofed, 7, &answer));
            assert_eq!(host.clients.peek(&spoofed.client()).is_some(), unbound);
        }
    }
}

/// Only the kernel can say that a handshake is complete where the replies leave by another interface.
#[test]
fn a_handshake_with_an_unseen_reply_completes_as_the_kernel_reports_and_counts_once() {
    for client in BOTH {
        for seen in [false, true] {
            let mut host = host(0);
            send(&mut host, client, 7);
            let answer = syn_ack(client, 7);
            if seen {
                host.egress(&answer);
            }
            host.ingress(&third_ack(client, 7, &answer));
            let counted = |host: &Model| {
                let counters = host.listener_counters.values();
                counters.fold((0, 0), |(kernel, acks), of| {
                    (kernel + of.established, acks + of.acknowledged)
                })
            };
            assert_eq!(counted(&host), (0, u64::from(seen)), "unseen, it cannot be compared");
            validate(&mut host, client);
            assert_eq!(counted(&host), (1, 1), "answer seen: {seen}");
            let (_, flow) = host.flows.iter().next().expect("it was recorded");
            assert_eq!(flow.state, FlowState::Completed as u8);
            assert_ne!(flow.done_ns, 0);
        }
    }
}

/// A wrong checksum, which is not verified here: the host ignores the segment, keeps the half-open handshake and
/// retransmits its SYN-ACK.
#[test]
fn what_the_host_answers_again_is_half_open_whatever_the_client_sent() {
    const ACK: u8 = 0x10;
    const RST: u8 = 0x04;
    for (client, flags) in BOTH.into_iter().flat_map(|client| [(client, ACK), (client, RST)]) {
        let mut host = host(0);
        assert_eq!(send(&mut host, client, 1), Reason::Syn);
        let answer = syn_ack(client, 1);
        host.egress(&answer);
        let mut segment = third_ack(client, 1, &answer);
        segment[if client.as_v4().is_some() { 47 } else { 67 }] = flags;
        host.now_ns += S / 100;
        host.ingress(&segment);
        let state = |host: &Model| host.flows.iter().map(|(_, flow)| flow.state).next().unwrap();
        let done = if flags == ACK { FlowState::Acknowledged } else { FlowState::Reset };
        assert_eq!(state(&host), done as u8);
        host.now_ns += S;
        host.egress(&answer);
        let open = if flags == ACK { FlowState::Ignored } else { FlowState::SynAck };
        assert_eq!(state(&host), open as u8);
        let counters = *host.listener_counters.values().next().unwrap();
        let again = (counters.ack_ignored, counters.syn_ack_retransmit);
        assert_eq!(again, if flags == ACK { (1, 0) } else { (0, 1) });
        // The accept queue has room again, and the client's data brings its ACK.
        validate(&mut host, client);
        assert_eq!(state(&host), FlowState::Completed as u8);
        let acknowledged = host.listener_counters.values().map(|of| of.acknowledged).sum::<u64>();
        assert_eq!(acknowledged, 1);
    }
}
