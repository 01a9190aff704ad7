//! SYNs to ports at which nothing listens, while the stack is given a limited number of them.

use tcpguard_common::abi::{
    ABI_VERSION, Addr, Config, EVERY_PORT, ExemptEntry, FlowKey, ListenerEntry, ListenerKey, Mode,
    Rate, Reason, RuleRef,
};
use tcpguard_common::fastpath::{self};
use tcpguard_common::model::{Model, hash_key};

const S: u64 = 1_000_000_000;
const START: u64 = 5_000 * S;
const HOST: Addr = Addr::from_v4([192, 0, 2, 1]);
/// An address behind this host: packets to it are forwarded.
const BEHIND: Addr = Addr::from_v4([192, 0, 2, 99]);
const CLOSED: u16 = 9;
const SYN: u8 = 0x02;
const RST_ACK: u8 = 0x14;
const SYN_ACK: u8 = 0x12;

fn segment(from: (Addr, u16), to: (Addr, u16), flags: u8, seq: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 57, 6, 0, 0]);
    frame.extend(&from.0.octets()[12..]);
    frame.extend(&to.0.octets()[12..]);
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    frame
}

fn any_source(number: u32) -> Addr {
    Addr::from_v4((0x0b00_0000 + number.wrapping_mul(0x9e37_79b9) % 0x4000_0000).to_be_bytes())
}

/// A host that is attacked at closed ports: with a listener at port 443, and ten resets a second to give.
fn host(mode: Mode) -> Model {
    let mut host = Model::new(Config {
        abi_version: ABI_VERSION,
        mode: mode as u8,
        heartbeat_ns: START,
        heartbeat_limit_ns: 30 * S,
        established_seen: 1,
        hash_key: hash_key(1),
        closed_ports: Rate::per_second(10, 10),
        ..Config::default()
    });
    host.now_ns = START;
    let any = ListenerKey::new(Addr::ANY_V4, 443u16.to_be_bytes());
    host.add_listener(any, ListenerEntry::default());
    host.exempt.push(((HOST, 128), ExemptEntry::OWN));
    host
}

/// The number of dropped SYNs among so many of unvalidated sources, of which no reset refuses any.
fn unrefused(host: &mut Model, count: u32, to: (Addr, u16)) -> usize {
    let syns = (0..count).map(|number| {
        host.ingress(&segment((any_source(number), 4000), to, SYN, 7)) == Reason::DropClosedPort
    });
    syns.filter(|dropped| *dropped).count()
}

/// The fate of a SYN, which the stack refuses if it gets it and the port is closed.
fn syn(host: &mut Model, from: Addr, to: (Addr, u16)) -> Reason {
    let reason = host.ingress(&segment((from, 4000), to, SYN, 7));
    if reason == Reason::NoListener {
        host.egress(&segment(to, (from, 4000), RST_ACK, 0));
    }
    reason
}

/// Returns the number of dropped SYNs among `count`, sent in so many seconds. There is no token left after the
/// last.
fn flood(host: &mut Model, count: u32, seconds: u64, to: impl Fn(u32) -> (Addr, u16)) -> u32 {
    let start = host.now_ns;
    let mut dropped = 0;
    for number in 0..count {
        host.now_ns = start + seconds * S * u64::from(number) / u64::from(count);
        host.config.heartbeat_ns = host.now_ns;
        let reason = syn(host, any_source(number), to(number));
        dropped += u32::from(reason == Reason::DropClosedPort);
    }
    dropped
}

#[test]
fn beyond_a_few_resets_syns_to_a_closed_port_are_dropped_in_enforce_mode_and_else_counted() {
    for mode in [Mode::Enforce, Mode::Observe, Mode::Off] {
        let mut host = host(mode);
        let dropped = flood(&mut host, 20_000, 2, |_| (HOST, CLOSED));
        let (over, refused) = (host.host.closed_over as u32, host.host.refused as u32);
        // The burst, and ten in each of two seconds; and the first, of which nothing was known.
        assert!((20_000 - 32..=20_000 - 30).contains(&over), "{mode:?}: {over}");
        let expected = if mode == Mode::Enforce { over } else { 0 };
        assert_eq!((dropped, refused), (expected, 20_000 - expected), "{mode:?}");
        assert_eq!(host.host.no_listener, 20_000);
        assert_eq!(host.packets.reasons.iter().sum::<u64>(), host.packets.entry);
    }
}

