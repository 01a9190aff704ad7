//! The decision in the kernel and on the host: the same frames, the same verdicts, the same state.

mod closed;
mod connections;
mod cookies;
mod full;
mod handshakes;
mod ladder;
mod out_of_state;
mod pieces;
mod rows;
mod samples;
mod sets;
mod source_rules;
mod state;
mod templates;
mod traffic;
mod ways_back;
mod whose;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tcpguard::bpf::{Dataplane, KernelMatcher, Load, Object, addr, client_around, signature_key};
use tcpguard_common::abi::{
    ABI_VERSION, Action, Config, EVERY_PORT, ExemptEntry, Fingerprint, Flow, FlowState,
    ListenerEntry, ListenerKey, Mask, Mode, NextHops, Rate, Reason, RuleRef, quirk,
};
use tcpguard_common::fastpath::no_cookie;
use tcpguard_common::model::{Model, Packet, hash_key};
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};
use traffic::{Frame, Traffic, v4};

/// `XDP_DROP`, `XDP_PASS` and `XDP_TX` of the kernel's `bpf.h`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const MS: u64 = 1_000_000;
const START_NS: u64 = 1_000_000 * MS;
const LISTENERS: u32 = 3;
const RULES: u32 = 12;
/// The rule set in force; another one lies beside it.
const SET: u64 = 0x1_0002_0003;
/// BPF_PROG_TEST_RUN takes no shorter frames.
const SHORTEST: usize = 14;

struct Pair {
    object: Object,
    dataplane: Dataplane,
    model: Model,
    reasons: BTreeMap<Reason, u64>,
    /// Frames that arrived and that both judged.
    judged: u64,
}

/// The SYN of a fixed-fingerprint flood: no options, fixed window.
fn flood_print(ttl: u8) -> Fingerprint {
    Fingerprint { options: 0, window: 512, wscale: 255, ttl, ..Fingerprint::default() }
}

impl Pair {
    fn new(mode: Mode, sample_shift: u8, drop_illegal: bool) -> Self {
        assert!(rustix::process::geteuid().is_root(), "root tests need root: cargo xtask test");
        pin_to_one_cpu();
        let load = Load { fixed_clock: true, ..Load::default() };
        let object = Object::load(load).expect("the object loads");
        let dataplane = Dataplane::of(&object).expect("its maps are there");
        let config = Config {
            abi_version: ABI_VERSION,
            mode: mode as u8,
            sample_shift,
            tracked_bits: Config::tracked_bits(20_000),
            drop_illegal: drop_illegal.into(),
            // Further drops that an operator may configure.
            drop_beyond_bounds: if drop_illegal { Reason::EVERY_BOUND } else { 0 },
            closed_ports: if drop_illegal { Rate::per_second(20, 4) } else { Rate::default() },
            heartbeat_ns: START_NS,
            heartbeat_limit_ns: 30_000 * MS,
            hash_key: hash_key(0x0123_4567_89ab_cdef),
            source_rules: Config::HOSTS | Config::NETS,
            port_rules: Config::HOSTS | Config::NETS,
            rule_set: SET,
            ..Config::default()
        };
        let model = Model::new(config);
        let mut pair = Self { object, dataplane, model, reasons: BTreeMap::new(), judged: 0 };
        pair.dataplane.set_config(&config).unwrap();
        pair.set_clock(START_NS);
        pair.add_listener(v4(2, 1), 80, 0);
        pair.add_listener(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 443, 1);
        pair.add_listener(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 443, 2);
        pair.dataplane.set_ports(pair.model.listeners.iter().map(|(key, id)| (key, *id))).unwrap();
        pair.add_source_rule("203.0.113.0/26", 0, false);
        pair.add_source_rule("203.0.113.40/30", 3, true);
        // For certain ports: beside the rules above, beneath one of them, and over IPv6.
        pair.add_port_rule(SET, "203.0.113.64/26", &[443], 4);
        pair.add_port_rule(SET, "203.0.113.16/28", &[80, 8080], 5);
        pair.add_port_rule(SET, "2001:db8:0:8::/61", &[22, 80, 443, 65535], 6);
        pair.add_signature(1, Mask::NoTtl, &flood_print(0), 1);
        pair.add_signature(
            2,
            Mask::NoTtl,
            &Fingerprint { quirks: quirk::IPV6, ..flood_print(0) },
            1,
        );
        // A rule that has ended must not drop.
        pair.add_signature(0, Mask::Shape, &flood_print(0), 2);
        pair.set_expiry(2, START_NS - 1);
        // Another set, with rules over everything: it is not there until it counts.
        pair.add_source_rule_to(SET + 1, "0.0.0.0/0", 0, true);
        pair.add_source_rule_to(SET + 1, "203.0.113.0/27", 0, true);
        pair.add_source_rule_to(SET + 1, "::/0", 0, true);
        pair.add_port_rule(SET + 1, "0.0.0.0/0", &[80, 443], 0);
        pair.add_signature_to(SET + 1, 0, Mask::Shape, &flood_print(0), 1);
        // Where the traffic goes to is this host's own.
        let exempt = [
            ("203.0.113.32/28", ExemptEntry::STAYS),
            ("203.0.113.48/30", ExemptEntry::HELPER),
            ("192.0.2.0/30", ExemptEntry::OWN),
            ("2001:db8:0:32::/64", ExemptEntry::OWN),
        ];
        pair.exempt_all(&exempt.map(|(net, until_s)| (net.parse().unwrap(), until_s)));
        let gateway = NextHops::GATEWAY;
        pair.set_routes(&[("0.0.0.0/0", gateway), ("::/0", gateway)]);
        // The frames of this traffic are from and to this address.
        pair.model.own_macs.insert(0);
        pair.dataplane.set_own_macs(&pair.model.own_macs).unwrap();
        pair
    }

