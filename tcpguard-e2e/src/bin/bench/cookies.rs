//! What a SYN answered with a cookie costs, and an ACK that is looked at for one.
//!
//! An answered SYN is no SYN any more, so a program in front restores it for each run: "net" is above
//! that program with nothing behind it. ACKs are compared with a tc program that does nothing. Each
//! also goes through a SYN proxy of the usual kind, in the same rounds (which makes room in the frame
//! of an ACK too, so that it has to be restored there).

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Result, ensure};
use tcpguard::kernel::{Dataplane, Load, Object, Pins, Redeemer, addr};
use tcpguard_common::ABI_VERSION;
use tcpguard_common::abi::{
    Config, CookieKeys, FlowKey, ListenerEntry, ListenerKey, Mode, SynAckRecord,
};
use tcpguard_common::cookie::{self, Choice, Handshake, Offer};
use tcpguard_common::model::{Model, cookie_keys, hash_key};
use tcpguard_common::wire::option;
use tcpguard_e2e::clock;
use tcpguard_e2e::foreign::BareProgram;
use tcpguard_e2e::packet::{Segment, flags, linux_syn_options};

use crate::packet::{Case, REPEAT, ROUNDS, median, print_table, v4, v6};
use crate::reference::{self, Comparison, Reference};

/// `XDP_TX`.
const XDP_TX: u32 = 3;
/// MSS 1460, window scale 8, SACK permitted: a SYN of Windows.
const WINDOWS: [u8; 12] = [2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2];
/// NOP, NOP, timestamps, whose echo lies in the last slot but is no cookie's.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];

fn with(mut segment: Segment, options: &[u8]) -> Segment {
    (segment.seq, segment.window, segment.dont_fragment) = (7, 64_240, true);
    segment.options = options.to_vec();
    segment
}

pub fn bench() -> Result<()> {
    let pins = Pins::open(Path::new("/sys/fs/bpf/tcpguard"))?;
    let maps = pins.maps();
    let mut object = Object::load(Load { maps: Some(&maps), ..Load::default() })?;
    let mut redeemer = Redeemer::load(&maps, false)?;
    let dataplane = Dataplane::of(&object)?;
    let keys = cookie_keys(1);
    arm(&dataplane)?;
    dataplane.set_cookie_keys(&keys)?;
    for cost in redeemer.costs() {
        let verified = cost.verified.map_or_else(|| "?".to_owned(), |count| count.to_string());
        println!("\n{:<24} {verified:>7} instructions verified", cost.name);
    }
    let reference = Reference::load()?;
    let mut comparisons = answered(&mut object, &reference)?;
    comparisons.extend(checked(&mut redeemer, &keys, &reference)?);
    reference::print(&mut comparisons);
    Ok(())
}

/// The ACK of a client whose SYN was answered at `tick`, with timestamps.
fn good_ack(keys: &CookieKeys, segment: Segment, tick: u64) -> Vec<u8> {
    let flow = FlowKey {
        client: addr(segment.src.ip()),
        server: addr(segment.dst.ip()),
        client_port: segment.src.port().to_be_bytes(),
        server_port: segment.dst.port().to_be_bytes(),
    };
    let options = option::WSCALE | option::SACK | option::TIMESTAMPS;
    let choice = Choice::new(&Offer::new(1460, 7, options), segment.src.is_ipv6());
    let mut ack = with(segment, &TIMESTAMPS);
    let handshake = Handshake { flow: &flow, client_isn: ack.seq.wrapping_sub(1) };
    let cookie = cookie::make(keys, &handshake, tick, &choice);
    ack.ack = cookie.isn.wrapping_add(1);
    ack.options[8..].copy_from_slice(&cookie.timestamp.to_be_bytes());
    ack.to_frame()
}

/// The listener on every address in cookie mode, and how it answers.
fn arm(dataplane: &Dataplane) -> Result<()> {
    dataplane.set_config(&Config {
        abi_version: ABI_VERSION,
        mode: Mode::Enforce as u8,
        heartbeat_ns: u64::MAX,
        heartbeat_limit_ns: u64::MAX,
        hash_key: hash_key(1),
        // As under a flood: few of its packets belong to the sample.
        sample_shift: 20,
        segment_shift: 20,
        ..Config::default()
    })?;
    let cookies = ListenerEntry::ANSWER | ListenerEntry::ACCEPT;
    let entry = ListenerEntry { steps: cookies, ..ListenerEntry::default() };
    let port = 443u16.to_be_bytes();
    let any: [std::net::IpAddr; 2] = ["0.0.0.0".parse()?, "::".parse()?];
    let any = any.map(|ip| ListenerKey::new(addr(ip), port));
    for key in &any {
        dataplane.set_listener(key, &entry)?;
    }
    dataplane.set_ports(any.iter().map(|key| (key, 0)))?;
    for server in [v4(1, 0).dst.ip(), v6(0).dst.ip()] {
        let record = SynAckRecord {
            ifindex: Model::DEPARTURE.ifindex,
            mss: 1460,
            window: 65_160,
            ttl: 64,
            wscale: 7,
            options: option::WSCALE | option::SACK | option::TIMESTAMPS,
            ..SynAckRecord::default()
        };
        dataplane.set_syn_ack(&ListenerKey::new(addr(server), port), &record)?;
    }
    Ok(())
}

