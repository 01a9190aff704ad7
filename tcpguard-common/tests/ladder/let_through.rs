//! SYNs that a rule matches and that pass when they are retransmitted.

use tcpguard_common::abi::{
    Addr, Mask, Mode, Rate, Reason, RuleHits, RuleRef, RuleReturns, SignatureKey,
};
use tcpguard_common::fastpath::{self, HANDSHAKE_NS};
use tcpguard_common::model::{Model, Packet};

use super::{MS, OWN_COOKIES, S, any_source, counters, flow, host, send, syn, third_ack, v4};

/// A signature rule that matches all SYNs of this host, in slot 1.
fn drop_alike(host: &mut Model) {
    let (_, flow) = host.flows.iter().next().expect("a SYN was recorded");
    let mask = Mask::NoTtl;
    let fingerprint = flow.fingerprint.masked(mask).words();
    for (&id, entry) in &mut host.listener_entries {
        let key = SignatureKey { listener: id, mask: mask.code().into(), set: 0, fingerprint };
        host.signatures.push((key, RuleRef { slot: 1, flags: 0 }));
        entry.masks = 1 << mask.code();
    }
    host.rule_expiry.insert(1, u64::MAX);
}

/// The counts of that rule.
fn hits(host: &Model) -> [u64; 3] {
    let RuleHits { hits, returns } = host.rule_hits[&1];
    let RuleReturns { accepted_retransmits, completed } = returns;
    [hits, accepted_retransmits.into(), completed.into()]
}

fn complete(host: &mut Model, client: Addr) {
    let config = host.config;
    fastpath::established(&config, host, &flow(client));
}

#[test]
fn a_client_that_completes_after_a_retransmission_is_counted_for_the_rule_once_and_no_other() {
    for (mitigations, fate) in [(0, Reason::SynRetransmitted), (OWN_COOKIES, Reason::Cookie)] {
        let mut host = host(mitigations);
        send(&mut host, any_source(1), 1);
        drop_alike(&mut host);
        for client in 2..22 {
            assert_eq!(send(&mut host, any_source(client), 1), Reason::DropSignature);
        }
        host.now_ns += S;
        for client in 2..22 {
            assert_eq!(send(&mut host, any_source(client), 1), fate);
        }
        assert_eq!(hits(&host), [20, 20, 0], "returning proves nothing");
        host.now_ns += 50 * MS;
        for _ in 0..3 {
            (2..7).for_each(|client| complete(&mut host, any_source(client)));
        }
        assert_eq!(hits(&host), [20, 20, 5], "each once");
        complete(&mut host, any_source(30));
        assert_eq!(hits(&host), [20, 20, 5], "a client that no rule matched");
        host.now_ns += HANDSHAKE_NS + S;
        complete(&mut host, any_source(8));
        assert_eq!(hits(&host), [20, 20, 5], "too late to be that handshake");
        let at_listener: u64 = host.late.values().map(|late| late.let_through).sum();
        assert_eq!(at_listener, 5, "and for the listener");
        assert_eq!(counters(&host).accepted_retransmits, 20);
    }
}

#[test]
fn without_cookies_the_stack_is_given_a_bounded_number_of_retransmissions() {
    let mut host = host(0);
    for entry in host.listener_entries.values_mut() {
        entry.retransmit_budget = Rate::per_second(10, 3);
    }
    send(&mut host, any_source(1), 1);
    drop_alike(&mut host);
    let number = |second: u64, syn: u64| 1000 * second + syn + 2;
    let mut passed = Vec::new();
    for second in 0..20 {
        // A thousand SYNs, and those of the second before again.
        let mut fates = Vec::new();
        for syn in 0..1000 {
            host.now_ns += MS;
            assert_eq!(send(&mut host, any_source(number(second, syn)), 1), Reason::DropSignature);
            if second > 0 {
                fates.push(send(&mut host, any_source(number(second - 1, syn)), 1));
            }
        }
        passed.push(fates.iter().filter(|fate| **fate == Reason::SynRetransmitted).count());
        assert!(
            fates.iter().all(|it| matches!(it, Reason::SynRetransmitted | Reason::DropSignature))
        );
    }
    assert!(passed[2..].iter().all(|passed| (9..=11).contains(passed)), "{passed:?}");
    let [hits, accepted_retransmits, _] = hits(&host);
    assert_eq!(
        (hits + accepted_retransmits, accepted_retransmits),
        (39_000, passed.iter().sum::<usize>() as u64)
    );
}

#[test]
fn in_observe_mode_a_handshake_counts_for_the_rule_that_would_have_dropped_its_first_syn() {
    let mut host = host(0);
    host.config.mode = Mode::Observe as u8;
    send(&mut host, any_source(1), 1);
    drop_alike(&mut host);
    for client in 2..12 {
        assert_eq!(send(&mut host, any_source(client), 1), Reason::WouldDropSignature);
        host.now_ns += 20 * MS;
        complete(&mut host, any_source(client));
    }
    assert_eq!(hits(&host), [10, 0, 10]);
}

#[test]
fn a_returning_client_came_a_minute_ago_and_counts_once_in_ten_seconds() {
    let mut host = host(0);
    let returning = |host: &Model| counters(host).established_returning;
    // A hundred and fifty handshakes a second, all from one address.
    for round in 0..70 * 150 {
        complete(&mut host, any_source(1));
        host.now_ns += S / 150;
        if round == 59 * 150 {
            assert_eq!(returning(&host), 0);
        }
    }
    // Its ten seconds begin at a moment of its own.
    assert_eq!(returning(&host), 1);
    // One in five seconds each, from twenty.
    for _ in 0..26 {
        (2..22).for_each(|client| complete(&mut host, any_source(client)));
        host.now_ns += 5 * S;
    }
    let of_twenty = returning(&host) - 1;
    assert!((20 * 6..=20 * 7).contains(&of_twenty), "{of_twenty}");
}

#[test]
fn the_third_ack_itself_counts_for_no_rule_where_the_kernel_reports_completions() {
    let mut host = host(OWN_COOKIES);
    let client = v4(198, 51, 100, 7);
    send(&mut host, any_source(1), 1);
    drop_alike(&mut host);
    assert_eq!(send(&mut host, client, 1), Reason::DropSignature);
    host.now_ns += S;
    let mut packet = Packet(syn(client, 1));
    assert_eq!(host.ingress_packet(&mut packet), Reason::Cookie);
    assert_eq!(host.ingress(&third_ack(client, 1, &packet.0)), Reason::HandshakeAck);
    assert_eq!((hits(&host), host.clients.len()), ([1, 1, 0], 0));
    complete(&mut host, client);
    assert_eq!((hits(&host), host.clients.len()), ([1, 1, 1], 1));
}
