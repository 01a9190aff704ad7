//! The XDP program saw every SYN that the kernel answers: the kernel itself is asked.
//!
//! tcpguard's side is the parser on the host. The loaded programs on the host's interface must have counted as many
//! SYNs and as many frames beyond each bound.

mod cases;
mod mutants;
mod next;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cases::{Fate, cases};
use mutants::mutant;
use tcpguard::bpf::ip;
use tcpguard_common::abi::{Class, Reason};
use tcpguard_common::fastpath::classify;
use tcpguard_common::wire;
use tcpguard_fuzz::naive;
use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_kit::daemon::oracle::Oracle;
use tcpguard_kit::net::lab::PORT;
use tcpguard_kit::traffic::random::Random;

/// The declared bounds: a frame beyond one of them passes and is counted.
const BOUNDS: [Reason; 4] =
    [Reason::VlanDepth, Reason::Ipv6Depth, Reason::HeaderDepth, Reason::FragmentShort];
/// Mutants between two readings of the counters.
const ROUND: u32 = 20_000;

type Client = (IpAddr, u16);

/// Sender of a SYN to the listener, as tcpguard sees it, or the bound that lies before it.
fn seen(frame: &[u8]) -> Result<Option<Client>, Reason> {
    match wire::parse(frame) {
        Ok(segment) => {
            let flow = segment.flow;
            let opens = classify(segment.flags) == Class::Syn;
            let here = flow.server_port == PORT.to_be_bytes();
            let client = (ip(&flow.client), u16::from_be_bytes(flow.client_port));
            Ok((opens && here).then_some(client))
        }
        Err(skip) if BOUNDS.contains(&skip.into()) => Err(skip.into()),
        Err(_) => Ok(None),
    }
}

/// The result of [`seen`], by the parser that everybody writes first.
fn seen_naively(frame: &[u8]) -> Option<Client> {
    let segment = naive::parse(frame).filter(naive::Segment::is_syn)?;
    let flow = segment.flow;
    (flow.server_port == PORT.to_be_bytes())
        .then(|| (ip(&flow.client), u16::from_be_bytes(flow.client_port)))
}

/// SYNs to the listener and frames beyond each bound.
#[derive(Debug, Default, Eq, PartialEq)]
struct Counted {
    syns: u64,
    beyond: BTreeMap<&'static str, u64>,
}

impl Counted {
    /// The parser's result on the host for `frames`.
    fn here<'a>(frames: impl Iterator<Item = &'a Vec<u8>>) -> Self {
        let none = BOUNDS.map(|bound| (bound.name(), 0));
        let mut counted = Self { syns: 0, beyond: none.into() };
        for frame in frames {
            match seen(frame) {
                Ok(client) => counted.syns += u64::from(client.is_some()),
                Err(bound) => *counted.beyond.entry(bound.name()).or_default() += 1,
            }
        }
        counted
    }

    /// The counts of the programs so far.
    fn in_kernel(oracle: &Oracle) -> Self {
        let packets = oracle.armed.dataplane.packets(0).expect("counters");
        let beyond = BOUNDS.map(|bound| (bound.name(), packets.reasons[bound as usize]));
        Self { syns: oracle.armed.counters().syn, beyond: beyond.into() }
    }

    fn since(mut self, before: &Self) -> Self {
        self.syns -= before.syns;
        self.beyond.iter_mut().for_each(|(name, count)| *count -= before.beyond[name]);
        self
    }
}

#[test]
fn g7_odd_syns_are_counted_if_they_get_a_reply() {
    let oracle = Oracle::new().expect("a host to ask");
    let row = Row::new(Goal::G7);
    let all = cases();
    assert!(all.len() >= 60, "{} cases", all.len());
    let frames: Vec<Vec<u8>> = all.iter().flat_map(|case| case.frames.clone()).collect();
    let (mut answers, mut beyond, mut missed) = (0, 0, 0);
    let mut wrong = Vec::new();
    // A stack that remembers half-open connections answers the same.
    for cookies in [2, 0] {
        oracle.set_cookies(cookies).expect("a sysctl");
        let before = Counted::in_kernel(&oracle);
        let answered = oracle.ask(&frames).expect("answers");
        let counted = Counted::in_kernel(&oracle).since(&before);
        assert_eq!(counted, Counted::here(frames.iter()), "programs and parser");
        (answers, beyond, missed) = (0, 0, 0);
        for case in &all {
            let client = (case.odd.src, case.odd.ports[0]);
            let sights: Vec<_> = case.frames.iter().map(|frame| seen(frame)).collect();
            let found = match answered.contains(&client) {
                false => Fate::Silent,
                true if sights.contains(&Ok(Some(client))) => Fate::Answered,
                true => match sights.iter().find_map(|sight| sight.err()) {
                    Some(bound) => Fate::Beyond(bound),
                    None => panic!("{}: answered, and not seen: {sights:?}", case.name),
                },
            };
            if found != case.fate {
                wrong.push(format!(
                    "cookies {cookies}, {}: {found:?}, not {:?}",
                    case.name, case.fate
                ));
            }
            answers += u64::from(found != Fate::Silent);
            beyond += u64::from(matches!(found, Fate::Beyond(_)));
            let naive = case.frames.iter().any(|frame| seen_naively(frame) == Some(client));
            missed += u64::from(found != Fate::Silent && !naive);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let n = all.len() as u64;
    row.result(
        n,
        format!("{answers} answered, {} seen, {beyond} beyond a bound", answers - beyond),
        true,
    )
    .naive(n, format!("{missed} of {answers} answered not seen"), missed > 0)
    .finish();
}

#[test]
fn g7_mutants_are_counted_if_they_get_a_reply() {
    let oracle = Oracle::new().expect("a host to ask");
    let row = Row::new(Goal::G7);
    oracle.set_cookies(2).expect("a sysctl");
    let mut random = Random::new(seed());
    let rounds = size(1, 50);
    let (mut answers, mut beyond, mut missed) = (0, 0, 0);
    for round in 0..rounds {
        let mutants: Vec<_> =
            (0..ROUND).map(|number| mutant(&mut random, round * ROUND + number)).collect();
        let meant: BTreeMap<Client, &[u8]> = mutants
            .iter()
            .map(|(odd, frame)| ((odd.src, odd.ports[0]), frame.as_slice()))
            .collect();
        let frames: Vec<Vec<u8>> = mutants.iter().map(|(_, frame)| frame.clone()).collect();
        let before = Counted::in_kernel(&oracle);
        let answered = oracle.ask(&frames).expect("answers");
        let counted = Counted::in_kernel(&oracle).since(&before);
        assert_eq!(counted, Counted::here(frames.iter()), "programs and parser, round {round}");
        let sights: BTreeSet<Client> =
            frames.iter().filter_map(|frame| seen(frame).ok().flatten()).collect();
        let naive: BTreeSet<Client> =
            frames.iter().filter_map(|frame| seen_naively(frame)).collect();
        for client in &answered {
            answers += 1;
            missed += u64::from(!naive.contains(client));
            if sights.contains(client) {
                continue;
            }
            let frame = meant.get(client).copied().unwrap_or_default();
            assert!(seen(frame).is_err(), "{client:?} was answered and not seen: {frame:02x?}");
            beyond += 1;
        }
    }
    let n = u64::from(rounds * ROUND);
    assert!(answers > n / 4, "of {n} only {answers} were answered: that proves little");
    row.result(
        n,
        format!("{answers} answered, {} seen, {beyond} beyond a bound", answers - beyond),
        true,
    )
    .naive(n, format!("{missed} of {answers} answered not seen"), missed > 0)
    .finish();
}