fn answered(object: &mut Object, reference: &Reference) -> Result<Vec<Comparison>> {
    let linux = linux_syn_options(1460, 1);
    // A network card delivers no frame of less than 60 bytes.
    let padded = |segment: Segment| {
        let mut frame = segment.to_frame();
        frame.resize(frame.len().max(60), 0);
        frame
    };
    let mut cases = [
        Case::new("SYN answered, no options, IPv4", padded(with(v4(6, flags::SYN), &[]))),
        Case::new("SYN answered, Windows, IPv4", padded(with(v4(6, flags::SYN), &WINDOWS))),
        Case::new("SYN answered, Windows, IPv6", padded(with(v6(flags::SYN), &WINDOWS))),
        Case::new("SYN answered, Linux, IPv4", padded(with(v4(6, flags::SYN), &linux))),
        Case::new("SYN answered, Linux, IPv6", padded(with(v6(flags::SYN), &linux))),
    ];
    let ingress = object.ingress_fd()?;
    let mut wrapped = Vec::new();
    for case in &cases {
        let alone = BareProgram::restoring(&case.frame, None)?;
        let ours = BareProgram::restoring(&case.frame, Some(ingress.as_fd()))?;
        let other = reference.with_fd(|fd| BareProgram::restoring(&case.frame, Some(fd)))?;
        wrapped.push((alone, ours, other));
    }
    let mut floor = Vec::new();
    let mut comparisons: Vec<_> = cases.iter().map(|case| Comparison::of(case.name)).collect();
    for _ in 0..ROUNDS {
        let programs = wrapped.iter().zip(&mut comparisons);
        for (case, ((alone, ours, other), both)) in cases.iter_mut().zip(programs) {
            let (least, _) = alone.test_run(&case.frame, REPEAT)?;
            let net = |program: &BareProgram| {
                let (time, action) = program.test_run(&case.frame, REPEAT)?;
                ensure!(action == XDP_TX, "{}: action {action}", case.name);
                Ok(f64::from(time) - f64::from(least))
            };
            let (ours, other) = (net(ours)?, net(other)?);
            floor.push(f64::from(least));
            case.net.push(ours);
            both.ours.push(ours);
            both.reference.push(other);
        }
    }
    println!(
        "\nSYN cookies: ns per packet above a program that restores it ({:.0} ns), {ROUNDS} rounds",
        median(&mut floor)
    );
    print_table(&mut cases);
    Ok(comparisons)
}

fn checked(
    redeemer: &mut Redeemer,
    keys: &CookieKeys,
    reference: &Reference,
) -> Result<Vec<Comparison>> {
    let _listener = TcpListener::bind("[::]:443")?;
    let tick = cookie::ticks(clock::boot_ns()) - 1000;
    let recent = cookie::timestamp(keys, tick);
    let mut echoing = TIMESTAMPS;
    echoing[8..].copy_from_slice(&recent.to_be_bytes());
    let mut elsewhere = with(v4(6, flags::ACK), &[]);
    elsewhere.dst.set_port(80);
    let mut cases = vec![
        Case::new("ACK to another port", elsewhere.to_frame()),
        Case::new("ACK without cookie, IPv4", with(v4(6, flags::ACK), &[]).to_frame()),
        Case::new("ACK without cookie, IPv6", with(v6(flags::ACK), &[]).to_frame()),
        Case::new(
            "ACK without cookie, timestamps, v4",
            with(v4(6, flags::ACK), &echoing).to_frame(),
        ),
        Case::new("ACK without cookie, timestamps, v6", with(v6(flags::ACK), &echoing).to_frame()),
    ];
    // Handed over at the first run; the others find the listener and leave it at that.
    cases.extend([
        Case::new("ACK with a good cookie, IPv4", good_ack(keys, v4(6, flags::ACK), tick)),
        Case::new("ACK with a good cookie, IPv6", good_ack(keys, v6(flags::ACK), tick)),
    ]);
    let bare = BareProgram::classifier()?;
    // The first goes to a port that is not the proxy's, the last two hold a cookie that only the
    // guard knows.
    let mut comparisons = Vec::new();
    for case in &cases[1..5] {
        let alone = BareProgram::restoring(&case.frame, None)?;
        let other = reference.with_fd(|fd| BareProgram::restoring(&case.frame, Some(fd)))?;
        comparisons.push((Comparison::of(case.name), alone, other));
    }
    let mut floor = Vec::new();
    for _ in 0..ROUNDS {
        for (index, case) in cases.iter_mut().enumerate() {
            let (least, _) = bare.test_run(&case.frame, REPEAT)?;
            let time = redeemer.test(&case.frame, REPEAT)?.as_nanos() as f64;
            floor.push(f64::from(least));
            case.net.push(time - f64::from(least));
            let compared = index.checked_sub(1).and_then(|index| comparisons.get_mut(index));
            if let Some((both, alone, other)) = compared {
                let (least, _) = alone.test_run(&case.frame, REPEAT)?;
                let (other, _) = other.test_run(&case.frame, REPEAT)?;
                both.ours.extend(case.net.last());
                both.reference.push(f64::from(other) - f64::from(least));
            }
        }
    }
    println!(
        "\nACKs: ns per packet above a tc program that does nothing ({:.0} ns), {ROUNDS} rounds",
        median(&mut floor)
    );
    print_table(&mut cases);
    Ok(comparisons.into_iter().map(|(comparison, ..)| comparison).collect())
}