#[test]
fn without_a_limit_or_an_agent_nothing_is_dropped() {
    let mut free = host(Mode::Enforce);
    free.config.closed_ports = Rate::default();
    assert_eq!(flood(&mut free, 1_000, 1, |_| (HOST, CLOSED)), 0);
    let mut alone = host(Mode::Enforce);
    flood(&mut alone, 1_000, 1, |_| (HOST, CLOSED));
    assert_eq!(syn(&mut alone, any_source(1 << 20), (HOST, CLOSED)), Reason::DropClosedPort);
    alone.now_ns += 31 * S;
    for number in 0..100 {
        assert_eq!(syn(&mut alone, any_source(number), (HOST, CLOSED)), Reason::NoListener);
    }
}

/// A service that is forwarded, translated or left out by the operator has no listener that is known, and
/// the stack refuses none of its SYNs.
#[test]
fn a_port_counts_as_closed_by_the_stacks_own_resets_alone_and_for_a_minute() {
    let mut host = host(Mode::Enforce);
    let answered = |host: &mut Model, number| {
        host.ingress(&segment((any_source(number), 4000), (HOST, 25), SYN, 7))
    };
    flood(&mut host, 1_000, 1, |_| (HOST, CLOSED));
    for number in 0..1_000 {
        assert_eq!(answered(&mut host, number), Reason::NoListener, "{number}");
    }
    // A refusal by a host behind this one, and a reset of a connection.
    let config = host.config;
    let mut sent = Default::default();
    let refusal = segment((HOST, 25), (any_source(1), 4000), RST_ACK, 0);
    fastpath::egress(&refusal[..], &config, &mut host, &mut sent, false);
    host.egress(&segment((HOST, 25), (any_source(1), 4000), RST_ACK, 77));
    assert_eq!(answered(&mut host, 2_000), Reason::NoListener);
    // Once the stack refuses one itself it is closed, and open again a good minute later.
    host.egress(&refusal);
    assert_eq!(answered(&mut host, 2_001), Reason::DropClosedPort);
    host.now_ns += 70 * S;
    host.config.heartbeat_ns = host.now_ns;
    let passed = (0..100).filter(|number| answered(&mut host, *number) == Reason::NoListener);
    assert_eq!(passed.count(), 100);
}

#[test]
fn what_is_not_delivered_to_this_host_is_not_its_to_refuse() {
    let mut host = host(Mode::Enforce);
    flood(&mut host, 1_000, 1, |_| (HOST, CLOSED));
    for number in 0..1_000 {
        let syn = segment((any_source(number), 4000), (BEHIND, CLOSED), SYN, 7);
        assert_eq!(host.ingress(&syn), Reason::NoListener, "the same port, elsewhere");
    }
    // A network that is this host's as a whole: each address refuses once.
    let any = Addr::from_v4([10, 9, 128, 0]);
    host.exempt.push(((any, 96 + 17), ExemptEntry::OWN));
    let within = |number: u32| Addr::from_v4((0x0a09_8000 + number % 1_000).to_be_bytes());
    let first = flood(&mut host, 1_000, 1, |number| (within(number), CLOSED));
    let second = flood(&mut host, 10_000, 1, |number| (within(number), CLOSED));
    assert!(first <= 10 && second >= 9_960, "{first}, {second}");
}

/// A service that is translated to a container stands at one address of the host, and no client has
/// connected to it yet.
#[test]
fn what_one_address_refuses_is_open_at_every_other() {
    let mut host = host(Mode::Enforce);
    let other = Addr::from_v4([192, 0, 2, 2]);
    host.exempt.push(((other, 128), ExemptEntry::OWN));
    flood(&mut host, 10_000, 1, |_| (HOST, CLOSED));
    assert_eq!(unrefused(&mut host, 1_000, (HOST, CLOSED)), 1_000);
    assert_eq!(unrefused(&mut host, 1_000, (other, CLOSED)), 0);
}

/// The socket's clients are chosen by a packet filter that refuses the others with a reset, as of a closed
/// port.
#[test]
fn where_a_socket_listens_that_is_not_monitored_no_reset_closes_the_port() {
    let mut host = host(Mode::Enforce);
    flood(&mut host, 1_000, 1, |_| (HOST, CLOSED));
    let filtered = 9_000_u16;
    let refusal = segment((HOST, filtered), (any_source(1), 4000), RST_ACK, 0);
    host.egress(&refusal);
    assert_eq!(unrefused(&mut host, 1_000, (HOST, filtered)), 1_000, "nobody said so");
    host.ports.entry(filtered.to_be_bytes()).or_default().open = 1;
    assert_eq!(unrefused(&mut host, 1_000, (HOST, filtered)), 0);
    assert_eq!(unrefused(&mut host, 1_000, (HOST, CLOSED)), 1_000);
}

