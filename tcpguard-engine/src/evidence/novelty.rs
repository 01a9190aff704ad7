//! Novelty of the failed sources: whether they have ever been here.
//!
//! A host's clients come from networks from which they came before. In a flash crowd new ones do too, for
//! those complete their handshakes. The sources that a flood draws, and most of the hosts that an attacker
//! rents, are new ("Flash crowds and denial of service attacks", Jung, Krishnamurthy and Rabinovich, WWW
//! 2002, distinguishes flash crowds from attacks by that).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::cohort::Cohort;
use super::gate::DISTINCT_MIN;
use super::measured::{Measured, Quantity};
use super::sources::network;
use crate::input::{constants, one_in};
use crate::listener::Networks;

constants! {
    /// Share of new networks (/24, IPv6 /48) among the failed ones from which they indicate spoofing,
    /// and share of networks on record from which they contradict it.
    pub(crate) const NOVEL_SHARE: f64 = 0.7 Share in 0.5..=1.0,
        "All of a draw are new: a host's 50,000 networks are one in 300. The rest allows for \
         clients that fail beside them.";

    /// Share of the completing networks that must be on record before others count as new.
    pub(crate) const NOVEL_SEEN: f64 = 0.7 Share in 0.5..=1.0,
        "Weighed against flash crowds of new clients, some of which always fail, and against an \
         agent that has just begun to learn.";

    /// Completed handshakes from which networks can count as new. A day of fewer is enough as well.
    pub(crate) const NOVEL_COMPLETIONS: u64 = 1000 Count in 100..=1_000_000,
        "With fewer, of 1,000 networks of clients most have not been seen.";
}

/// Flows looked at of each kind; of more, every n-th. Shares keep a standard error of about 1 %.
const EXAMINED: usize = 2048;

/// Evidence from the networks of a cohort. Shares are of the flows beyond the expected failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Novelty {
    /// Most failed sources are new and most that complete are not: `Some(true)`. Most failed sources are
    /// known: `Some(false)`. Else, or where too little is known: `None`.
    pub novel: Option<bool>,
    /// Approximate number of known networks.
    known: u64,
    /// True if enough is known of the networks to compare.
    is_known: bool,
    /// Share of the failed networks that are new.
    unseen: f64,
    /// Share of the failed flows from networks that are known.
    familiar: f64,
    /// Share of the completing networks that were known before; `None` where they are too few.
    seen: Option<f64>,
}

impl Novelty {
    /// Compares a cohort, of which the share `natural` fails in the baseline, with the known networks.
    pub fn of(cohort: &Cohort, networks: &Networks, natural: f64) -> Self {
        let known = networks.count();
        let silent = Self { known, ..Self::default() };
        if !networks.add_new_clients(NOVEL_COMPLETIONS) {
            return silent;
        }
        let least = DISTINCT_MIN as f64;
        let failing = Mix::of(&cohort.failing, |flow| (flow.source(), flow.weight), networks);
        let completed =
            Mix::of(&cohort.completed, |(client, _, weight)| (*client, *weight), networks);
        let seen =
            (completed.distinct >= least).then(|| 1.0 - completed.unseen / completed.distinct);
        // The expected failures are those of sources that normally complete.
        let expected = completed.weight * natural / (1.0 - natural);
        let of_known = expected * seen.unwrap_or(1.0);
        let left = failing.weight - expected;
        let each = failing.flows / failing.weight.max(1.0);
        if left * each < least {
            return silent;
        }
        let familiar = ((failing.familiar - of_known) / left).clamp(0.0, 1.0);
        // A natural failure is mostly a network of its own.
        let distinct = failing.distinct - (expected * each).min(failing.distinct);
        let unseen = failing.unseen - ((expected - of_known) * each).min(failing.unseen);
        let unseen = (unseen / distinct.max(1.0)).min(1.0);
        let strange = distinct >= least && unseen >= NOVEL_SHARE;
        let novel = match seen {
            Some(seen) if strange && seen >= NOVEL_SEEN => Some(true),
            _ if familiar >= NOVEL_SHARE => Some(false),
            _ => None,
        };
        Self { novel, known, is_known: true, unseen, familiar, seen }
    }

    /// The numbers, with the limits that new networks need; empty where too little is known.
    pub fn measured(&self) -> Vec<Measured> {
        if !self.is_known {
            return Vec::new();
        }
        vec![
            Quantity::NewNetworksShare.is(self.unseen).at_least(NOVEL_SHARE),
            Quantity::CompletingKnownShare.maybe(self.seen).at_least(NOVEL_SEEN),
            Quantity::KnownNetworksShare.is(self.familiar).below(NOVEL_SHARE),
            Quantity::KnownNetworks.counts(self.known),
        ]
    }
}

/// Flows by whether their networks are known.
struct Mix {
    /// Number of flows that were inspected.
    flows: f64,
    /// Number of flows for which these stand.
    weight: f64,
    /// Number of these from known networks.
    familiar: f64,
    /// Number of distinct networks.
    distinct: f64,
    /// Number of new networks among these. Some pass for known; an estimate of their number is added.
    unseen: f64,
}

