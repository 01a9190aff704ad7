//! What the ingress program costs per packet, beside a program that only drops.
//!
//! Each case runs by BPF_PROG_TEST_RUN, in rounds that go through all cases in turn, so that a
//! change of the machine's mood meets all of them. "net" is what a case costs above the drop-only
//! program of the same round. `repeat` does not restore a frame, but nothing here changes one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tcpguard::kernel::{Dataplane, Load, Object, addr};
use tcpguard_common::ABI_VERSION;
use tcpguard_common::abi::{Config, ListenerEntry, ListenerKey, Mode};
use tcpguard_common::fastpath::{Fingerprint, Mask};
use tcpguard_common::model::hash_key;
use tcpguard_e2e::bare::BareProgram;
use tcpguard_e2e::clock;
use tcpguard_e2e::foreign::Verdict;
use tcpguard_e2e::netns::Netns;
use tcpguard_e2e::packet::{Segment, flags, linux_syn_options};

pub const ROUNDS: usize = 21;
pub const REPEAT: u32 = 100_000;

pub struct Case {
    pub name: &'static str,
    pub frame: Vec<u8>,
    pub net: Vec<f64>,
}

impl Case {
    pub fn new(name: &'static str, frame: Vec<u8>) -> Self {
        Self { name, frame, net: Vec::new() }
    }
}

pub fn v4(client: u8, flags: u8) -> Segment {
    let src = SocketAddr::new(Ipv4Addr::new(203, 0, 113, client).into(), 4000);
    Segment::new(src, SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 443), flags)
}

pub fn v6(flags: u8) -> Segment {
    let ip = |host| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host));
    Segment::new(SocketAddr::new(ip(9), 4000), SocketAddr::new(ip(1), 443), flags)
}

fn with_options(mut syn: Segment) -> Vec<u8> {
    (syn.seq, syn.window, syn.dont_fragment) = (7, 64_240, true);
    syn.options = linux_syn_options(1460, 1);
    syn.to_frame()
}

/// Measures every kind of packet.
pub fn run() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "loading BPF programs needs root: run as root");
    // A BPF file system of its own, on which programs can share maps.
    Netns::new("bench")?.run(|| {
        ingress()?;
        crate::cookies::bench()
    })
}

fn ingress() -> Result<()> {
    let mut object = Object::load(Load::default()).context("the object does not load")?;
    let dataplane = Dataplane::of(&object)?;
    let mut config = Config {
        abi_version: ABI_VERSION,
        mode: Mode::Enforce as u8,
        heartbeat_ns: clock::boot_ns(),
        heartbeat_limit_ns: u64::MAX,
        hash_key: hash_key(1),
        source_rules: 1,
        ..Config::default()
    };
    let key = |ip| ListenerKey::new(addr(ip), 443u16.to_be_bytes());
    let any = [key(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), key(IpAddr::V6(Ipv6Addr::UNSPECIFIED))];
    let crude = Fingerprint { window: 512, wscale: 255, ttl: 64, ..Fingerprint::default() };
    for key in &any {
        let masks = 1 << Mask::NoTtl.code();
        dataplane.set_listener(key, &ListenerEntry { masks, ..ListenerEntry::default() })?;
    }
    dataplane.set_ports(any.iter().map(|key| (key, 0)))?;
    dataplane.set_signature(config.rule_set, 0, Mask::NoTtl, &crude, 1)?;
    dataplane.set_source_rule(
        config.rule_set,
        &"203.0.113.66/32".parse()?,
        None,
        2,
        false,
        false,
    )?;
    for slot in 1..=2 {
        dataplane.set_rule_expiry(slot, u64::MAX)?;
    }
    let mut crude_syn = v4(7, flags::SYN);
    (crude_syn.seq, crude_syn.window) = (1, 512);
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut cases = [
        Case::new("not TCP", arp),
        Case::new("established ACK, IPv4", v4(5, flags::ACK).to_frame()),
        Case::new("established ACK, IPv6", v6(flags::ACK).to_frame()),
        Case::new("SYN passed, IPv4", with_options(v4(6, flags::SYN))),
        Case::new("SYN passed, IPv6", with_options(v6(flags::SYN))),
        Case::new("SYN dropped by source", with_options(v4(66, flags::SYN))),
        Case::new("SYN dropped by signature", crude_syn.to_frame()),
    ];
    for cost in object.costs() {
        let verified = cost.verified.map_or_else(|| "?".to_owned(), |count| count.to_string());
        println!("{:<24} {verified:>7} instructions verified", cost.name);
    }
    let bare = BareProgram::load(Verdict::Drop)?;
    for sampled in [true, false] {
        // The look-ups of the sample cost most; under a flood few packets belong to it.
        config.sample_shift = if sampled { 0 } else { 20 };
        config.segment_shift = config.sample_shift;
        dataplane.set_config(&config)?;
        let mut floor = Vec::new();
        for _ in 0..ROUNDS {
            for case in &mut cases {
                let drop_only = f64::from(bare.test_run(&case.frame, REPEAT)?.0);
                floor.push(drop_only);
                let (_, time) = object.test_ingress(&case.frame, REPEAT)?;
                case.net.push(time.as_nanos() as f64 - drop_only);
            }
        }
        let title = if sampled { "every flow followed" } else { "1 flow in 1,048,576 followed" };
        println!(
            "\n{title}: ns per packet above a drop-only program ({:.0} ns), {ROUNDS} rounds of {REPEAT}",
            median(&mut floor)
        );
        print_table(&mut cases);
    }
    Ok(())
}

/// Prints what the cases have cost, and clears it.
pub fn print_table(cases: &mut [Case]) {
    println!("{:<34} {:>8} {:>8} {:>8}", "", "median", "min", "max");
    for case in cases {
        let median = median(&mut case.net);
        let (first, last) = (case.net[0], case.net[case.net.len() - 1]);
        println!("{:<34} {median:>8.0} {first:>8.0} {last:>8.0}", case.name);
        case.net.clear();
    }
}

/// The median; sorts.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
