//! Evidence that the failed sources are clients that completed handshakes a moment ago.
//!
//! Applications with a connect timeout below a second open a new connection where others retransmit a SYN.
//! Behind a path that breaks, such clients leave first SYNs only, as a flood does. But they completed
//! handshakes minutes ago and have the same fingerprint as then. They connect at a few times their baseline
//! rate at most. As many completions are missing as there are clients behind that path. A flood that spoofs
//! their addresses takes no completions away until the queue is full. Then it needs a defence, whatever its
//! source.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use tcpguard_common::abi::Mask;

use super::cohort::Cohort;
use super::measured::{Measured, Quantity};
use super::missing::explained;
use crate::input::{ValidatedClients, one_in};
use crate::listener::{KnownFingerprints, Sums};

/// Flows of which the sources are looked up among the validated clients: each look-up may be one in the
/// kernel.
const ASKED: usize = 64;
/// Share of the failed flows that clients make.
const MOST: f64 = 0.8;
/// Clients without a reply connect up to this many times as often as in the baseline: a timeout of a few
/// hundred milliseconds, a few tries, and a pause.
const PERSISTENCE: f64 = 4.0;

/// The failed sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailingClients {
    /// True if the sources are clients, by all that is known.
    pub hold: bool,
    /// Share of the failed flows from sources that completed a handshake lately.
    validated: f64,
}

impl FailingClients {
    /// Judges failed flows by the `validated` clients and the fingerprints of `clients`, and a span's `sums` by
    /// the `baseline` rate of SYNs per second; `None` where that is not known.
    pub fn of(
        cohort: &Cohort,
        clients: &dyn KnownFingerprints,
        validated: &dyn ValidatedClients,
        sums: &Sums,
        baseline: Option<f64>,
    ) -> Self {
        let Some(baseline) = baseline else { return Self::default() };
        let failing = sums.per_second(sums.failures());
        let completing = sums.per_second(sums.completed);
        let rare = failing + completing < PERSISTENCE * baseline
            && failing <= explained(sums, baseline, PERSISTENCE)
            && !sums.is_unanswered();
        if !rare || !look_alike(cohort, clients) {
            return Self::default();
        }
        let validated = validated_share(cohort, validated);
        Self { hold: validated >= MOST, validated }
    }

    /// The share that clients need; empty where it was not taken.
    pub fn measured(&self) -> Vec<Measured> {
        let share = Quantity::ValidatedShare.is(self.validated).at_least(MOST);
        [share].into_iter().filter(|_| self.validated > 0.0).collect()
    }
}

/// Returns whether most SYNs of failed handshakes have a fingerprint of this listener's clients.
fn look_alike(cohort: &Cohort, clients: &dyn KnownFingerprints) -> bool {
    let alike = cohort.failing.iter().filter(|flow| {
        let print = flow.print.masked(Mask::Full);
        clients.with_signature(Mask::Full, &print) > 0
    });
    let alike: u64 = alike.map(|flow| flow.weight).sum();
    cohort.weight() > 0 && alike as f64 >= MOST * cohort.weight() as f64
}

/// Share of the failed flows, or of a sample of them, from sources that completed a handshake lately.
/// Clients that are lost anyway, each from another source, do not hide an office or a few servers among them.
fn validated_share(cohort: &Cohort, validated: &dyn ValidatedClients) -> f64 {
    let mut times = BTreeMap::<IpAddr, u64>::new();
    let step = cohort.failing.len().div_ceil(ASKED).max(1);
    for flow in one_in(step, cohort.failing.iter()) {
        *times.entry(flow.source()).or_default() += flow.weight;
    }
    let all: u64 = times.values().sum();
    let is_validated = |source: &IpAddr| validated.completed_within(&client(*source));
    let of_validated = times.iter().filter(|(source, _)| is_validated(source));
    of_validated.map(|(_, weight)| weight).sum::<u64>() as f64 / all.max(1) as f64
}

/// The network that stands for a source.
fn client(source: IpAddr) -> IpNet {
    match source {
        IpAddr::V4(_) => source.into(),
        IpAddr::V6(addr) => Ipv6Net::new_assert(addr, 64).into(),
    }
}
