//! Everything that was ever found, played again.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tcpguard_common::abi::{PacketCounters, Reason};
use tcpguard_fuzz::{TARGETS, frame, planted};
use tcpguard_goals::{Goal, Row, seed};
use tcpguard_sim::Random;
use tcpguard_support::corpus::{self, Input};

/// Fates for which the frames of one input do not last long enough: a validated client, a retransmitted SYN, an agent
/// that is gone, and SYNs beyond both limits of replies, of which the stack is given as many as its buckets hold.
const LATE_FATES: usize = 5;

/// The inputs for a target in one of the three directories; each target has a corpus.
fn inputs(kind: &str, target: &str) -> Vec<Input> {
    let file = format!("{}/{kind}/{target}.hex", env!("CARGO_MANIFEST_DIR"));
    if kind != "corpus" && !Path::new(&file).exists() {
        return Vec::new();
    }
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    corpus::read(&text).unwrap_or_else(|why| panic!("{file}: {why}"))
}

fn all(target: &str) -> Vec<Input> {
    ["seeds", "corpus", "crashes"].map(|kind| inputs(kind, target)).concat()
}

/// The text beside a crash describes it, instead of asking for a description.
#[test]
fn every_crash_is_explained() {
    for target in TARGETS {
        for crash in inputs("crashes", target.name) {
            let said = crash.said.join(" ");
            assert!(said.len() > 20 && said != "What is it about?", "{}: {said:?}", target.name);
        }
    }
}

/// Random inputs, as long as those of a corpus are.
fn random(like: &[Input], seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random::new(seed);
    let lengths: Vec<usize> = like.iter().map(|input| input.bytes.len()).collect();
    std::iter::repeat_with(move || {
        let length = lengths[random.below(lengths.len() as u64) as usize];
        (0..length).map(|_| random.below(256) as u8).collect()
    })
}

/// The fates that packets met.
fn reasons<'a>(inputs: impl Iterator<Item = &'a [u8]>) -> BTreeSet<Reason> {
    let mut met = BTreeSet::new();
    for input in inputs {
        let PacketCounters { reasons, .. } = frame(input);
        met.extend(Reason::ALL.iter().filter(|reason| reasons[**reason as usize] != 0));
    }
    met
}

/// The naive variant is as many inputs without coverage to guide them: a corpus that reaches no more
/// than they do would be none.
#[test]
fn g9_what_was_found_is_played_again() {
    let row = Row::new(Goal::G9);
    let mut played = 0;
    for target in TARGETS {
        for Input { bytes, .. } in all(target.name) {
            // A panic that goes on would not say which input it was.
            let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
            assert!(ended.is_ok(), "{}: {bytes:02x?}", target.name);
            played += 1;
        }
    }
    let frames = all("frame");
    let found = reasons(frames.iter().map(|input| input.bytes.as_slice()));
    let naive: Vec<_> = random(&frames, seed()).take(100 * frames.len()).collect();
    let met = reasons(naive.iter().map(Vec::as_slice));
    row.result(
        played,
        format!("0 panics; its frames meet {} fates", found.len()),
        found.len() + LATE_FATES >= Reason::ALL.len(),
    )
    .naive(
        naive.len() as u64,
        format!("random frames meet {}", met.len()),
        2 * met.len() < found.len(),
    )
    .finish();
}

/// The purpose of a fuzzer: `cargo xtask fuzz` finds the planted bug within 2 M runs each time, or fails. This is an
/// input that it found.
#[test]
fn g9_the_planted_bug_was_found_by_coverage_and_is_not_by_chance() {
    const RUNS: u64 = 2_000_000;
    let row = Row::new(Goal::G9);
    let found = inputs("crashes", "planted");
    let breaks = |input: &[u8]| catch_unwind(|| planted(input)).is_err();
    let broken = found.iter().filter(|input| breaks(&input.bytes)).count();
    let by_chance =
        random(&found, seed()).take(RUNS as usize).filter(|input| breaks(input)).count();
    row.result(found.len() as u64, format!("kept: {broken} still break it"), broken > 0)
        .naive(RUNS, format!("random inputs: {by_chance} do"), by_chance == 0)
        .finish();
}