    fn set_clock(&mut self, now_ns: u64) {
        self.model.now_ns = now_ns;
        self.dataplane.set_clock(now_ns).unwrap();
    }

    /// Has every flow of the sample be followed, however many come in one moment of this clock.
    fn follow_all(&mut self) {
        self.configure(|config| config.tracked_bits = 0);
    }

    /// Changes the configuration of both sides.
    fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.model.config);
        self.dataplane.set_config(&self.model.config).unwrap();
    }

    /// Has the agent outlive the traffic. Without an agent the traffic meets no mitigation after 6 s.
    fn keep_agent(&mut self) {
        self.configure(|config| config.heartbeat_ns = u64::MAX);
    }

    fn add_listener(&mut self, ip: IpAddr, port: u16, id: u32) {
        let key = ListenerKey::new(addr(ip), port.to_be_bytes());
        let entry = ListenerEntry { id, ..ListenerEntry::default() };
        self.model.add_listener(key, entry);
        self.dataplane.set_listener(&key, &entry).unwrap();
    }

    fn set_expiry(&mut self, slot: u32, at_ns: u64) {
        self.model.rule_expiry.insert(slot, at_ns);
        self.dataplane.set_rule_expiry(slot, at_ns).unwrap();
    }

    fn add_source_rule(&mut self, net: &str, slot: u32, by_operator: bool) {
        self.add_source_rule_to(SET, net, slot, by_operator);
    }

    fn add_source_rule_to(&mut self, set: u64, net: &str, slot: u32, by_operator: bool) {
        self.add_entry(set, net, None, slot, by_operator);
    }

    fn add_port_rule(&mut self, set: u64, net: &str, ports: &[u16], slot: u32) {
        for port in ports {
            self.add_entry(set, net, Some(*port), slot, true);
        }
    }

    fn add_entry(&mut self, set: u64, net: &str, port: Option<u16>, slot: u32, by_operator: bool) {
        let net: IpNet = net.parse().unwrap();
        let rule = RuleRef { slot, flags: if by_operator { RuleRef::BY_OPERATOR } else { 0 } };
        let key = (set, port.map_or(EVERY_PORT, u16::to_be_bytes));
        self.model
            .source_rules
            .entry(key)
            .or_default()
            .push(((addr(net.network()), bits(&net)), rule));
        self.dataplane.set_source_rule(set, &net, port, rule).unwrap();
        if let Some(client) = client_around(&net) {
            self.dataplane.set_narrow(set, &client, port, true).unwrap();
        }
        self.set_expiry(slot, u64::MAX);
    }

    fn add_signature(&mut self, listener: u32, mask: Mask, print: &Fingerprint, slot: u32) {
        self.add_signature_to(SET, listener, mask, print, slot);
    }

    fn add_signature_to(
        &mut self,
        set: u64,
        listener: u32,
        mask: Mask,
        print: &Fingerprint,
        slot: u32,
    ) {
        let key = signature_key(set, listener, mask, print);
        let rule = RuleRef { slot, flags: 0 };
        self.model.signatures.push((key, rule));
        self.dataplane.set_rule(set, &KernelMatcher::Signature(key), rule).unwrap();
        self.set_expiry(slot, u64::MAX);
        let entry = self.model.listener_entries.get_mut(&listener).unwrap();
        entry.masks |= 1 << mask.code();
        for key in
            self.model.listeners.iter().filter(|(_, id)| **id == listener).map(|(key, _)| key)
        {
            self.dataplane.set_listener(key, entry).unwrap();
        }
    }

    /// Exempts these and no others.
    fn exempt_all(&mut self, nets: &[(IpNet, u32)]) {
        let of_model = |(net, until_s): &(IpNet, u32)| ((addr(net.network()), bits(net)), *until_s);
        self.model.exempt = nets.iter().map(of_model).collect();
        self.dataplane.set_exempt(nets).unwrap();
    }

    /// Shows both sides an arriving frame, and returns the resulting bytes.
    fn ingress(&mut self, frame: &[u8]) -> Vec<u8> {
        self.judge(frame).unwrap_or_else(|difference| panic!("{difference}"))
    }

    /// The same. Where the two decide differently, the error gives the decision of each.
    fn judge(&mut self, frame: &[u8]) -> Result<Vec<u8>, String> {
        if frame.len() < SHORTEST {
            return Ok(frame.to_vec());
        }
        let mut packet = Packet(frame.to_vec());
        let reason = self.model.ingress_packet(&mut packet);
        let (action, _, after) = self.object.test_ingress_frame(frame, 1).expect("a test run");
        *self.reasons.entry(reason).or_default() += 1;
        self.judged += 1;
        if action != verdict(reason) {
            let frame = hex(frame);
            return Err(format!("host says {}, kernel {action}, frame {frame}", reason.name()));
        }
        // A test run returns a packet with its metadata in front.
        let mark = no_cookie::mark(&self.model.config).to_ne_bytes();
        let whole = [if self.model.marked { &mark[..] } else { &[] }, &packet.0].concat();
        if after != whole {
            let (kernel, host) = (hex(&after), hex(&whole));
            return Err(format!("kernel makes {kernel}, host {host} of {}", hex(frame)));
        }
        Ok(packet.0)
    }

    fn egress(&mut self, frame: &[u8]) {
        // At the tc hook test runs also want a whole IP header.
        let shortest = match frame.get(12..14) {
            Some([0x08, 0x00]) => SHORTEST + 20,
            Some([0x86, 0xdd]) => SHORTEST + 40,
            _ => SHORTEST,
        };
        if frame.len() < shortest {
            return;
        }
        self.model.egress(frame);
        self.object.test_egress(frame).expect("a test run");
    }

    fn complete_handshake(&mut self, client: SocketAddr, server: SocketAddr) {
        let mut syn = Segment::new(client, server, flags::SYN);
        syn.options = linux_syn_options(1460, 1);
        let mut reply = Segment::new(server, client, flags::SYN | flags::ACK);
        (reply.seq, reply.ack) = (77, 1);
        let mut ack = Segment::new(client, server, flags::ACK);
        (ack.seq, ack.ack) = (1, 78);
        self.ingress(&syn.to_frame());
        self.egress(&reply.to_frame());
        self.ingress(&ack.to_frame());
    }
}

