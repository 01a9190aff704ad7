//! SYN rate limit: as many SYNs go to the stack as its queue can hold, first ones and retransmitted ones.

use std::collections::BTreeMap;
use std::mem;

use tcpguard_common::abi::{Rate, Reason};
use tcpguard_common::model::Model;

use super::{
    BUDGET, MS, OVERLOAD, S, START, any_of, any_source, budget, counters, host, mixed, send, v4,
    validate,
};

/// First SYNs that the stack is given per second, and as many retransmitted ones.
const PER_SECOND: u64 = 100;
const BURST: u64 = 25;
/// A full bucket and the tokens of a second, rounded up.
const IN_A_SECOND: std::ops::RangeInclusive<u64> = 100..=PER_SECOND + BURST + 1;

/// Each CPU is a host of its own here, and they share the buckets.
#[test]
fn a_budget_is_as_exact_on_many_cpus_as_it_says() {
    const PER_SECOND: u64 = 10_000;
    for cpus in [1, 2, 128] {
        let mut hosts: Vec<Model> = (0..cpus).map(|_| host(BUDGET)).collect();
        // The shared tables that are used here.
        let (mut budgets, mut retries) = (BTreeMap::new(), Vec::new());
        let mut passed = 0;
        for number in 0..60_000u64 {
            let host = &mut hosts[mixed(number) as usize % cpus];
            budget(host, Rate::per_second(PER_SECOND, 500));
            host.now_ns = START + number * S / 60_000;
            (host.budgets, host.retries) = (budgets, retries);
            passed += u64::from(send(host, any_source(number), 1) == Reason::Syn);
            (budgets, retries) = (mem::take(&mut host.budgets), mem::take(&mut host.retries));
        }
        let (least, most) = (PER_SECOND + 500 - 7 * (cpus as u64 + 1), PER_SECOND + 501);
        assert!((least..=most).contains(&passed), "{cpus} CPUs: {passed}");
    }
}

#[test]
fn a_budget_of_one_is_one_and_a_change_of_listeners_gives_nothing_away() {
    let mut host = host(BUDGET);
    budget(&mut host, Rate::per_second(1, 1));
    let sources = [any_of(0), any_of(1)];
    let fate = super::flood(&mut host, 2_000, S / 2, |number| sources[number as usize % 2]);
    assert_eq!(fate.passed, 2, "one for each listener");
}

fn limited(mitigations: u8) -> Model {
    let mut host = host(mitigations);
    budget(&mut host, Rate::per_second(PER_SECOND, BURST as u32));
    host
}

/// Sends 20,000 SYNs in a second, those from number `first` on, and returns the number that the stack got.
fn flood(host: &mut Model, first: u64) -> u64 {
    const SYNS: u64 = 20_000;
    let start = host.now_ns;
    let passed = (0..SYNS).filter(|number| {
        host.now_ns = start + number * S / SYNS;
        host.config.heartbeat_ns = host.now_ns;
        let number = first + number;
        send(host, any_source(number), mixed(number) as u32) == Reason::Syn
    });
    let passed = passed.count() as u64;
    host.now_ns = start + S;
    passed
}

/// The first-SYN drop lets every retransmitted SYN pass. A flood that retransmits as a client's kernel does
/// takes the tokens of both buckets and no more.
#[test]
fn a_flood_that_retransmits_is_bounded_as_one_that_does_not() {
    let mut host = limited(OVERLOAD | BUDGET);
    let client = v4(198, 51, 100, 7);
    validate(&mut host, client);
    assert_eq!(flood(&mut host, 0), 0, "the step before drops first SYNs");
    host.now_ns += 10 * MS;
    let passed = flood(&mut host, 0);
    assert!((2 * IN_A_SECOND.start()..=2 * IN_A_SECOND.end()).contains(&passed), "{passed}");
    assert_eq!(send(&mut host, client, 1), Reason::Syn, "a validated client needs no token");
    counters(&host);

    let mut host = limited(BUDGET);
    let first = flood(&mut host, 0);
    assert!(IN_A_SECOND.contains(&first), "{first}");
    host.now_ns += 10 * MS;
    let second = flood(&mut host, 0);
    assert!((2 * IN_A_SECOND.start()..=2 * IN_A_SECOND.end()).contains(&second), "{second}");
}

/// A flood of first SYNs leaves the bucket of retransmitted ones to clients.
#[test]
fn a_client_gets_in_with_its_retransmission_beside_a_flood_of_first_syns() {
    for mitigations in [BUDGET, OVERLOAD | BUDGET] {
        let mut host = limited(mitigations);
        let client = v4(198, 51, 100, 7);
        flood(&mut host, 0);
        let expected =
            if mitigations == BUDGET { Reason::DropBudget } else { Reason::DropOverload };
        assert_eq!(send(&mut host, client, 77), expected);
        flood(&mut host, 1 << 40);
        assert_eq!(send(&mut host, client, 77), Reason::Syn);
    }
}

/// The SYNs of exempt addresses are bounded before ([`tcpguard_common::fastpath::EXEMPT_RATE`]).
#[test]
fn exempt_addresses_need_no_token() {
    for mitigations in [BUDGET, OVERLOAD | BUDGET] {
        let mut host = limited(mitigations);
        let exempt = v4(10, 16, 1, 1);
        host.exempt.push(((exempt, 128), u32::MAX));
        for seq in 0..1_000 {
            assert_eq!(send(&mut host, exempt, seq), Reason::Syn, "{seq}");
        }
    }
}
