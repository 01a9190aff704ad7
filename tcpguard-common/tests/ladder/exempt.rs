//! Protected and allowlisted addresses, which any sender can write into a SYN: a bucket each, and no pass.

use tcpguard_common::abi::{
    Addr, ExemptEntry, ListenerEntry, Mask, Mode, Rate, Reason, RuleRef, SignatureKey,
};
use tcpguard_common::model::Model;

use super::{
    BUDGET, OWN_COOKIES, S, counters, exhaust_stack, exhausted, flood, host, mixed, send, v4,
    validate,
};

/// SYNs a second that a listener takes of all exempt addresses, in the burst of a quarter of a second.
const PER_SECOND: u64 = 100;
const BURST: u64 = 25;
const OPERATOR: Addr = Addr::from_v4([198, 51, 100, 9]);
const RESOLVER: Addr = Addr::from_v4([198, 51, 100, 53]);

/// Exempts an operator, a resolver, a /24 and a /12.
fn exempt_some(host: &mut Model) {
    for (addr, bits, until_s) in [
        (OPERATOR, 32, ExemptEntry::STAYS),
        (RESOLVER, 32, ExemptEntry::HELPER),
        (v4(203, 0, 113, 0), 24, ExemptEntry::STAYS),
        (v4(10, 16, 0, 0), 12, ExemptEntry::STAYS),
    ] {
        host.exempt.push(((addr, 96 + bits), until_s));
    }
    let rate = Rate::per_second(PER_SECOND, BURST as u32);
    host.listener_entries.values_mut().for_each(|entry| entry.retransmit_budget = rate);
}

/// A rule that matches every SYN here.
fn add_signature(host: &mut Model) {
    send(host, v4(192, 0, 2, 99), 1);
    let (_, flow) = host.flows.iter().next().expect("it was recorded");
    let (listener, mask) = (0, Mask::NoTtl);
    let fingerprint = flow.fingerprint.masked(mask).words();
    let key = SignatureKey { listener, mask: mask.code().into(), set: 0, fingerprint };
    host.signatures.push((key, RuleRef { slot: 1, flags: 0 }));
    host.rule_expiry.insert(1, u64::MAX);
    host.listener_entries.get_mut(&0).unwrap().masks = 1 << mask.code();
}

/// An address of the /12.
fn any_allowed(number: u64) -> Addr {
    let [_, b, c, d, ..] = mixed(number).to_be_bytes();
    v4(10, 16 | b & 15, c, d)
}

/// SYNs that get past everything, of 20,000 in a second.
fn pass(host: &mut Model, source: impl Fn(u64) -> Addr) -> u64 {
    let fate = flood(host, 20_000, S, source);
    fate.passed + fate.answered
}

/// The naive exemption is a pass: all 20,000 of each flood get in.
#[test]
fn a_flood_spoofing_an_exempt_address_passes_a_signature_at_a_clients_rate_and_a_resolver_not_at_all()
 {
    for mitigations in [0, BUDGET, ListenerEntry::OUT_OF_STATE] {
        let mut host = host(mitigations);
        exhaust_stack(&mut host);
        exempt_some(&mut host);
        add_signature(&mut host);
        assert_eq!(send(&mut host, OPERATOR, 1), Reason::SynExempt);
        assert_eq!(send(&mut host, RESOLVER, 1), Reason::DropSignature);
        let one = pass(&mut host, |_| OPERATOR);
        assert!((40..=71).contains(&one), "25 to 50 at once and 20 a second: {one}");
        for net in [|number| v4(203, 0, 113, number as u8), any_allowed] {
            host.now_ns += S;
            let all = pass(&mut host, net);
            assert!((PER_SECOND..=PER_SECOND + BURST + 1).contains(&all), "{all}");
        }
        assert_eq!(pass(&mut host, |_| RESOLVER), 0);
        host.now_ns += 3 * S;
        assert_eq!(send(&mut host, OPERATOR, 2), Reason::SynExempt, "and so does its owner");
    }
}

/// Exempt sources as above, with no rule: of an ordinary source no SYN would pass.
#[test]
fn exempt_addresses_pass_the_budget_at_a_clients_rate() {
    let mut host = host(BUDGET);
    exhaust_stack(&mut host);
    exempt_some(&mut host);
    assert_eq!(send(&mut host, v4(198, 51, 100, 10), 1), Reason::DropBudget);
    let one = pass(&mut host, |_| OPERATOR);
    assert!((40..=71).contains(&one), "{one}");
    host.now_ns += S;
    let all = pass(&mut host, any_allowed);
    assert!((PER_SECOND..=PER_SECOND + BURST + 1).contains(&all), "{all}");
    assert_eq!(pass(&mut host, |_| RESOLVER), 0);
    counters(&host);
}

#[test]
fn a_flood_spoofing_an_allowlisted_prefix_gets_few_replies_beyond_the_limit() {
    let mut host = exhausted();
    exempt_some(&mut host);
    let (validated, new_client) = (v4(198, 51, 100, 7), v4(198, 51, 100, 8));
    validate(&mut host, validated);
    assert_eq!(send(&mut host, v4(10, 17, 1, 1), 1), Reason::Cookie, "allowlisted, and alone");
    for unvalidated in [new_client, RESOLVER] {
        assert_eq!(send(&mut host, unvalidated, 1), Reason::DropReplyLimit);
    }
    let spoofed = flood(&mut host, 100_000, S, any_allowed);
    assert!((PER_SECOND..=PER_SECOND + BURST).contains(&spoofed.answered), "{spoofed:?}");
    assert_eq!(send(&mut host, validated, 1), Reason::Cookie);
    assert_eq!(counters(&host).exempt, 0, "no rule had anything to spare");
}

/// A gateway serves the host. If it is the NAT of clients too, their handshakes speak for it.
#[test]
fn a_gateway_is_exempt_by_source_and_a_client_once_it_has_completed_a_handshake() {
    let mut host = host(OWN_COOKIES);
    exempt_some(&mut host);
    add_signature(&mut host);
    host.config.source_rules = tcpguard_common::abi::Config::NETS;
    let every = ((v4(198, 51, 100, 0), 96 + 24), RuleRef { slot: 1, flags: 0 });
    let rules = host.source_rules.entry((0, tcpguard_common::abi::EVERY_PORT)).or_default();
    rules.push(every);
    assert_eq!(send(&mut host, RESOLVER, 1), Reason::Cookie, "no rule by source drops it");
    host.config.source_rules = 0;
    assert_eq!(send(&mut host, RESOLVER, 2), Reason::DropSignature);
    validate(&mut host, RESOLVER);
    assert_eq!(send(&mut host, RESOLVER, 3), Reason::Cookie);
    host.config.mode = Mode::Observe as u8;
    assert_eq!(send(&mut host, RESOLVER, 4), Reason::SynValidated);
}
