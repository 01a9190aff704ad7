//! SYNs that cookies are to answer and cannot, for whatever reason: none is a way past the mitigation.

use tcpguard_common::abi::{Addr, ListenerEntry, Rate, Reason, ReplyRate, Unanswered};
use tcpguard_common::model::Model;

use super::{
    BUDGET, MS, OWN_COOKIES, S, any_source, budget, counters, host, mixed, send, syn, v4, validate,
};

/// Returned cookies: as many as the queue of a small listener holds.
const RETURNS: Rate = Rate { interval_ns: 10_000_000, burst: 25 };

fn attacked(mitigations: u8) -> Model {
    let mut host = host(mitigations);
    for entry in host.listener_entries.values_mut() {
        entry.retransmit_budget = RETURNS;
    }
    host
}

/// A first fragment that holds the whole TCP header, with the bits DF and MF. Linux answers it, and nothing
/// else distinguishes it from the SYNs of clients.
fn fragment(client: Addr, seq: u32) -> Vec<u8> {
    let mut frame = syn(client, seq);
    frame[20] = 0x60;
    frame
}

/// `count` of them in a second, with numbers of their own from `first` on; how many the stack got.
fn flood(host: &mut Model, first: u64, count: u64) -> u64 {
    let start = host.now_ns;
    let mut passed = 0;
    for number in 0..count {
        host.now_ns = start + number * S / count;
        host.config.heartbeat_ns = host.now_ns;
        let syn = fragment(any_source(first + number), mixed(first + number) as u32);
        let reason = host.ingress(&syn);
        assert!(matches!(reason, Reason::Syn | Reason::DropBudget), "{reason:?}");
        passed += u64::from(reason == Reason::Syn);
    }
    passed
}

#[test]
fn of_whole_first_fragments_the_stack_gets_what_its_queue_holds_and_clients_get_replies() {
    let mut host = attacked(OWN_COOKIES);
    let passed = flood(&mut host, 0, 90_000);
    assert!((100..=130).contains(&passed), "{passed}: 25 at once, and 100 in a second");
    assert_eq!(send(&mut host, v4(198, 51, 100, 7), 1), Reason::Cookie);
    counters(&host);
}

#[test]
fn while_cookies_are_sent_ahead_of_a_flood_no_fragment_is_dropped() {
    let mut host = attacked(OWN_COOKIES | ListenerEntry::PASS_EXCESS);
    assert_eq!(flood(&mut host, 0, 3_000), 3_000);
    counters(&host);
}

#[test]
fn retransmissions_of_unanswerable_syns_gain_no_more() {
    let mut host = attacked(OWN_COOKIES);
    let first = flood(&mut host, 0, 90_000);
    // Each again a good second after its first time, as by a client's kernel.
    host.now_ns += 10 * MS;
    let second = flood(&mut host, 0, 90_000);
    assert!((100..=130).contains(&first), "{first}");
    assert!((200..=251).contains(&second), "as many of each kind: {second}");
}

#[test]
fn a_client_that_cannot_be_answered_gets_in_with_its_first_retransmission() {
    let mut host = attacked(OWN_COOKIES);
    let client = v4(198, 51, 100, 7);
    flood(&mut host, 0, 20_000);
    assert_eq!(host.ingress(&fragment(client, 77)), Reason::DropBudget);
    flood(&mut host, 20_000, 20_000);
    host.now_ns += 20 * MS;
    host.config.heartbeat_ns = host.now_ns;
    assert_eq!(host.ingress(&fragment(client, 77)), Reason::Syn);
    assert_eq!(host.ingress(&fragment(client, 77)), Reason::DropBudget, "a duplicate of it");
}

#[test]
fn a_validated_client_that_cannot_be_answered_gets_in_at_once() {
    let mut host = attacked(OWN_COOKIES);
    let client = v4(198, 51, 100, 7);
    validate(&mut host, client);
    flood(&mut host, 0, 20_000);
    assert_eq!(host.ingress(&fragment(client, 1)), Reason::Syn);
}

/// A SYN for another station.
fn overheard(client: Addr, seq: u32) -> Vec<u8> {
    let mut frame = syn(client, seq);
    frame[5] ^= 2;
    frame
}

/// One with an MD5 signature (RFC 2385), as routers sign theirs.
fn signed(client: Addr, seq: u32) -> Vec<u8> {
    let mut frame = syn(client, seq);
    frame.truncate(34 + 20);
    frame.extend([2, 4, 5, 180, 19, 18]);
    frame.extend([0x5a; 16]);
    frame.extend([1, 1]);
    (frame[17], frame[34 + 12]) = (20 + 44, 11 << 4);
    frame
}

#[test]
fn syns_that_only_the_stack_can_reply_to_take_tokens_and_their_reason_is_counted() {
    type Frame = fn(Addr, u32) -> Vec<u8>;
    type Kind = (Unanswered, Frame, fn(&mut Model));
    let kinds: [Kind; 4] = [
        (Unanswered::OtherMac, overheard, |_| {}),
        (Unanswered::Signed, signed, |_| {}),
        (Unanswered::NoRecord, syn, |host| host.syn_acks.clear()),
        (Unanswered::NoWay, syn, |host| host.routes.clear()),
    ];
    for (why, kind, change) in kinds {
        let mut host = attacked(OWN_COOKIES);
        change(&mut host);
        let validated = v4(198, 51, 100, 7);
        validate(&mut host, validated);
        let start = host.now_ns;
        let mut passed = 0;
        for number in 0..2_000 {
            host.now_ns = start + number * S / 2_000;
            host.config.heartbeat_ns = host.now_ns;
            let frame = kind(any_source(number), mixed(number) as u32);
            passed += u32::from(host.ingress(&frame) == Reason::Syn);
        }
        assert!((100..=130).contains(&passed), "{why:?}: {passed} as the queue holds");
        assert!(host.host.unanswered[why as usize] >= 2_000, "{why:?}: {:?}", host.host);
        assert_eq!(host.ingress(&kind(validated, 1)), Reason::Syn, "{why:?}");
        counters(&host);
    }
}

/// An exempt address can be spoofed like any other.
#[test]
fn spoofing_an_exempt_address_passes_no_more() {
    let mut host = attacked(OWN_COOKIES);
    let exempt = v4(10, 16, 1, 1);
    host.exempt.push(((exempt, 128), u32::MAX));
    host.config.replies_per_network = ReplyRate::default();
    let passed = (0..20_000).filter(|seq| {
        host.now_ns += S / 20_000;
        host.config.heartbeat_ns = host.now_ns;
        host.ingress(&fragment(exempt, *seq)) == Reason::Syn
    });
    let passed = passed.count();
    assert!((100..=126).contains(&passed), "{passed}");
}

#[test]
fn where_a_budget_is_taken_as_well_that_is_what_first_syns_get() {
    let mut host = attacked(OWN_COOKIES | BUDGET);
    budget(&mut host, Rate::per_second(500, 50));
    let passed = flood(&mut host, 0, 90_000);
    assert!((530..=560).contains(&passed), "{passed}");
}