/// XDP action for this reason.
fn verdict(reason: Reason) -> u32 {
    match reason.action() {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
        Action::Tx => XDP_TX,
    }
}

/// Length of a prefix as the model counts it.
fn bits(net: &IpNet) -> u32 {
    u32::from(net.prefix_len()) + if net.addr().is_ipv4() { 96 } else { 0 }
}

fn sorted<K: Ord, V>(entries: Vec<(K, V)>) -> BTreeMap<K, V> {
    entries.into_iter().collect()
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Per-CPU state must stay on one CPU, as a flow's does behind a receive queue.
fn pin_to_one_cpu() {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(0);
    rustix::thread::sched_setaffinity(None, &cpus).expect("CPU 0 is there");
}

/// Shows both sides random traffic, which they judge alike.
fn show(pair: &mut Pair, seed: u64, frames: u64) {
    let apart = play(pair, seed, frames, 1);
    assert!(apart.is_empty(), "{}", apart.join("\n"));
    pair.assert_same_state();
}

/// Shows both sides random traffic, of which each `tick`th frame finds the clock moved on; a line for
/// each frame that they judged differently.
fn play(pair: &mut Pair, seed: u64, frames: u64, tick: u64) -> Vec<String> {
    let mut traffic = Traffic::new(seed);
    let mut now = START_NS;
    let mut apart = Vec::new();
    for number in 0..frames {
        now += traffic.below(3) * MS;
        if number % tick == 0 {
            pair.set_clock(now);
        }
        match traffic.next() {
            Frame::In(frame) => apart.extend(pair.judge(&frame).err()),
            Frame::Out(frame) => pair.egress(&frame),
        }
    }
    apart
}

#[test]
fn replies_are_distinguished_from_unsolicited_ones() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    let (here, there) = (SocketAddr::new(v4(2, 9), 40_000), SocketAddr::new(v4(9, 9), 443));
    pair.egress(&Segment::new(here, there, flags::SYN).to_frame());
    let answer = |from, flags| Segment::new(from, here, flags).to_frame();
    let new_client = SocketAddr::new(v4(9, 10), 443);
    for from in [there, new_client] {
        pair.ingress(&answer(from, flags::SYN | flags::ACK));
        pair.ingress(&answer(from, flags::RST | flags::ACK));
    }
    let mut later = Segment::new(new_client, here, flags::RST | flags::ACK);
    later.seq = 7;
    pair.ingress(&later.to_frame());
    pair.assert_same_state();
    let host = pair.model.host;
    assert_eq!((host.own_syn, host.reply_seen, host.unsolicited), (1, 4, 2), "{host:?}");
}