impl Mix {
    fn of<T>(flows: &[T], whose: impl Fn(&T) -> (IpAddr, u64), networks: &Networks) -> Self {
        let (mut count, mut weight, mut familiar) = (0.0, 0.0, 0.0);
        let (mut known, mut unseen) = (BTreeSet::new(), BTreeSet::new());
        let step = flows.len().div_ceil(EXAMINED).max(1);
        for (client, stands_for) in one_in(step, flows.iter()).map(whose) {
            let stands_for = (stands_for * step as u64) as f64;
            count += 1.0;
            weight += stands_for;
            if networks.contains(client) {
                familiar += stands_for;
                known.insert(network(client));
            } else {
                unseen.insert(network(client));
            }
        }
        let distinct = (known.len() + unseen.len()) as f64;
        let pass = networks.false_share();
        Self {
            flows: count,
            weight,
            familiar,
            distinct,
            unseen: (unseen.len() as f64 / (1.0 - pass)).min(distinct),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tcpguard_common::abi::Fingerprint;

    use super::super::cohort::Failing;
    use super::*;
    use crate::input::{Flow, FlowState, ListenerId, Timestamp};

    /// A host in the n-th of a million networks; those below 5,000 are known.
    fn host(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x2000_0000 + (number << 8) + number % 200).into()
    }

    fn completed(number: u32) -> Flow {
        let done = Timestamp::from_millis(1000);
        Flow {
            listener: ListenerId(0),
            client: host(number),
            server: [203, 0, 113, 10].into(),
            syn_at: done,
            syn_ack_at: Some(done),
            done_at: Some(done),
            state: FlowState::Completed,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: Fingerprint::default(),
        }
    }

    fn networks(known: u32) -> Networks {
        let mut networks = Networks::default();
        let flows: Vec<Flow> = (0..known).map(completed).collect();
        networks.learn(Timestamp::from_millis(2000), flows.into_iter());
        networks
    }

    /// The result for failing and completing networks, where 2 % fail anyway.
    fn said(
        failing: impl Iterator<Item = u32>,
        completing: impl Iterator<Item = u32>,
        known: u32,
    ) -> Novelty {
        let print = Fingerprint::default();
        let fails = |number| Failing { unfinished: true, ..Failing::once(host(number)) };
        let cohort = Cohort {
            failing: failing.map(fails).collect(),
            completed: completing.map(|number| (host(number), print, 1)).collect(),
            ..Cohort::default()
        };
        Novelty::of(&cohort, &networks(known), 0.02)
    }

    const NEW: std::ops::Range<u32> = 500_000..500_100;

    #[test]
    fn new_clients_that_fail_while_known_ones_complete_are_an_indicator() {
        let said_of = said(NEW, 0..1000, 5000);
        assert_eq!(said_of.novel, Some(true));
        assert_eq!(
            said_of.measured()[..2],
            [
                Quantity::NewNetworksShare.is(1.0).at_least(NOVEL_SHARE),
                Quantity::CompletingKnownShare.is(1.0).at_least(NOVEL_SEEN)
            ]
        );
        let with_clients = said(NEW.chain(0..20), 0..1000, 5000);
        assert_eq!(with_clients.novel, Some(true), "as many as always fail are no doubt");
        let many_clients = said(NEW.chain(0..90), 0..1000, 5000);
        assert_eq!(many_clients.novel, None, "{many_clients:?}");
    }

    #[test]
    fn validated_clients_that_fail_speak_against() {
        let outage = said(0..300, 300..1000, 5000);
        assert_eq!(outage.novel, Some(false));
        assert!(outage.familiar >= NOVEL_SHARE, "{outage:?}");
        let office = said((0..100).map(|n| n % 3), 300..1000, 5000);
        assert_eq!(office.novel, Some(false), "few networks, many flows");
        let whole = said(0..300, 0..0, 5000);
        assert_eq!(whole.novel, Some(false), "nobody completes");
    }

    #[test]
    fn a_flash_crowd_of_new_clients_is_no_indicator() {
        let flash_crowd = said(NEW, 600_000..601_000, 5000);
        assert_eq!(flash_crowd.novel, None);
        assert_eq!(flash_crowd.seen, Some(0.0), "{flash_crowd:?}");
        let alone = said(NEW, 0..0, 5000);
        assert_eq!((alone.novel, alone.seen), (None, None), "nobody to compare with");
    }

    #[test]
    fn nothing_is_said_from_little() {
        for cohort in [
            said(NEW, 0..1000, 999),
            said(NEW.take(47), 0..1000, 5000),
            said(0..0, 0..0, 5000),
            // Of 60 failures 20 are expected.
            said(NEW.take(60), 0..1000, 5000),
        ] {
            assert_eq!(cohort.novel, None);
            assert!(!cohort.is_known && cohort.measured().is_empty(), "{cohort:?}");
        }
    }

    #[test]
    fn networks_count_and_not_flows() {
        let few = said((0..400).map(|n| 500_000 + n % 40), 0..1000, 5000);
        assert_eq!(few.novel, None, "40 networks");
    }
}