#[test]
fn where_resets_leave_unseen_ports_are_closed_that_are_tried_while_the_stack_refuses_as_many() {
    let mut host = host(Mode::Enforce);
    assert_eq!(unrefused(&mut host, 1_000, (HOST, CLOSED)), 0, "nobody refuses them");
    host.config.resets_unseen = 1;
    // The first, and ten that the stack is given.
    assert_eq!(unrefused(&mut host, 1_000, (HOST, CLOSED)), 1_000 - 11);
    assert_eq!(unrefused(&mut host, 1_000, (BEHIND, CLOSED)), 0, "it is forwarded");
    let counted = host.host;
    assert_eq!((counted.no_listener, counted.no_listener_own, counted.refused), (3_000, 2_000, 0));
}

/// A service that is steered or forwarded, with replies that leave unseen, in a flood of another port.
#[test]
fn where_resets_leave_unseen_a_port_is_open_at_which_handshakes_go_on() {
    const ACK: u8 = 0x10;
    let served = (HOST, 8080_u16);
    for seed in 1..=16 {
        let mut host = host(Mode::Enforce);
        (host.config.resets_unseen, host.config.hash_key) = (1, hash_key(seed));
        assert_eq!(unrefused(&mut host, 1_000, (HOST, CLOSED)), 1_000 - 11, "no token is left");
        let arrives = |host: &mut Model, client: u32, to, flags| {
            host.ingress(&segment((any_source(1 << 20 | client), 4000), to, flags, 7))
        };
        // The first to a port passes. Segments of others say nothing, whatever they are.
        assert_eq!(arrives(&mut host, 0, served, SYN), Reason::NoListener);
        for other in 1..100 {
            arrives(&mut host, other, served, ACK);
        }
        assert_eq!(arrives(&mut host, 1, served, SYN), Reason::DropClosedPort);
        // It goes on with its handshake: in this minute and the next all pass.
        assert_eq!(arrives(&mut host, 0, served, ACK), Reason::Segment);
        for client in 1..1_000 {
            assert_eq!(arrives(&mut host, client, served, SYN), Reason::NoListener, "{client}");
        }
        assert_eq!(unrefused(&mut host, 1_000, (HOST, CLOSED)), 1_000, "the flooded one is closed");
        for client in 0..100 {
            host.now_ns += 69 * S / 100;
            host.config.heartbeat_ns = host.now_ns;
            assert_eq!(arrives(&mut host, client, served, SYN), Reason::NoListener, "{client}");
        }
        host.now_ns += 70 * S;
        host.config.heartbeat_ns = host.now_ns;
        assert_eq!(arrives(&mut host, 0, served, SYN), Reason::NoListener, "the first of a minute");
        unrefused(&mut host, 1_000, (HOST, CLOSED));
        assert_eq!(arrives(&mut host, 1, served, SYN), Reason::DropClosedPort);
        // Where resets are seen, they decide.
        arrives(&mut host, 0, served, ACK);
        assert_eq!(arrives(&mut host, 1, served, SYN), Reason::NoListener);
        host.config.resets_unseen = 0;
        assert_eq!(arrives(&mut host, 1, served, SYN), Reason::DropClosedPort);
    }
}

#[test]
fn a_flood_over_all_ports_gets_one_reset_of_each_and_then_no_more_than_of_one() {
    let mut host = host(Mode::Enforce);
    let port = |number: u32| (HOST, 1_000 + (number % 10_000) as u16);
    let first = flood(&mut host, 10_000, 1, port);
    assert!(first <= 20, "nothing was known of any of them: {first}");
    let second = flood(&mut host, 50_000, 5, port);
    assert!(second >= 50_000 - 62, "{second}");
}

#[test]
fn clients_are_refused_as_ever_and_a_listener_is_none_of_it() {
    let mut host = host(Mode::Enforce);
    let client = Addr::from_v4([198, 51, 100, 7]);
    let flow = FlowKey {
        client,
        server: HOST,
        client_port: 4000u16.to_be_bytes(),
        server_port: 443u16.to_be_bytes(),
    };
    let config = host.config;
    fastpath::established(&config, &mut host, &flow);
    flood(&mut host, 10_000, 1, |_| (HOST, CLOSED));
    assert_eq!(syn(&mut host, any_source(1 << 20), (HOST, CLOSED)), Reason::DropClosedPort);
    assert_eq!(syn(&mut host, client, (HOST, CLOSED)), Reason::NoListener);
    // The client's address can be spoofed: SYNs beyond a client's rate are treated like all others.
    let let_pass =
        (0..1_000).filter(|_| syn(&mut host, client, (HOST, CLOSED)) == Reason::NoListener);
    assert!(let_pass.count() < 60);
    assert_eq!(host.ingress(&segment((any_source(3), 1), (HOST, 443), SYN, 1)), Reason::Syn);
}

