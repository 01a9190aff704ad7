//! The mitigations between the rules and the stack, as clients and floods meet them.

mod budget;
mod connections;
mod exempt;
mod let_through;
mod repeats;
mod returned;
mod unanswerable;

use tcpguard_common::abi::option::{SACK, TIMESTAMPS, WSCALE};
use tcpguard_common::abi::{
    Action, Addr, Client, Config, EVERY_PORT, FlowKey, FlowState, ListenerCounters, ListenerEntry,
    ListenerKey, Mask, Mode, Rate, Reason, ReplyRate, RuleRef, SignatureKey, SynAckRecord, maps,
};
use tcpguard_common::fastpath::{self, COOKIE_HEARTBEAT_NS, hash};
use tcpguard_common::model::{Model, Packet, Recent, cookie_secret, enforcing, hash_key};

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const START: u64 = 5_000 * S;
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OWN_COOKIES: u8 = ListenerEntry::OWN_COOKIES;
const BUDGET: u8 = ListenerEntry::BUDGET;

/// A SYN; the sequence number is the only thing that is not always the same.
fn syn(client: Addr, seq: u32) -> Vec<u8> {
    let mut frame = [HOST_MAC, [2, 0, 0, 0, 0, 9]].concat();
    if client.as_v4().is_some() {
        frame.extend([8, 0, 0x45, 0, 0, 52, 0, 1, 0x40, 0, 57, 6, 0, 0]);
        frame.extend(&client.octets()[12..]);
        frame.extend(&server(&client).octets()[12..]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 6, 57]);
        frame.extend(client.octets());
        frame.extend(server(&client).octets());
    }
    frame.extend(50_000u16.to_be_bytes());
    frame.extend(443u16.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0x80, 2, 0xfa, 0xf0, 0, 0, 0, 0]);
    frame.extend([2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2]);
    frame
}

/// The ACK of the client that sent [`syn`] and got this reply.
fn third_ack(client: Addr, seq: u32, answer: &[u8]) -> Vec<u8> {
    let tcp = if client.as_v4().is_some() { 34 } else { 54 };
    let isn = u32::from_be_bytes(answer[tcp + 4..tcp + 8].try_into().unwrap());
    let mut ack = syn(client, seq.wrapping_add(1));
    ack[tcp + 8..tcp + 12].copy_from_slice(&isn.wrapping_add(1).to_be_bytes());
    ack[tcp + 13] = 0x10;
    ack
}

/// The connection that [`syn`] asks for.
fn flow(client: Addr) -> FlowKey {
    FlowKey {
        client,
        server: server(&client),
        client_port: 50_000u16.to_be_bytes(),
        server_port: 443u16.to_be_bytes(),
    }
}

