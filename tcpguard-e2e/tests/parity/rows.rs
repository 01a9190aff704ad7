//! What is promised of the decision, beside naive variants.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tcpguard::kernel::addr;
use tcpguard_common::abi::{Addr, Mode, Reason};
use tcpguard_e2e::packet::{Segment, flags};
use tcpguard_goals::{Goal, Row, seed, size};

use crate::traffic::v4;
use crate::{Pair, run};

/// Whether the guard took for a SYN what it has this reason for.
pub fn is_of_syn(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoListener
            | Reason::Syn
            | Reason::SynReturned
            | Reason::SynValidated
            | Reason::SynExempt
            | Reason::WouldDropSource
            | Reason::WouldDropSignature
            | Reason::AgentGone
            | Reason::DropSource
            | Reason::DropSignature
            | Reason::Cookie
            | Reason::DropOverload
            | Reason::DropBudget
            | Reason::DropReflection
    )
}

#[test]
fn g8_kernel_and_host_judge_and_count_alike() {
    let row = Row::new(Goal::G8);
    let (mut frames, mut misread) = (0, 0);
    let mut reasons: BTreeMap<Reason, u64> = BTreeMap::new();
    // Each round has tables of its own: full ones forget by other rules in the kernel than on the host.
    for round in 0..size(1, 84) {
        for (number, mode, shift, illegal) in [
            (0, Mode::Enforce, 0, true),
            (1, Mode::Enforce, 2, false),
            (2, Mode::Observe, 0, true),
            (3, Mode::Off, 1, false),
        ] {
            let pair = run(seed() + 1000 * round + number, 30_000, mode, shift, illegal);
            (frames, misread) = (frames + pair.frames, misread + pair.misread);
            for (reason, count) in pair.reasons {
                *reasons.entry(reason).or_default() += count;
            }
        }
    }
    println!("{frames} frames: {reasons:?}");
    assert!(frames >= size(100_000, 9_000_000), "only {frames} frames were long enough to run");
    // A generator that never reaches a path proves nothing about it.
    let unreachable = [
        Reason::Unconfigured,
        Reason::AgentGone,
        Reason::SynReturned,
        Reason::Cookie,
        Reason::DropOverload,
        Reason::DropBudget,
        Reason::DropReflection,
        Reason::Stray,
        Reason::DropStray,
    ];
    // With another seed the short form may miss the rarest.
    let all = size(seed() == 1, true);
    for reason in Reason::ALL.iter().filter(|reason| all && !unreachable.contains(reason)) {
        assert!(reasons.contains_key(reason), "no frame was {}", reason.name());
    }
    // The first difference would have ended the test.
    row.result(frames, "frames: verdicts, answers, counters and tables are equal", true)
        .naive(
            frames,
            format!("frames, a parser without tags, options and further headers: {misread} differ"),
            misread > 0,
        )
        .finish();
}

#[test]
fn g6_a_flood_evicts_no_validated_client() {
    const CLIENTS: u16 = 1000;
    let row = Row::new(Goal::G6);
    let sources = size(200_000, 10_000_000);
    let mut pair = Pair::new(Mode::Observe, 0, false);
    let server = SocketAddr::new(v4(2, 1), 80);
    let client = |n: u16| SocketAddr::new(v4(9 + (n >> 8) as u8, n as u8), 4000);
    let bystander = |n: u16| SocketAddr::new(v4(19 + (n >> 8) as u8, n as u8), 4000);
    for n in 0..CLIENTS {
        pair.complete_handshake(client(n), server);
        pair.ingress(&Segment::new(bystander(n), server, flags::SYN).to_frame());
    }
    let v6_server = SocketAddr::new("2001:db8::2".parse().unwrap(), 443);
    for source in 0..sources {
        let v4 = SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + source).into(), 1);
        let v6 = Ipv6Addr::from_bits(0x2001_0db8_0001 << 80 | u128::from(source) << 64 | 1);
        for (from, to) in [(v4, server), (SocketAddr::new(v6.into(), 1), v6_server)] {
            let frame = Segment::new(from, to, flags::SYN).to_frame();
            pair.object.test_ingress(&frame, 1).expect("a test run");
        }
    }
    let lost = |is_there: &dyn Fn(IpAddr) -> bool, who: &dyn Fn(u16) -> SocketAddr| {
        (0..CLIENTS).filter(|n| !is_there(who(*n).ip())).count()
    };
    let evicted = lost(&|ip| pair.dataplane.client(ip).unwrap().is_some(), &client);
    let there: BTreeSet<Addr> =
        pair.dataplane.sources().unwrap().into_iter().map(|(source, _)| source).collect();
    // The naive variant is one table for all sources.
    let naive = lost(&|ip| there.contains(&addr(ip)), &bystander);
    row.result(
        2 * u64::from(sources),
        format!("sources of both families: {evicted} of {CLIENTS} validated clients evicted"),
        evicted == 0,
    )
    .naive(
        2 * u64::from(sources),
        format!("sources, one table for all: {naive} of {CLIENTS} who were there are gone"),
        naive > usize::from(CLIENTS) / 2,
    )
    .finish();
}