/// The name of the gateway or of a resolver is no secret.
#[test]
fn spoofing_an_exempt_address_gets_no_more_refusals_and_costs_it_nothing() {
    let mut host = host(Mode::Enforce);
    let allowed = Addr::from_v4([198, 51, 100, 8]);
    host.exempt.push(((allowed, 128), ExemptEntry::STAYS));
    let limited = (HOST, 444_u16);
    let key = ListenerKey::new(HOST, limited.1.to_be_bytes());
    let (mitigations, budget) = (ListenerEntry::BUDGET, Rate::per_second(1, 1));
    host.add_listener(
        key,
        ListenerEntry { id: 1, mitigations, budget, ..ListenerEntry::default() },
    );
    assert_eq!(host.ingress(&segment((any_source(1), 1), limited, SYN, 1)), Reason::Syn);
    flood(&mut host, 100, 1, |_| (HOST, CLOSED));
    let refused =
        (0..20_000).filter(|_| syn(&mut host, allowed, (HOST, CLOSED)) == Reason::NoListener);
    assert_eq!(refused.count(), 0);
    assert_eq!(host.ingress(&segment((any_source(1), 1), limited, SYN, 2)), Reason::DropBudget);
    assert_eq!(host.ingress(&segment((allowed, 1), limited, SYN, 1)), Reason::Syn);
}

#[test]
fn an_operators_word_on_a_source_comes_first() {
    let mut host = host(Mode::Enforce);
    host.config.source_rules = Config::HOSTS;
    let blocked = Addr::from_v4([203, 0, 113, 9]);
    let rule = RuleRef { slot: 0, flags: RuleRef::BY_OPERATOR };
    host.source_rules.entry((0, EVERY_PORT)).or_default().push(((blocked, 128), rule));
    host.rule_expiry.insert(0, u64::MAX);
    flood(&mut host, 1_000, 1, |_| (HOST, CLOSED));
    let before = host.host.closed_over;
    assert_eq!(syn(&mut host, blocked, (HOST, CLOSED)), Reason::DropSource);
    assert_eq!(host.host.closed_over, before);
}

#[test]
fn a_listener_that_opens_at_a_closed_port_is_found_at_once() {
    let mut host = host(Mode::Enforce);
    flood(&mut host, 1_000, 1, |_| (HOST, CLOSED));
    let key = ListenerKey::new(HOST, CLOSED.to_be_bytes());
    host.add_listener(key, ListenerEntry { id: 1, ..ListenerEntry::default() });
    assert_eq!(syn(&mut host, any_source(1), (HOST, CLOSED)), Reason::Syn);
    // Its SYN-ACKs and resets say nothing about closed ports.
    let before = host.host.refused;
    host.egress(&segment((HOST, CLOSED), (any_source(1), 4000), SYN_ACK, 0));
    host.egress(&segment((HOST, CLOSED), (any_source(1), 4000), RST_ACK, 0));
    assert_eq!((host.host.refused, host.listener_counters[&1].refused), (before, 1));
}

/// FIN, NULL and XMAS scans: closed ports answer segments without ACK as they answer a SYN (RFC 9293 §3.10.7.1).
#[test]
fn segments_without_syn_and_ack_are_a_scanners_and_their_refusals_are_asked_for() {
    const SCANNER: Addr = Addr::from_v4([198, 51, 100, 7]);
    for (flags, is_probe) in [
        (0, true),
        (0x01, true),
        (0x29, true),
        (0x08, true),
        (0x03, true),
        (0x04, false),
        (0x11, false),
    ] {
        let mut host = host(Mode::Observe);
        for port in 1..=20 {
            host.ingress(&segment((SCANNER, 4000), (HOST, port), flags, 7));
        }
        let ports = host.closed_port_sources.values().map(|cell| cell.ports.count_ones());
        assert_eq!(ports.max().unwrap_or(0) > 8, is_probe, "{flags:#x}");
    }
    // Those of this host itself, and one that it did not send.
    let mut host = host(Mode::Observe);
    for flags in [SYN, 0, 0x01, 0x29] {
        host.egress(&segment((HOST, 4000), (SCANNER, u16::from(flags) + 1), flags, 7));
        host.ingress(&segment((SCANNER, u16::from(flags) + 1), (HOST, 4000), RST_ACK, 0));
    }
    host.ingress(&segment((SCANNER, 9), (HOST, 4000), RST_ACK, 0));
    assert_eq!((host.host.reply_seen, host.host.unsolicited), (5, 1));
}