fn server(client: &Addr) -> Addr {
    match client.as_v4() {
        Some(_) => Addr::from_v4([192, 0, 2, 1]),
        None => Addr::from_v6_words([0x2001_0db8, 0, 0, 1]),
    }
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> Addr {
    Addr::from_v4([a, b, c, d])
}

/// Cookies do harm to the clients of one family.
#[test]
fn one_family_may_have_cookies_and_the_other_none() {
    let clients = [v4(198, 51, 100, 7), Addr::from_v6_words([0x2001_0db8, 7, 7, 7])];
    for (withheld, fates) in [
        (0, [Reason::Cookie; 2]),
        (ListenerEntry::NO_V4, [Reason::Syn, Reason::Cookie]),
        (ListenerEntry::NO_V6, [Reason::Cookie, Reason::Syn]),
    ] {
        let mut host = host(OWN_COOKIES);
        for entry in host.listener_entries.values_mut() {
            entry.withheld = withheld;
        }
        assert_eq!(clients.map(|client| send(&mut host, client, 1)), fates);
    }
}

/// Cookies of one server address are not returned. As where no cookies are sent, the stack gets all SYNs to it, whatever
/// tokens are left.
#[test]
fn one_server_address_may_have_cookies_and_the_other_none() {
    let clients = [v4(198, 51, 100, 7), Addr::from_v6_words([0x2001_0db8, 7, 7, 7])];
    for withheld in [0, 1] {
        let mut host = host(OWN_COOKIES);
        exhaust_stack(&mut host);
        let key = ListenerKey::new(server(&clients[withheld]), 443u16.to_be_bytes());
        let record = host.syn_acks.get_mut(&key).expect("a record");
        *record = record.withheld(true);
        for (number, client) in clients.into_iter().enumerate() {
            let fate = if number == withheld { Reason::Syn } else { Reason::Cookie };
            assert_eq!(
                (0..9).map(|seq| send(&mut host, client, seq)).collect::<Vec<_>>(),
                [fate; 9]
            );
        }
        host.egress(&connections::syn_ack(clients[withheld], 1));
        assert!(host.syn_acks[&key].is_withheld(), "whatever the stack replies");
    }
}

/// Any number but the same each time (SplitMix64, Steele et al., 2014).
fn mixed(number: u64) -> u64 {
    let word = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// An address that any host may have.
fn any_source(number: u64) -> Addr {
    let [a, b, c, d, ..] = mixed(number).to_be_bytes();
    Addr::from_v4([1 + a % 120, b, c, d])
}

/// A host with these mitigations for its listeners on port 443.
fn host(mitigations: u8) -> Model {
    let mut host = Model::new(Config {
        established_seen: 1,
        tracked_bits: Config::tracked_bits(20_000),
        ..enforcing(START)
    });
    host.now_ns = START;
    host.cookie_secret = cookie_secret(1);
    let port = 443u16.to_be_bytes();
    for (id, any) in [(0, Addr::ANY_V4), (1, Addr::ANY_V6)] {
        let entry = ListenerEntry { id, mitigations, ..ListenerEntry::default() };
        host.add_listener(ListenerKey::new(any, port), entry);
        let record = SynAckRecord {
            mss: 1460,
            window: 65_160,
            ttl: 61,
            wscale: 10,
            options: WSCALE | SACK | TIMESTAMPS,
            ..SynAckRecord::default()
        };
        host.syn_acks.insert(ListenerKey::new(server(&any_of(id)), port), record);
    }
    host.replies_by(HOST_MAC, ROUTER_MAC, 0);
    host
}

fn any_of(id: u32) -> Addr {
    if id == 0 { v4(1, 1, 1, 1) } else { Addr::from_v6_words([0x2001_0db8, 1, 1, 1]) }
}

fn budget(host: &mut Model, rate: Rate) {
    for entry in host.listener_entries.values_mut() {
        (entry.budget, entry.retransmit_budget) = (rate, rate);
    }
}

/// Takes the last tokens with which SYNs beyond a limit of replies go to the stack; the next ones grow back in 4 s.
fn exhaust_stack(host: &mut Model) {
    let one = Rate { interval_ns: u32::MAX, burst: 1 };
    budget(host, one);
    for id in [0, 1] {
        for bucket in [id, maps::MAX_LISTENERS + id] {
            assert!(host.budgets.entry(bucket).or_default().take(host.now_ns, one));
        }
    }
}

/// A host that answers with cookies, and has given the last reply and the last token of the stack that its limits allow
/// for seconds.
fn exhausted() -> Model {
    let mut host = host(OWN_COOKIES);
    exhaust_stack(&mut host);
    host.config.replies_per_cpu = Rate { interval_ns: u32::MAX, burst: 1 };
    assert_eq!(send(&mut host, any_source(1 << 63), 1), Reason::Cookie);
    host
}

/// A client completes a handshake, as the tracepoint sees it.
fn validate(host: &mut Model, client: Addr) {
    let config = host.config;
    fastpath::established(&config, host, &flow(client));
}

fn send(host: &mut Model, client: Addr, seq: u32) -> Reason {
    host.config.heartbeat_ns = host.now_ns;
    host.ingress(&syn(client, seq))
}

/// The fates of a flood's SYNs.
#[derive(Debug, Default)]
struct Fate {
    passed: u64,
    answered: u64,
    dropped: u64,
}

/// `count` SYNs, evenly over `ns`; each with another sequence number.
fn flood(host: &mut Model, count: u64, ns: u64, source: impl Fn(u64) -> Addr) -> Fate {
    let (start, mut fate) = (host.now_ns, Fate::default());
    for number in 0..count {
        host.now_ns = start + number * ns / count;
        let seq = mixed(host.now_ns ^ number << 40) as u32;
        match send(host, source(number), seq).action() {
            Action::Pass => fate.passed += 1,
            Action::Tx => fate.answered += 1,
            Action::Drop => fate.dropped += 1,
        }
    }
    host.now_ns = start + ns;
    fate
}

/// Counts agree with each other, whatever happened.
#[track_caller]
fn counters(host: &Model) -> ListenerCounters {
    let sum = |of: fn(&ListenerCounters) -> u64| host.listener_counters.values().map(of).sum();
    let reason = |reason: Reason| host.packets.reasons[reason as usize];
    let all: u64 = host.packets.reasons.iter().sum();
    assert_eq!(host.packets.entry, all, "each packet has one reason");
    let limited = [Reason::DropReplyLimit, Reason::DropBudget, Reason::DropReflection].map(reason);
    assert_eq!(limited.iter().sum::<u64>(), sum(|of| of.limited));
    assert_eq!(reason(Reason::Cookie), sum(|of| of.cookies_sent));
    assert_eq!(sum(|of| of.syn), host.packets.entry, "counted before they were dropped");
    host.listener_counters.get(&0).copied().unwrap_or_default()
}

#[test]
fn a_validated_client_connects_at_once_and_a_flood_spoofing_it_gets_no_more() {
    for client in [v4(198, 51, 100, 7), Addr::from_v6_words([0x2001_0db8, 7, 7, 7])] {
        let mut host = exhausted();
        validate(&mut host, client);
        assert_eq!(send(&mut host, client, 1), Reason::Cookie);
        let sibling = client.octets();
        let sibling = if client.as_v4().is_some() {
            client
        } else {
            // Of the same /64.
            Addr::from_v6([&sibling[..8], &[9; 8]].concat().try_into().unwrap())
        };
        let spoofed = flood(&mut host, 50_000, 2 * S, |_| sibling);
        assert!((80..=91).contains(&spoofed.answered), "50 at once and 20 a second: {spoofed:?}");
        host.now_ns += S;
        assert_eq!(send(&mut host, client, 2), Reason::Cookie, "and so does it, a second later");
        counters(&host);
    }
}

#[test]
fn no_flood_evicts_a_client_as_it_would_from_a_table_that_syns_fill() {
    let mut host = exhausted();
    let client = v4(198, 51, 100, 7);
    validate(&mut host, client);
    let mut naive: Recent<Addr, Client, { maps::MAX_CLIENTS as usize }> = Recent::default();
    naive.insert(client, Client::default());
    let sources = 3 * u64::from(maps::MAX_CLIENTS) / 2;
    flood(&mut host, sources, S, any_source);
    for number in 0..sources {
        naive.insert(any_source(number), Client::default());
    }
    assert!(naive.peek(&client).is_none(), "the flood was too small to prove anything");
    assert_eq!(host.clients.len(), 1);
    assert_eq!(send(&mut host, client, 1), Reason::Cookie);
}

#[test]
fn replies_to_one_network_are_limited_and_those_to_all_others_are_not() {
    let limit = ReplyRate::share(256, 1);
    for v6 in [false, true] {
        let mut host = host(OWN_COOKIES);
        host.config.replies_per_network = limit;
        let at = |number: u64| {
            if v6 {
                Addr::from_v6_words([0x2001_0db8, 0x0007_0000 | number as u32 & 0xffff, 7, 7])
            } else {
                v4(203, 0, 113, number as u8)
            }
        };
        let beside = if v6 {
            Addr::from_v6_words([0x2001_0db8, 0x0008_0000, 7, 7])
        } else {
            v4(203, 0, 112, 1)
        };
        validate(&mut host, at(9));
        // 500,000 a second.
        let hit = flood(&mut host, 100_000, S / 5, at);
        let most = 256 + 256 / 5 + 1 + 50 + 20 / 5;
        assert!((250..=most).contains(&hit.answered), "{hit:?}");
        assert_eq!(hit.dropped, host.packets.reasons[Reason::DropReflection as usize]);
        assert_eq!(send(&mut host, beside, 1), Reason::Cookie);
        host.now_ns += S;
        assert_eq!(send(&mut host, at(9), 1), Reason::Cookie);
        counters(&host);
    }
}

/// A flash crowd behind one NAT, before any flood. The naive variant drops what it does not answer.
#[test]
fn cookies_ahead_of_a_flood_drop_no_syn_beyond_the_limits_of_replies() {
    for limited_by_cpu in [false, true] {
        for ahead in [false, true] {
            let mut host = host(OWN_COOKIES | if ahead { ListenerEntry::PASS_EXCESS } else { 0 });
            exhaust_stack(&mut host);
            match limited_by_cpu {
                true => host.config.replies_per_cpu = Rate::per_second(256, 256),
                false => host.config.replies_per_network = ReplyRate::share(256, 1),
            }
            let crowd = flood(&mut host, 3_000, S, |number| v4(203, 0, 113, number as u8));
            assert!((256..=600).contains(&crowd.answered), "{crowd:?}");
            let (beyond, none) = (3_000 - crowd.answered, 0);
            let expected = if ahead { (beyond, none) } else { (none, beyond) };
            assert_eq!((crowd.passed, crowd.dropped), expected, "{crowd:?}");
            counters(&host);
        }
    }
}

/// Otherwise the third ACK of a cookie would find the half-open connection.
#[test]
fn a_syn_that_passed_beyond_the_limit_is_given_to_the_stack_when_it_is_retransmitted() {
    let mut host = host(OWN_COOKIES | ListenerEntry::PASS_EXCESS);
    host.config.replies_per_cpu = Rate { interval_ns: u32::MAX, burst: 1 };
    assert_eq!(send(&mut host, any_source(1 << 63), 1), Reason::Cookie);
    let client = v4(203, 0, 113, 7);
    assert_eq!(send(&mut host, client, 1), Reason::Syn);
    host.sockets.connections.insert(flow(client));
    host.config.replies_per_cpu = Rate::default();
    assert_eq!(send(&mut host, client, 1), Reason::Syn);
    assert_eq!(send(&mut host, v4(203, 0, 113, 8), 1), Reason::Cookie, "another client");
}

/// One second of the flood: a rule comes later, and other clients of that network do not wait for
/// one.
#[test]
fn a_flood_spoofing_one_address_leaves_replies_for_its_network() {
    for (v6, first) in [(false, 0), (true, 0), (false, 9)] {
        let mut host = host(OWN_COOKIES);
        host.config.replies_per_network = ReplyRate::share(256, 1);
        let at = |number: u64| match v6 {
            true => Addr::from_v6_words([0x2001_0db8, 0x0007_0000 | number as u32, 7, 7]),
            false => v4(203, 0, 113, number as u8),
        };
        let mut answered = 0;
        for neighbour in 1..=50 {
            let spoofed = flood(&mut host, 5_000, S / 50, |_| at(first));
            answered += spoofed.answered;
            assert_eq!(send(&mut host, at(100 + neighbour), 1), Reason::Cookie, "{neighbour}");
        }
        // Half of the burst, and of the rest an eighth.
        assert!((128..=128 + 32 + 32 + 260).contains(&answered), "{answered}");
        // Those of the whole network are limited as before.
        let all = flood(&mut host, 100_000, S / 5, |number| at(number & 0xff));
        assert!(all.answered <= 256 + 256 / 5 + 1, "{all:?}");
    }
}

/// SYNs from all of IPv4 on one of the CPUs that receive them, of whose buckets one in 64 is looked at.
#[test]
fn a_flood_from_everywhere_exhausts_no_network() {
    const LOOKED_AT: usize = maps::REPLY_LIMIT_BUCKETS / 64;
    for (per_second, cpus, refused) in
        [(5_000_000, 1, 0), (5_000_000, 2, 0), (10_000_000, 8, 1), (15_000_000, 8, 100)]
    {
        let (key, limit) = (hash_key(7), ReplyRate::share(256, cpus));
        let mut buckets = [0; LOOKED_AT];
        let syns = 2 * per_second / cpus;
        let (mut taken, mut left) = (0, 0);
        for number in 0..syns {
            let source = Addr::from_v4((mixed(number) as u32).to_be_bytes());
            let bucket = hash::source(&key, &source.network()) as usize;
            if let Some(bucket) = buckets.get_mut(bucket & (maps::REPLY_LIMIT_BUCKETS - 1)) {
                match limit.take(bucket, START + number * 2 * S / syns, 1) {
                    true => taken += 1,
                    false => left += 1,
                }
            }
        }
        assert!(taken > syns / 70, "only {taken}");
        assert!(left * 100_000 <= refused * taken, "{per_second} on {cpus}: {left} of {taken}");
    }
}

/// A retransmission proves nothing, so it gets no reply beyond the limit either.
#[test]
fn as_many_are_answered_as_a_cpu_may_answer_retransmitted_or_not() {
    let mut host = host(OWN_COOKIES);
    exhaust_stack(&mut host);
    host.config.replies_per_cpu = Rate::per_second(1_000, 100);
    let (validated, new_client) = (v4(198, 51, 100, 7), v4(198, 51, 100, 8));
    validate(&mut host, validated);
    flood(&mut host, 1_000, 100 * MS, any_source);
    assert_eq!(send(&mut host, validated, 1), Reason::Cookie);
    assert_eq!(send(&mut host, any_source(1 << 40), 1), Reason::Cookie, "the last token");
    assert_eq!(send(&mut host, new_client, 1), Reason::DropReplyLimit);
    for _ in 0..2 {
        let fate = flood(&mut host, 50_000, S, |number| any_source(1_000 + number));
        assert!((900..=1_110).contains(&fate.answered), "{fate:?}");
        assert_eq!(send(&mut host, any_source(1 << 40), 2), Reason::Cookie, "the last token");
        assert_eq!(send(&mut host, new_client, 1), Reason::DropReplyLimit);
    }
    host.now_ns += MS;
    assert_eq!(send(&mut host, new_client, 1), Reason::Cookie);
    counters(&host);
}

#[test]
fn the_stack_gets_new_clients_within_the_budget_and_validated_and_returning_ones_besides() {
    for mitigations in [BUDGET, BUDGET | OWN_COOKIES] {
        let mut host = host(mitigations);
        // SYNs that cookies cannot answer: no SYN-ACK was seen.
        host.syn_acks.clear();
        budget(&mut host, Rate::per_second(1_000, 100));
        let (validated, new_client) = (v4(198, 51, 100, 7), v4(198, 51, 100, 8));
        validate(&mut host, validated);
        let first = flood(&mut host, 1_000, MS, any_source);
        assert!((93..=101).contains(&first.passed), "{first:?}");
        assert_eq!(send(&mut host, new_client, 1), Reason::DropBudget);
        assert_eq!(send(&mut host, validated, 1), Reason::Syn);
        let second = flood(&mut host, 50_000, S, |number| any_source(1_000 + number));
        assert!((990..=1_010).contains(&second.passed), "{second:?}");
        assert_eq!(send(&mut host, new_client, 1), Reason::Syn, "it came again");
        let v6 = any_of(1);
        assert_eq!(send(&mut host, v6, 1), Reason::Syn, "each listener has a budget of its own");
        counters(&host);
    }
}

#[test]
fn a_budget_without_a_rate_limits_nothing() {
    let mut host = host(BUDGET | OWN_COOKIES);
    assert_eq!(flood(&mut host, 5_000, MS, any_source).answered, 5_000);
    host.syn_acks.clear();
    // Longer than anything is remembered.
    host.now_ns += S;
    assert_eq!(flood(&mut host, 5_000, MS, any_source).passed, 5_000);
    counters(&host);
}

#[test]
fn without_an_agent_or_in_another_mode_no_mitigation_applies() {
    for (mode, silent, expected) in [
        (Mode::Enforce, COOKIE_HEARTBEAT_NS, Reason::Cookie),
        (Mode::Enforce, COOKIE_HEARTBEAT_NS + 1, Reason::Syn),
        (Mode::Observe, 0, Reason::Syn),
        (Mode::Off, 0, Reason::Syn),
    ] {
        let mut host = host(OWN_COOKIES | BUDGET);
        budget(&mut host, Rate::per_second(1, 1));
        host.config.mode = mode as u8;
        host.now_ns += silent;
        for seq in 0..10 {
            assert_eq!(host.ingress(&syn(any_of(0), seq)), expected, "{mode:?}, {silent}");
        }
    }
}

#[test]
fn rules_precede_mitigations_and_a_retransmission_under_a_signature_passes_both() {
    for (mitigations, [first, returned, validated]) in [
        (OWN_COOKIES, [Reason::Cookie; 3]),
        (BUDGET, [Reason::Syn, Reason::SynRetransmitted, Reason::SynValidated]),
    ] {
        let mut host = host(mitigations);
        budget(&mut host, Rate::per_second(1, 1));
        host.config.source_rules = Config::HOSTS;
        let rule = |slot| RuleRef { slot, flags: 0 };
        let blocked = v4(203, 0, 113, 9);
        host.source_rules.entry((0, EVERY_PORT)).or_default().push(((blocked, 128), rule(0)));
        for slot in [0, 1] {
            host.rule_expiry.insert(slot, u64::MAX);
        }
        let client = v4(198, 51, 100, 7);
        assert_eq!(send(&mut host, client, 9), first);
        // A signature rule that matches all SYNs here.
        let (_, flow) = host.flows.iter().next().expect("it was recorded");
        let mask = Mask::NoTtl;
        let key = SignatureKey {
            listener: 0,
            mask: mask.code().into(),
            set: 0,
            fingerprint: flow.fingerprint.masked(mask).words(),
        };
        host.signatures.push((key, rule(1)));
        host.listener_entries.get_mut(&0).unwrap().masks = 1 << mask.code();
        assert_eq!(send(&mut host, blocked, 2), Reason::DropSource);
        assert_eq!(send(&mut host, client, 1), Reason::DropSignature);
        host.now_ns += S;
        assert_eq!(send(&mut host, client, 1), returned, "it came again, which is enough");
        validate(&mut host, client);
        assert_eq!(send(&mut host, client, 2), validated, "and now is validated");
        let seen = counters(&host);
        assert_eq!((seen.accepted_retransmits, seen.exempt), (1, 1));
    }
}

/// Following a flow costs more than answering or dropping its SYN.
#[test]
fn while_many_get_replies_or_are_dropped_few_flows_are_tracked_and_stand_for_all() {
    const SYNS: u64 = 40_000;
    for (mitigations, state) in [(OWN_COOKIES, FlowState::SynAck), (BUDGET, FlowState::Dropped)] {
        let mut host = host(mitigations);
        budget(&mut host, Rate::per_second(1, 1));
        flood(&mut host, SYNS, S / 10, any_source);
        let flows: Vec<_> = host.flows.iter().map(|(_, flow)| flow).collect();
        let followed = flows.iter().filter(|flow| flow.state == state as u8).count();
        assert!((600..1400).contains(&followed), "a tick's worth and one in 64: {followed}");
        let estimate: u64 = flows.iter().map(|flow| 1 << flow.sample_shift).sum();
        assert!((SYNS * 8 / 10..SYNS * 12 / 10).contains(&estimate), "{estimate}");
    }
}

#[test]
fn a_flow_that_was_dropped_and_then_replied_to_may_complete() {
    let mut host = exhausted();
    host.flows = Default::default();
    let client = v4(198, 51, 100, 7);
    let flow = |host: &Model| host.flows.iter().map(|(_, flow)| flow).next().unwrap();
    assert_eq!(send(&mut host, client, 1), Reason::DropReplyLimit);
    assert_eq!(flow(&host).state, FlowState::Dropped as u8);
    host.now_ns += S;
    host.config.replies_per_cpu = Rate::default();
    assert_eq!(send(&mut host, client, 1), Reason::Cookie);
    let answered = flow(&host);
    assert_eq!((answered.state, answered.syn_retransmits), (FlowState::SynAck as u8, 1));
    assert_eq!(answered.syn_ack_ns, host.now_ns);
    // The recorded reply is the one that was sent: the third ACK for it is the right one.
    let mut packet = Packet(syn(client, 1));
    host.now_ns += S;
    assert_eq!(host.ingress_packet(&mut packet), Reason::Cookie);
    let ack = third_ack(client, 1, &packet.0);
    assert_eq!(host.ingress(&ack), Reason::HandshakeAck);
    assert_eq!(flow(&host).state, FlowState::Acknowledged as u8);
    validate(&mut host, client);
    assert_eq!(flow(&host).state, FlowState::Completed as u8, "by the kernel's word");
}

/// A firewall behind the XDP program may drop the ACK. Captures have no tracepoint, and keep to third
/// ACKs.
#[test]
fn where_the_tracepoint_runs_a_third_ack_validates_no_client() {
    for (established_seen, clients) in [(1, 0), (0, 1)] {
        let mut host = host(OWN_COOKIES);
        host.config.established_seen = established_seen;
        let client = v4(198, 51, 100, 7);
        let mut packet = Packet(syn(client, 1));
        assert_eq!(host.ingress_packet(&mut packet), Reason::Cookie);
        assert_eq!(host.ingress(&third_ack(client, 1, &packet.0)), Reason::HandshakeAck);
        assert_eq!(host.clients.len(), clients);
        assert_eq!(host.listener_counters[&0].acknowledged, 1);
        if established_seen != 0 {
            validate(&mut host, client);
            assert_eq!(host.clients.len(), 1);
        }
    }
}

/// A source that has come round its ports after a tenth of a second.
#[test]
fn an_attempt_is_as_old_as_its_first_syn_whatever_the_sequence_number_of_the_last() {
    let mut host = host(OWN_COOKIES);
    let client = v4(198, 51, 100, 7);
    let flow = |host: &Model| host.flows.iter().map(|(_, flow)| flow).next().unwrap();
    for number in 0..30 {
        host.now_ns = START + u64::from(number) * S / 10;
        send(&mut host, client, number);
        assert_eq!((flow(&host).syn_ns, flow(&host).syn_seq), (START, number));
        assert_eq!(flow(&host).syn_retransmits, 0, "none of them is a repetition");
    }
    host.now_ns = START + 3 * S;
    send(&mut host, client, 30);
    assert_eq!(flow(&host).syn_ns, host.now_ns, "by then it would have been repeated twice");
    // A completed attempt is over.
    let mut packet = Packet(syn(client, 31));
    assert_eq!(host.ingress_packet(&mut packet), Reason::Cookie);
    assert_eq!(host.ingress(&third_ack(client, 31, &packet.0)), Reason::HandshakeAck);
    host.now_ns += S;
    send(&mut host, client, 32);
    assert_eq!(flow(&host).syn_ns, START + 3 * S, "the host had refused the ACK");
    validate(&mut host, client);
    host.now_ns += S;
    send(&mut host, client, 33);
    assert_eq!(flow(&host).syn_ns, host.now_ns);
}
