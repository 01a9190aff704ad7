//! The mitigations of the ladder in the kernel and on the host: the same drops, and the same tokens.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use tcpguard_common::abi::{Bucket, ListenerEntry, Mode, Rate, Reason, ReplyRate};
use tcpguard_kit::net::packet::{Segment, flags};

use super::state::Differences;
use super::traffic::v4;
use super::{LISTENERS, MS, Pair, START_NS, show, sorted};

const ANSWER: u8 = ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;
const BUDGET: u8 = ListenerEntry::BUDGET;
const PASS_EXCESS: u8 = ListenerEntry::PASS_EXCESS;

/// Mitigations of all listeners, in such mixtures that each mitigation is met alone and behind the others.
pub const STEPS: [[u8; LISTENERS as usize]; 4] = [
    [BUDGET, ANSWER, 0],
    [ANSWER | PASS_EXCESS, ANSWER | BUDGET, BUDGET],
    [ANSWER | BUDGET, BUDGET, ANSWER],
    [0, ANSWER | BUDGET, ANSWER | BUDGET | PASS_EXCESS],
];

impl Pair {
    /// Adds the differences between the tokens that they gave out.
    pub fn compare_ladder(&self, found: &mut Differences) {
        let (kernel, model) = (&self.dataplane, &self.model);
        let taken = model.reply_limits.iter().filter(|(_, bucket)| **bucket != 0);
        let taken: Vec<_> = taken.map(|(place, bucket)| (*place, *bucket)).collect();
        found.compare("replies", &kernel.reply_limits().unwrap(), &taken);
        let exempt = given(kernel.exempt_rates().unwrap());
        found.compare("SYNs of exempt addresses", &exempt, &given_by(&model.exempt_rates));
        let budgets = given(kernel.budgets().unwrap());
        found.compare("budgets", &budgets, &given_by(&model.budgets));
    }
}

fn given(buckets: Vec<(u32, Bucket)>) -> BTreeMap<u32, Bucket> {
    given_by(&sorted(buckets))
}

fn given_by(buckets: &BTreeMap<u32, Bucket>) -> BTreeMap<u32, Bucket> {
    let full = |(place, bucket): (&u32, &Bucket)| {
        (*bucket != Bucket::default()).then_some((*place, *bucket))
    };
    buckets.iter().filter_map(full).collect()
}

fn pair() -> Pair {
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    pair.keep_agent();
    // Less than the random traffic asks for until most of its clients are known.
    pair.configure(|config| {
        config.replies_per_network = ReplyRate::share(16, 1);
        config.replies_per_cpu = Rate::per_second(25, 8);
    });
    pair
}

/// A host with these mitigations for its listeners, with limits that random traffic exceeds.
pub fn climbing(mitigations: [u8; LISTENERS as usize]) -> Pair {
    let mut pair = pair();
    for (id, mitigations) in (0..).zip(mitigations) {
        let burst = [20, 3, 0][id as usize];
        pair.set_mitigation_bits(id, mitigations, Rate::per_second(5 + 10 * u64::from(id), burst));
    }
    pair
}

#[test]
fn a_hundred_thousand_frames_pass_every_stage_alike() {
    let mut frames = 0;
    let mut reasons: BTreeMap<Reason, u64> = BTreeMap::new();
    for (seed, mitigations) in (11..).zip(STEPS) {
        let mut pair = climbing(mitigations);
        show(&mut pair, seed, 36_000);
        frames += pair.judged;
        for (reason, count) in pair.reasons {
            *reasons.entry(reason).or_default() += count;
        }
    }
    println!("{frames} frames: {reasons:?}");
    assert!(frames >= 100_000, "only {frames} frames arrived");
    for reason in [
        Reason::DropReplyLimit,
        Reason::DropBudget,
        Reason::DropReflection,
        Reason::Cookie,
        Reason::Syn,
        Reason::SynRetransmitted,
        Reason::SynValidated,
        Reason::DropSignature,
    ] {
        assert!(reasons.contains_key(&reason), "no frame was {}", reason.name());
    }
}

/// The client's second SYN passes for a token of retransmitted SYNs, as its later ones do; first SYNs find none.
#[test]
fn a_client_that_retransmits_its_syn_passes_the_budget_in_both() {
    let mut pair = pair();
    // No token grows back meanwhile.
    pair.set_mitigation_bits(1, BUDGET, Rate { interval_ns: u32::MAX, burst: 96 });
    let server = SocketAddr::new(v4(2, 1), 443);
    let syn = |source: u32, seq| {
        let from = SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + source).into(), 5000);
        let mut syn = Segment::new(from, server, flags::SYN);
        (syn.seq, syn.window) = (seq, 64_240);
        syn.to_frame()
    };
    for (at_ms, admitted) in [(0, 0), (1, 0), (700, 0), (1_010, 1), (2_020, 2), (2_021, 2)] {
        pair.set_clock(START_NS + at_ms * MS);
        for source in 0..200 {
            pair.ingress(&syn(1_000 + source, at_ms as u32));
        }
        pair.ingress(&syn(7, 7));
        let passed = pair.reasons.get(&Reason::Syn).copied().unwrap_or(0);
        assert_eq!(passed, 96 + admitted, "after {at_ms} ms");
    }
    pair.assert_same_state();
}