#[test]
fn closed_port_sources_are_noted_by_port_and_address() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    let scanner = SocketAddr::new(v4(9, 9), 4000);
    for port in 1..=29 {
        let to = SocketAddr::new(v4(2, 1), port);
        pair.ingress(&Segment::new(scanner, to, flags::SYN).to_frame());
    }
    pair.assert_same_state();
    let probe = |cell| {
        tcpguard::bpf::closed_port_source(cell, tcpguard_engine::Timestamp::default(), |_| None)
    };
    let cells: Vec<_> = pair.model.closed_port_sources.values().filter_map(probe).collect();
    assert_eq!(cells.len(), 1);
    assert_eq!((cells[0].syns, cells[0].servers, cells[0].port), (29, 1, 29));
    assert!((22..=37).contains(&cells[0].ports), "{:?}", cells[0]);
}

#[test]
fn every_truncation_of_every_fixture_is_judged_alike() {
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    let mut traffic = Traffic::new(9);
    for _ in 0..60 {
        let frame = match traffic.next() {
            Frame::In(frame) | Frame::Out(frame) => frame,
        };
        for length in SHORTEST..=frame.len() {
            pair.ingress(&frame[..length]);
            pair.egress(&frame[..length]);
        }
    }
    pair.assert_same_state();
}

/// The checksum is not verified before the stack.
#[test]
fn a_syn_with_a_wrong_checksum_is_counted_as_one_with_a_right_one() {
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    // Where IPv4 and TCP have theirs.
    for (number, wrong) in [&[][..], &[24], &[50], &[24, 50]].into_iter().enumerate() {
        let client = SocketAddr::new(v4(7, 7), 5000 + number as u16);
        let mut syn = Segment::new(client, SocketAddr::new(v4(2, 1), 443), flags::SYN);
        syn.options = linux_syn_options(1460, 1);
        let mut frame = syn.to_frame();
        for at in wrong {
            frame[*at] ^= 0xff;
        }
        pair.ingress(&frame);
    }
    assert_eq!(pair.reasons, BTreeMap::from([(Reason::Syn, 4)]));
    pair.assert_same_state();
}

