//! Retransmitted SYNs: those that are evidence of a client, and those that merely are no new attempt.

use tcpguard_common::abi::{Flow, FlowState, ListenerKey, Reason};
use tcpguard_common::model::Model;

use super::connections::{BOTH, syn_ack};
use super::{MS, OWN_COOKIES, S, START, any_source, host, send, server, third_ack, validate};

/// The only flow that was recorded.
fn recorded(host: &Model) -> Flow {
    let mut flows = host.flows.iter().map(|(_, flow)| flow);
    let flow = flows.next().expect("it was recorded");
    assert!(flows.next().is_none(), "one connection");
    flow
}

/// Retransmissions that are evidence of a client, and all retransmissions.
fn repetitions(host: &Model) -> (u8, u64) {
    let counted: u64 =
        host.listener_counters.values().map(|counters| counters.syn_retransmit).sum();
    (recorded(host).syn_retransmits, counted)
}

/// Retransmissions that the listener counts as those of clients.
fn timed(host: &Model) -> u64 {
    host.late.values().map(|late| late.syn_retransmit_timed).sum()
}

/// A second SYN at once costs one packet more, and would disguise a flood as clients with a broken path.
#[test]
fn a_syn_that_is_sent_twice_at_once_is_no_clients_repetition_and_no_attempt() {
    for client in BOTH {
        let mut host = host(0);
        for (after, expected) in [
            (0, (0, 0)),
            (MS / 2, (0, 1)),
            (400 * MS, (0, 2)),
            (S, (1, 3)),
            (3 * S, (2, 4)),
            (7 * S, (3, 5)),
        ] {
            host.now_ns = START + after;
            assert_eq!(send(&mut host, client, 7), Reason::Syn);
            assert_eq!(repetitions(&host), expected, "{after}");
            assert_eq!(timed(&host), u64::from(expected.0), "{after}");
        }
        assert_eq!(recorded(&host).syn_ns, START);
    }
}

/// The naive way takes each SYN of a list that is sent again for a retransmission, and the flood for a broken path.
#[test]
fn a_list_of_syns_that_is_sent_again_later_is_new_attempts() {
    for client in BOTH {
        for (waits, expected) in [
            (&[S, 2 * S, 4 * S, 8 * S, 16 * S, 32 * S][..], 6),
            (&[15 * S, 16 * S, 32 * S], 3),
            (&[20 * S], 0),
            (&[75 * S], 0),
            (&[100 * S, 100 * S], 0),
            (&[S, 130 * S], 1),
        ] {
            let mut host = host(0);
            host.now_ns = START;
            send(&mut host, client, 7);
            for wait in waits {
                host.now_ns += wait;
                send(&mut host, client, 7);
            }
            let counted = host.listener_counters.values().map(|one| one.syn_retransmit);
            assert_eq!(counted.sum::<u64>(), expected, "{waits:?}");
        }
    }
}

/// Two frames at the time of a client's first retransmission. Its second one would come two seconds later.
#[test]
fn a_syn_that_is_sent_twice_after_a_second_is_retransmitted_once() {
    for client in BOTH {
        let mut host = host(0);
        for (after, expected) in [
            (0, (0, 0)),
            (S, (1, 1)),
            (S + MS / 2, (1, 2)),
            (2 * S, (1, 3)),
            (3 * S, (2, 4)),
            (3 * S + MS / 2, (2, 5)),
            (7 * S, (3, 6)),
        ] {
            host.now_ns = START + after;
            assert_eq!(send(&mut host, client, 7), Reason::Syn);
            assert_eq!(repetitions(&host), expected, "{after}");
            assert_eq!(timed(&host), u64::from(expected.0), "{after}");
        }
    }
}

/// Cookies for clients that are there, IPv4 and IPv6, of both listeners.
fn asked(host: &Model) -> [u32; 2] {
    host.returned_cookies
        .values()
        .fold([0, 0], |[v4, v6], counts| [v4 + counts.asked[0], v6 + counts.asked[1]])
}

