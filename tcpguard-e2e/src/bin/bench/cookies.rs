//! What a SYN answered with a cookie costs, and an ACK that is looked at for one.
//!
//! An answered SYN is no SYN any more, so a program in front makes it again for each run: "net" is
//! above that program with nothing behind it. ACKs at tc are compared with a tc program that does
//! nothing. All but three ACKs also go through a SYN proxy of the usual kind, in the same rounds, each
//! as one flow and from random sources.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result};
use tcpguard::kernel::{Dataplane, Load, Object, Pins, Redeemer, addr};
use tcpguard_common::ABI_VERSION;
use tcpguard_common::abi::{
    Config, CookieSecret, FlowKey, ListenerEntry, ListenerKey, Mode, SynAckRecord,
};
use tcpguard_common::cookie::{self, Choice, Handshake, Offer};
use tcpguard_common::model::{Model, cookie_secret, hash_key};
use tcpguard_common::wire::option;
use tcpguard_e2e::bare::{BareProgram, Sources};
use tcpguard_e2e::clock;
use tcpguard_e2e::packet::{Segment, flags, linux_syn_options};

use crate::comparison::{self, Comparison};
use crate::packet::{Case, REPEAT, ROUNDS, median, print_table, v4, v6};
use crate::reference::Contest;

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
    let object = Object::load(Load { maps: Some(&maps), ..Load::default() })?;
    let mut redeemer = Redeemer::load(&maps, false)?;
    let dataplane = Dataplane::of(&object)?;
    let secret = cookie_secret(1);
    arm(&dataplane)?;
    dataplane.set_cookie_secret(&secret)?;
    for cost in redeemer.costs() {
        let verified = cost.verified.map_or_else(|| "?".to_owned(), |count| count.to_string());
        println!("\n{:<24} {verified:>7} instructions verified", cost.name);
    }
    let contest = Contest::new(&object, &mut redeemer)?;
    let mut comparisons = answered(&contest)?;
    comparisons.extend(checked(&mut redeemer, &secret, &contest)?);
    comparison::print(&comparisons);
    Ok(())
}

/// The ACK of a client whose SYN was answered at `tick`, with timestamps.
fn good_ack(secret: &CookieSecret, segment: Segment, tick: u64) -> Vec<u8> {
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
    let cookie = cookie::make(secret, &handshake, tick, &choice);
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

/// The packet as one flow, and from random sources.
fn both(name: &'static str) -> [Comparison; 2] {
    [Sources::One, Sources::Random].map(|sources| Comparison::of(name, sources))
}

fn answered(contest: &Contest) -> Result<Vec<Comparison>> {
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
    let mut floor = Vec::new();
    let mut comparisons = cases.each_ref().map(|case| both(case.name));
    for _ in 0..ROUNDS {
        for (case, comparisons) in cases.iter_mut().zip(&mut comparisons) {
            for comparison in comparisons {
                let sources = comparison.sources();
                let (costs, least) =
                    contest.syn(&case.frame, sources).with_context(|| case.name)?;
                comparison.push(costs);
                if sources == Sources::One {
                    floor.push(least);
                    case.net.push(costs.ours);
                }
            }
        }
    }
    println!(
        "\nSYN cookies: ns per packet above a program that makes it again ({:.0} ns), {ROUNDS} rounds",
        median(&mut floor)
    );
    print_table(&mut cases);
    Ok(comparisons.into_iter().flatten().collect())
}

/// A name and a frame of each kind. The first goes to a port that is not the proxy's, the last two hold
/// a cookie that only the guard knows.
fn acks(secret: &CookieSecret) -> [(&'static str, Vec<u8>); 7] {
    let tick = cookie::ticks(clock::boot_ns()) - 1000;
    let mut echoing = TIMESTAMPS;
    echoing[8..].copy_from_slice(&cookie::timestamp(secret, tick).to_be_bytes());
    let mut elsewhere = with(v4(6, flags::ACK), &[]);
    elsewhere.dst.set_port(80);
    let plain = |segment, options: &[u8]| with(segment, options).to_frame();
    [
        ("ACK to another port", elsewhere.to_frame()),
        ("ACK without cookie, IPv4", plain(v4(6, flags::ACK), &[])),
        ("ACK without cookie, IPv6", plain(v6(flags::ACK), &[])),
        ("ACK without cookie, timestamps, v4", plain(v4(6, flags::ACK), &echoing)),
        ("ACK without cookie, timestamps, v6", plain(v6(flags::ACK), &echoing)),
        // Handed over at the first run; the others find the listener and leave it at that.
        ("ACK with a good cookie, IPv4", good_ack(secret, v4(6, flags::ACK), tick)),
        ("ACK with a good cookie, IPv6", good_ack(secret, v6(flags::ACK), tick)),
    ]
}

fn checked(
    redeemer: &mut Redeemer,
    secret: &CookieSecret,
    contest: &Contest,
) -> Result<Vec<Comparison>> {
    let _listener = TcpListener::bind("[::]:443")?;
    let mut cases = acks(secret).map(|(name, frame)| Case::new(name, frame));
    let bare = BareProgram::classifier()?;
    let mut comparisons: Vec<_> = cases[1..5].iter().map(|case| both(case.name)).collect();
    let mut floor = Vec::new();
    for _ in 0..ROUNDS {
        // Made anew: a timestamp is too old for a cookie after a minute.
        for (case, (_, frame)) in cases.iter_mut().zip(acks(secret)) {
            case.frame = frame;
            let (least, _) = bare.test_run(&case.frame, REPEAT)?;
            let time = redeemer.test(&case.frame, REPEAT)?.as_nanos() as f64;
            floor.push(f64::from(least));
            case.net.push(time - f64::from(least));
        }
        for (case, comparisons) in cases[1..5].iter().zip(&mut comparisons) {
            for comparison in comparisons {
                let costs = contest.ack(&case.frame, comparison.sources());
                comparison.push(costs.with_context(|| case.name)?);
            }
        }
    }
    println!(
        "\nACKs at tc: ns per packet above a tc program that does nothing ({:.0} ns), {ROUNDS} rounds",
        median(&mut floor)
    );
    print_table(&mut cases);
    Ok(comparisons.into_iter().flatten().collect())
}