#[test]
fn a_dropped_syn_that_is_retransmitted_passes_in_both_and_its_handshake_counts_for_the_rule() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    let (client, server) = (SocketAddr::new(v4(7, 7), 5000), SocketAddr::new(v4(2, 1), 443));
    let mut syn = Segment::new(client, server, flags::SYN);
    (syn.window, syn.seq) = (512, 1);
    let frame = syn.to_frame();
    for (at_ms, expected) in [
        (0, Reason::DropSignature),
        (1_000, Reason::SynRetransmitted),
        (3_000, Reason::SynRetransmitted),
    ] {
        pair.set_clock(START_NS + at_ms * MS);
        pair.ingress(&frame);
        assert!(pair.reasons.contains_key(&expected), "after {at_ms} ms");
    }
    assert_eq!(pair.reasons[&Reason::DropSignature], 1);
    assert_eq!(pair.reasons[&Reason::SynRetransmitted], 2);
    pair.assert_same_state();
    let completed = |pair: &Pair| -> u32 {
        pair.model.rule_hits.values().map(|hits| hits.returns.completed).sum()
    };
    assert_eq!(completed(&pair), 0);
    let mut answer = Segment::new(server, client, flags::SYN | flags::ACK);
    (answer.seq, answer.ack) = (77, 2);
    pair.egress(&answer.to_frame());
    let mut ack = Segment::new(client, server, flags::ACK);
    (ack.seq, ack.ack) = (2, 78);
    pair.ingress(&ack.to_frame());
    pair.assert_same_state();
    assert_eq!(completed(&pair), 1);
}

#[test]
fn beyond_what_the_stack_is_given_retransmissions_are_dropped_in_both() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    for (key, id) in pair.model.listeners.clone() {
        let entry = pair.model.listener_entries[&id];
        let entry = ListenerEntry { retransmit_budget: Rate::per_second(1, 2), ..entry };
        pair.model.add_listener(key, entry);
        pair.dataplane.set_listener(&key, &entry).unwrap();
    }
    let server = SocketAddr::new(v4(2, 1), 443);
    let send = |pair: &mut Pair, at_ms| {
        pair.set_clock(START_NS + at_ms * MS);
        for host in 1..=20 {
            let mut syn = Segment::new(SocketAddr::new(v4(7, host), 5000), server, flags::SYN);
            (syn.window, syn.seq) = (512, 1);
            pair.ingress(&syn.to_frame());
        }
        pair.assert_same_state();
    };
    send(&mut pair, 0);
    send(&mut pair, 1_000);
    assert_eq!(pair.reasons[&Reason::SynRetransmitted], 2);
    assert_eq!(pair.reasons[&Reason::DropSignature], 38);
}

#[test]
fn of_a_flood_that_is_dropped_few_flows_are_followed_and_one_that_returns_counts_as_let_in() {
    const SYNS: u32 = 4000;
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    let server = SocketAddr::new(v4(2, 1), 443);
    let syn = |source: u32| {
        let from = SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + source).into(), 5000);
        let mut syn = Segment::new(from, server, flags::SYN);
        (syn.window, syn.seq) = (512, source);
        syn.to_frame()
    };
    for source in 1..=SYNS {
        pair.ingress(&syn(source));
    }
    assert_eq!(pair.reasons[&Reason::DropSignature], u64::from(SYNS));
    let flows =
        |pair: &Pair| -> Vec<Flow> { pair.model.flows.iter().map(|(_, flow)| flow).collect() };
    let first = flows(&pair);
    let followed = first.len();
    assert!((512..650).contains(&followed), "a tick's worth and one in 64 of the rest: {followed}");
    let estimate: u64 = first.iter().map(|flow| 1 << flow.sample_shift).sum();
    assert!((2800..5200).contains(&estimate), "but they stand for all: {estimate}");

    let thinned = first.iter().find(|flow| flow.sample_shift > 0).expect("one in 64");
    let is_tracked = |source: &u32| first.iter().any(|flow| flow.syn_seq == *source);
    let untracked = (1..=SYNS).find(|source| !is_tracked(source)).expect("63 in 64");
    pair.set_clock(START_NS + 1_000 * MS);
    for source in [thinned.syn_seq, untracked] {
        pair.ingress(&syn(source));
        let let_in = flows(&pair).into_iter().find(|flow| flow.syn_seq == source).expect("it");
        assert_eq!((let_in.sample_shift, let_in.state), (0, FlowState::Syn as u8));
    }
    assert_eq!(pair.reasons[&Reason::SynRetransmitted], 2);
    pair.assert_same_state();
}

