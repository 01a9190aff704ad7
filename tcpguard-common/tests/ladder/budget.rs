//! SYN rate limit: as many SYNs go to the stack as its queue can hold, first ones and retransmitted ones.

use std::collections::{BTreeMap, HashSet};
use std::mem;

use tcpguard_common::abi::{Rate, Reason};
use tcpguard_common::model::Model;

use super::{
    BUDGET, MS, S, START, any_of, any_source, budget, counters, host, mixed, send, v4, validate,
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
        let (mut budgets, mut drop_cache) = (BTreeMap::new(), Vec::new());
        let mut passed = 0;
        for number in 0..60_000u64 {
            let host = &mut hosts[mixed(number) as usize % cpus];
            budget(host, Rate::per_second(PER_SECOND, 500));
            host.now_ns = START + number * S / 60_000;
            (host.budgets, host.drop_cache) = (budgets, drop_cache);
            passed += u64::from(send(host, any_source(number), 1) == Reason::Syn);
            (budgets, drop_cache) = (mem::take(&mut host.budgets), mem::take(&mut host.drop_cache));
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

/// A flood that retransmits as a client's kernel does takes the tokens of both buckets and no more.
#[test]
fn a_flood_that_retransmits_is_bounded_as_one_that_does_not() {
    let mut host = limited(BUDGET);
    let client = v4(198, 51, 100, 7);
    validate(&mut host, client);
    let first = flood(&mut host, 0);
    assert!(IN_A_SECOND.contains(&first), "{first}");
    host.now_ns += 10 * MS;
    let second = flood(&mut host, 0);
    assert!((2 * IN_A_SECOND.start()..=2 * IN_A_SECOND.end()).contains(&second), "{second}");
    assert_eq!(send(&mut host, client, 1), Reason::Syn, "a validated client needs no token");
    counters(&host);
}

/// The naive memory knows no least age, so that each SYN that came before would pass.
#[test]
fn a_flood_that_sends_each_syn_twice_within_800_ms_takes_no_token_of_retransmissions() {
    const SYNS: u64 = 20_000;
    let (mut host, mut naive) = (limited(BUDGET), HashSet::new());
    let (mut passed, mut recognised) = (0, 0);
    for number in 0..SYNS {
        host.now_ns = START + number * S / SYNS;
        for syn in [number, number.saturating_sub(7 * SYNS / 10)] {
            passed += u64::from(send(&mut host, any_source(syn), syn as u32) == Reason::Syn);
            recognised += u64::from(!naive.insert(syn));
        }
    }
    assert!(IN_A_SECOND.contains(&passed), "{passed}");
    assert!(recognised > IN_A_SECOND.end() * 10, "the flood was too small to prove anything");
    counters(&host);
}

/// More clients than the rate of first SYNs, as the agent sees them complete their handshakes.
#[test]
fn the_rate_of_retransmitted_syns_is_one_of_its_own() {
    const CLIENTS: u64 = 400;
    let mut host = limited(BUDGET);
    host.listener_entries.get_mut(&0).unwrap().retransmit_budget = Rate::per_second(1000, 1000);
    flood(&mut host, 0);
    let clients = || (0..CLIENTS).map(|client| any_source(1 << 50 | client));
    let passed =
        |host: &mut Model| clients().filter(|from| send(host, *from, 7) == Reason::Syn).count();
    assert_eq!(passed(&mut host), 0);
    host.now_ns += S;
    flood(&mut host, 1 << 40);
    assert_eq!(passed(&mut host), CLIENTS as usize);
}

/// A flood of first SYNs leaves the bucket of retransmitted ones to clients.
#[test]
fn a_client_gets_in_with_its_retransmission_beside_a_flood_of_first_syns() {
    let mut host = limited(BUDGET);
    let client = v4(198, 51, 100, 7);
    flood(&mut host, 0);
    assert_eq!(send(&mut host, client, 77), Reason::DropBudget);
    super::flood(&mut host, 14_000, 700 * MS, |number| any_source(1 << 40 | number));
    assert_eq!(send(&mut host, client, 77), Reason::DropBudget, "a duplicate");
    super::flood(&mut host, 6_000, 310 * MS, |number| any_source(1 << 41 | number));
    assert_eq!(send(&mut host, client, 77), Reason::Syn);
    assert_eq!(send(&mut host, client, 77), Reason::DropBudget, "a duplicate of that");
}

/// The memory of dropped SYNs is sampled above 244,000 a second on a CPU. A retransmission outside of the sample
/// counts as a first SYN.
#[test]
fn of_more_syns_than_a_cpu_remembers_a_sample_of_retransmissions_passes() {
    const CLIENTS: u64 = 640;
    for (per_second, expected) in [(200_000, CLIENTS..=CLIENTS), (1_000_000, 5..=60)] {
        let mut host = host(BUDGET);
        // Tokens for all clients. The flood takes those of first SYNs, and none grow back meanwhile.
        budget(&mut host, Rate { interval_ns: u32::MAX, burst: CLIENTS as u32 });
        let [first, second] = [0, 1].map(|round| {
            host.now_ns = START + round * (S + 10 * MS);
            let flood = per_second * 40 * MS / S;
            super::flood(&mut host, flood, 40 * MS, |number| any_source(round << 40 | number));
            let clients = (0..CLIENTS).map(|client| any_source(1 << 50 | client));
            clients.filter(|client| send(&mut host, *client, 7) == Reason::Syn).count() as u64
        });
        assert_eq!(first, 0);
        assert!(expected.contains(&second), "{per_second} a second: {second}");
    }
}