/// SYNs that an attacker sends at will show no client.
#[test]
fn a_cookie_is_for_a_client_that_is_validated_or_retransmits_its_syn_in_time() {
    for (family, client) in BOTH.into_iter().enumerate() {
        let mut host = host(OWN_COOKIES);
        for number in 0..100 {
            assert_eq!(send(&mut host, any_source(number), 1), Reason::Cookie);
        }
        let asks = |host: &mut Model, after: u64| {
            let before = asked(host)[family];
            host.now_ns = START + after;
            assert_eq!(send(host, client, 1), Reason::Cookie);
            asked(host)[family] - before
        };
        assert_eq!([0, 1, 400 * MS, S, S + 1].map(|after| asks(&mut host, after)), [0, 0, 0, 1, 0]);
        validate(&mut host, client);
        assert_eq!(asks(&mut host, 2 * S), 1, "any SYN of its");
        assert_eq!(asks(&mut host, 3 * S), 1, "one that is retransmitted counts once");
        assert_eq!(asked(&host)[1 - family], 0);
        let key = ListenerKey::new(server(&client), 443u16.to_be_bytes());
        assert_eq!(host.syn_acks[&key].asked, 3, "likewise of the server address");
    }
}

/// The attempt is seconds old, but not the SYN that is sent twice.
#[test]
fn nor_is_one_of_a_source_that_soon_reconnects_to_each_port() {
    let mut host = host(0);
    for number in 0..20 {
        for copy in 0..2 {
            host.now_ns = START + u64::from(number) * S / 5 + copy * MS / 2;
            send(&mut host, BOTH[0], number);
            assert_eq!(recorded(&host).syn_retransmits, 0, "{number}");
        }
    }
}

/// A firewall resets the replies under the client's address, and the client goes on all the same.
#[test]
fn a_spoofed_client_whose_syn_acks_are_reset_retransmits_its_syn() {
    const RST: u8 = 0x04;
    for client in BOTH {
        let mut host = host(0);
        let mut reset = third_ack(client, 1, &syn_ack(client, 1));
        reset[if client.as_v4().is_some() { 47 } else { 67 }] = RST;
        for (second, repeated) in [(0, 0), (1, 1), (3, 2), (7, 3)] {
            host.now_ns = START + second * S;
            send(&mut host, client, 1);
            let flow = recorded(&host);
            assert_eq!((flow.state, flow.done_ns), (FlowState::Syn as u8, 0));
            host.egress(&syn_ack(client, 1));
            host.now_ns += 30 * MS;
            host.ingress(&reset);
            let flow = recorded(&host);
            assert_eq!((flow.state, flow.syn_retransmits), (FlowState::Reset as u8, repeated));
            assert_eq!(flow.syn_ns, START, "it is one attempt");
        }
        // Another number is another attempt, with a reply that was not reset yet.
        host.now_ns = START + 20 * S;
        send(&mut host, client, 2);
        assert_eq!(repetitions(&host), (0, 3));
    }
}

/// A server with a short first timeout retransmits its SYN-ACK to each of a few clients.
#[test]
fn a_handshake_that_is_answered_again_and_again_is_ignored_once() {
    let mut host = host(0);
    let answer = syn_ack(BOTH[0], 1);
    send(&mut host, BOTH[0], 1);
    host.egress(&answer);
    host.now_ns += 100 * MS;
    host.ingress(&third_ack(BOTH[0], 1, &answer));
    for _ in 0..4 {
        host.now_ns += 150 * MS;
        host.egress(&answer);
    }
    let counters = host.listener_counters.values().next().expect("a listener");
    assert_eq!((counters.acknowledged, counters.ack_ignored), (1, 1));
    assert_eq!(recorded(&host).state, FlowState::Ignored as u8);
}