#[test]
fn rules_drop_nothing_once_the_agent_is_gone() {
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    let client = SocketAddr::new(v4(7, 7), 5000);
    let mut syn = Segment::new(client, SocketAddr::new(v4(2, 1), 443), flags::SYN);
    (syn.window, syn.seq) = (512, 1);
    pair.set_clock(START_NS + 30_000 * MS);
    pair.ingress(&syn.to_frame());
    pair.set_clock(START_NS + 30_001 * MS);
    pair.ingress(&syn.to_frame());
    assert_eq!(pair.reasons[&Reason::DropSignature], 1);
    assert_eq!(pair.reasons[&Reason::AgentGone], 1);
    pair.assert_same_state();
}

#[test]
fn a_zeroed_or_foreign_configuration_passes_everything() {
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    for version in [0, ABI_VERSION + 1] {
        pair.model.config.abi_version = version;
        pair.dataplane.set_config(&pair.model.config).unwrap();
        let mut traffic = Traffic::new(5);
        for _ in 0..1000 {
            if let Frame::In(frame) = traffic.next() {
                pair.ingress(&frame);
            }
        }
    }
    assert_eq!(pair.reasons.keys().collect::<Vec<_>>(), [&Reason::Unconfigured]);
    pair.assert_same_state();
}

#[test]
fn a_validated_client_is_exempt_from_automatic_rules_and_not_from_an_operators() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    let server = SocketAddr::new(v4(2, 1), 80);
    let client = |host| SocketAddr::new(Ipv4Addr::new(198, 51, 100, host).into(), 4000);
    for host in [1, 2] {
        pair.complete_handshake(client(host), server);
    }
    pair.add_source_rule("198.51.100.1/32", 0, false);
    pair.add_source_rule("198.51.100.2/32", 3, true);
    for (host, expected) in [(1, Reason::SynValidated), (2, Reason::DropSource)] {
        pair.ingress(&Segment::new(client(host), server, flags::SYN).to_frame());
        assert_eq!(pair.reasons.get(&expected), Some(&1), "client {host}");
    }
    pair.assert_same_state();
}

#[test]
fn another_rule_set_judges_from_the_packet_on_that_meets_its_number() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    let server = SocketAddr::new(v4(2, 1), 80);
    let judge = |pair: &mut Pair, source: &str| {
        let source = SocketAddr::new(source.parse().unwrap(), 4000);
        let mut syn = Segment::new(source, server, flags::SYN);
        syn.window = 64_240;
        pair.ingress(&syn.to_frame());
        let dropped = pair.reasons.remove(&Reason::DropSource).is_some();
        pair.reasons.clear();
        dropped
    };
    for (set, drops) in [
        (SET, [true, true, false]),
        (SET + 1, [true, true, true]),
        (SET + 2, [false, false, false]),
        (SET, [true, true, false]),
    ] {
        pair.model.config.rule_set = set;
        pair.dataplane.set_config(&pair.model.config).unwrap();
        let sources = ["203.0.113.5", "203.0.113.60", "198.51.100.1"];
        assert_eq!(sources.map(|source| judge(&mut pair, source)), drops, "set {set:#x}");
    }
    pair.assert_same_state();
    // Rules of a set that does not count can be removed without a trace, and nothing else is removed.
    assert_eq!(pair.dataplane.rule_count(SET + 1).unwrap(), 5);
    let own = pair.dataplane.rule_count(SET).unwrap();
    assert_eq!(pair.dataplane.remove_other_sets(SET).unwrap(), 6, "one entry a port");
    assert_eq!(pair.dataplane.rule_count(SET + 1).unwrap(), 0);
    assert_eq!(pair.dataplane.rule_count(SET).unwrap(), own);
    assert_eq!(pair.dataplane.rules(SET).unwrap().len() as u32, own);
}
