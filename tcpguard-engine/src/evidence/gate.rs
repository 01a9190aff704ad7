//! The evidence gate: handshakes fail, but is it an attack?
//!
//! Each item is a difference between the senders of spoofed SYNs and clients with a broken path. Without the
//! gate every short outage of a group of clients would be an alarm.

use std::time::Duration;

use super::assess::Background;
use super::checks::Checks;
use super::cohort::Cohort;
use super::measured::Quantity;
use super::missing::Missing;
use super::report::{Indicator, IndicatorName};
use super::retransmissions::{RETRANSMIT_SHARE, Retransmissions};
use super::signature::Candidate;
use super::sources::Sources;
use super::ttl::Ttls;
use crate::input::constants;

constants! {
    /// Inspected failed handshakes below which no verdict is made, while there is time. A slow alarm
    /// needs half as many.
    pub(crate) const EVIDENCE_FLOWS: usize = 32 Count in 8..=1024,
        "At 32 the standard error of a share of one half is 9 %. Weighed against floods of 300 \
         SYN/s, which have as many within a poll.";

    /// Handshakes, or sources, below which shares of sources mean nothing.
    pub(crate) const DISTINCT_MIN: usize = 48 Count in 16..=1024,
        "At 48 the standard error of a share of 90 % is 4 %. Weighed against a verdict within a \
         second at 100 SYN/s.";

    /// Share of the failed handshakes from sources seen once, from which sources are drawn at
    /// random.
    pub(crate) const SINGLETON_SHARE: f64 = 0.9 Share in 0.5..=1.0,
        "Of a draw of 1,024 this many are seen once if there are some 10,000 addresses or \
         more. Weighed against botnets of 3,000.";

    /// Share of the two most frequent TTLs from which the senders are one machine or two.
    pub(crate) const TTL_SHARE: f64 = 0.8 Share in 0.3..=1.0,
        "Public captures: two floods had two TTLs each. In one of them, 239 hosts that replied \
         showed 48, the two most frequent 21 %.";

    /// Share of TTLs with which no real host's packets arrive, from which they are spoofed.
    pub(crate) const TTL_IMPOSSIBLE_SHARE: f64 = 0.3 Share in 0.05..=1.0,
        "Drawn TTLs are impossible in about half of all cases, those of real hosts never \
         (hop-count filtering: Jin, Wang, Shin, CCS 2003).";

    /// Networks (/24, IPv6 /48) with 90 % of the failed handshakes that count as few.
    pub(crate) const FEW_NETWORKS: u64 = 8 Count in 1..=64,
        "Weighed against floods from one /24 or three, and against clients, which are in many \
         networks.";

    /// Sources with 90 % of the failed handshakes that count as few, when each sends two or more.
    pub(crate) const FEW_SOURCES: u64 = 64 Count in 1..=1024,
        "As many as an incident may have rules against sources. Weighed against a flood from 20 \
         sources.";

    /// Share of all handshakes that fail from which a broken path does not explain it, if hardly any
    /// SYN is retransmitted.
    pub(crate) const SILENT_SHARE: f64 = 0.75 Share in 0.3..=1.0,
        "As FAST_SHARE. Weighed against swarms of peers, a third of which are gone before the \
         reply arrives.";

    /// Share of retransmitted SYNs among the failed handshakes that counts as hardly any.
    pub(crate) const SILENT_RETRANSMITTED: f64 = 0.05 Share in 0.0..=0.5,
        "Weighed against clients with a broken path, nearly all of which retransmit.";

    /// Share of all handshakes that fail from which SYNs with the clients' signature, once each and
    /// from everywhere, are spoofed.
    pub(crate) const SCATTERED_SHARE: f64 = 0.25 Share in 0.05..=1.0,
        "Weighed against swarms of peers, some of which are gone before the reply arrives, and \
         against mimicking floods at a third of the clients' rate.";
}

const _: () = assert!(
    SILENT_RETRANSMITTED < RETRANSMIT_SHARE,
    "clients that retransmit are considered silent"
);

const SECOND: Duration = Duration::from_secs(1);
/// Share of all handshakes that clients reset at most. A client that connected faster by the other IP version, or
/// to another address, resets the slower handshake (RFC 8305 §5, Happy Eyeballs). It is also the upper bound of the
/// learned baseline share of failures.
const CLIENTS_RESET: f64 = 0.4;

/// The items of the gate and related findings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// One fingerprint, and not the clients'.
    pub fingerprint: bool,
    /// TTLs of one machine, or of none.
    pub ttl: bool,
    /// The fingerprint of a tool, or TTLs of no real host: a broken path has neither.
    pub spoofed: bool,
    /// Few sources or networks.
    pub few_sources: bool,
    /// Sources that are seen once.
    pub singletons: bool,
    /// True if SYNs are not retransmitted; `None` while it is too early to say.
    pub no_retransmission: Option<bool>,
    /// True if the failed networks are new while those that complete are known, and no path is broken to
    /// them. `Some(false)` where the failed networks are known, which speaks against an attack.
    pub novel: Option<bool>,
    /// The failed sources are clients that were served a moment ago, by all that is known.
    pub failing_clients: bool,
    /// Completed handshakes are missing, as many as fail, and no tool's mark is on those that do: clients fail.
    pub missing: bool,
    /// Handshakes a second that fail, where most are reset by sources that ask no more often than health
    /// checks and scanners do, or that are no more than clients reset.
    pub health_checks: Option<f64>,
    /// Hardly any handshake completes, or the same sources fail again and again, and next to no SYN is
    /// retransmitted, though nothing marks them: no path breaks like that. It makes an attack of them, but nothing
    /// that may be dropped.
    pub silent: bool,
    /// Far more fail than clients could begin. It makes an attack of them, but nothing that may be dropped.
    pub surge: bool,
    /// More fail than clients could begin, and have for so long that neither retransmissions nor the source
    /// addresses of the SYNs matter.
    pub lasting: bool,
    /// No reply reaches the failed sources. That costs an attacker nothing, so nothing may be dropped on its
    /// account.
    pub unreachable: bool,
    /// Failed flows as a share of all.
    pub failed_share: f64,
    /// Statistics of the retransmissions of SYNs.
    pub retransmissions: Retransmissions,
}

impl Gate {
    pub fn judge(
        cohort: &Cohort,
        signature: Option<&Candidate>,
        sources: &Sources,
        ttls: &Ttls,
        background: &Background,
    ) -> Self {
        let enough = sources.flows >= DISTINCT_MIN;
        let few = sources.k90_networks <= FEW_NETWORKS
            || (sources.k90 <= FEW_SOURCES && sources.per_source() >= 2.0);
        let failed_share = cohort.failed_share().max(background.failed_share.unwrap_or(0.0));
        // At a closed port of which no resets are seen, the clients fall silent as well.
        let is_open =
            !cohort.completed.is_empty() || cohort.failing.iter().any(|flow| flow.unfinished);
        let one = signature.is_some_and(|signature| signature.is_a_tools());
        let impossible = enough && ttls.impossible >= TTL_IMPOSSIBLE_SHARE;
        let retransmissions = Retransmissions::of(cohort, background, one || impossible);
        let no_retransmission = retransmissions.missing;
        // Those of new clients may be several too, until it is known that no SYN is retransmitted.
        let several =
            signature.is_some_and(Candidate::is_one_of_few) && no_retransmission == Some(true);
        let fingerprint = one || several;
        let spoofed = fingerprint || impossible;
        let unanswered_syns = no_retransmission == Some(true)
            && retransmissions.share.is_some_and(|share| share <= SILENT_RETRANSMITTED);
        let ttl = impossible || enough && ttls.top2 >= TTL_SHARE;
        let few_sources = enough && few;
        let marked = fingerprint || ttl || few_sources;
        let singletons = sources.distinct >= DISTINCT_MIN
            && sources.singletons >= SINGLETON_SHARE
            && !sources.come_round();
        // The path to new clients may be broken as well.
        let novel = background.novelty.novel.filter(|new| !new || no_retransmission == Some(true));
        let lasting = background.surge.lasts && no_retransmission == Some(false);
        Self {
            fingerprint,
            ttl,
            spoofed,
            few_sources,
            singletons,
            novel,
            failing_clients: background.failing_clients.hold,
            missing: background.clients_missing == Missing::Surely
                && !spoofed
                && novel != Some(true),
            health_checks: probing(cohort, sources, background.natural_share)
                .filter(|_| no_retransmission == Some(true))
                .filter(|_| {
                    !singletons || failed_share <= CLIENTS_RESET && !spoofed && novel != Some(true)
                }),
            no_retransmission,
            silent: enough
                && !marked
                && is_open
                && unanswered_syns
                && failed_share >= silent_share(sources),
            surge: background.surge.holds || lasting,
            lasting,
            unreachable: background.reach.unreachable,
            failed_share,
            retransmissions,
        }
    }

    /// Number of indicators for which SYNs may be dropped: those that hold, without silence, a surge and
    /// unreachable sources.
    pub fn count(&self) -> u32 {
        self.signs() - u32::from(self.silent) - u32::from(self.surge) - u32::from(self.unreachable)
    }

    /// Number of indicators that hold.
    pub fn signs(&self) -> u32 {
        self.found().into_iter().map(|(_, holds)| u32::from(holds)).sum()
    }

    /// The indicators, each with whether it holds.
    fn found(&self) -> [(IndicatorName, bool); 9] {
        [
            (IndicatorName::Fingerprint, self.fingerprint),
            (IndicatorName::Ttl, self.ttl),
            (IndicatorName::FewSources, self.few_sources),
            (IndicatorName::Singletons, self.singletons),
            (IndicatorName::NoRetransmission, self.no_retransmission == Some(true)),
            (IndicatorName::Novel, self.novel == Some(true)),
            (IndicatorName::Silence, self.silent),
            (IndicatorName::Surge, self.surge),
            (IndicatorName::Unreachable, self.unreachable),
        ]
    }

    /// Returns whether clients behind a broken path explain it, as far as is known: they were served a moment ago
    /// and are no more than then; or as many completed handshakes are missing as fail; or they are known.
    pub fn may_be_clients(&self) -> bool {
        self.failing_clients || self.missing || self.are_known()
    }

    /// Returns whether the failed sources have been here before, and may retransmit their SYNs.
    pub fn are_known(&self) -> bool {
        self.novel == Some(false) && self.no_retransmission != Some(true) && !self.lasting
    }

    /// Returns whether the clients behind one broken path may have these properties, as far as is known: they come
    /// from one location or provider, at one distance and once each, and retransmit their SYNs.
    pub fn looks_like_a_path(&self) -> bool {
        !self.spoofed && self.no_retransmission != Some(true)
    }

    /// Returns whether they may be such clients: they have their properties, and are not too many.
    pub fn may_be_a_path(&self) -> bool {
        self.looks_like_a_path() && !self.surge
    }

    /// Everything that can be known of a flood from random sources speaks for one.
    pub fn unanimous(&self) -> bool {
        self.fingerprint && self.ttl && self.singletons && self.no_retransmission != Some(false)
    }

    /// The indicators with their numbers.
    pub fn indicators(
        &self,
        signature: Option<&Candidate>,
        sources: &Sources,
        ttls: &Ttls,
        background: &Background,
    ) -> Vec<Indicator> {
        let Background { novelty, surge, reach, .. } = background;
        let measured = |name| match name {
            IndicatorName::Fingerprint => signature.map_or_else(Vec::new, Candidate::measured),
            IndicatorName::Ttl => vec![
                Quantity::TopTtlsShare.is(ttls.top2).at_least(TTL_SHARE),
                Quantity::ImpossibleTtlsShare.is(ttls.impossible).at_least(TTL_IMPOSSIBLE_SHARE),
            ],
            IndicatorName::FewSources => sources.concentration(),
            IndicatorName::Singletons => vec![sources.seen_once(), sources.seen_again()],
            IndicatorName::NoRetransmission => self.retransmissions.measured(),
            // New networks count where no SYN is retransmitted.
            IndicatorName::Novel if novelty.novel != self.novel => {
                [novelty.measured(), self.retransmissions.measured()].concat()
            }
            IndicatorName::Novel => novelty.measured(),
            IndicatorName::Silence => {
                vec![Quantity::FailedShare.is(self.failed_share).at_least(silent_share(sources))]
            }
            IndicatorName::Surge => surge.measured().to_vec(),
            IndicatorName::Unreachable => reach.measured(),
        };
        let found = self.found().into_iter();
        found.map(|(name, holds)| Indicator { name, holds, measured: measured(name) }).collect()
    }
}

/// Share of all handshakes that must fail without a retransmission.
fn silent_share(sources: &Sources) -> f64 {
    if sources.come_round() { SCATTERED_SHARE } else { SILENT_SHARE }
}

/// Handshakes a second that fail, where their sources reset them, and neither all together nor one comes faster
/// than health checks and scanners do.
fn probing(cohort: &Cohort, sources: &Sources, natural_share: f64) -> Option<f64> {
    let rate = cohort.weight() as f64 / cohort.span.max(SECOND).as_secs_f64();
    let is_slow = rate <= Checks::MOST && sources.top_share() * rate <= Checks::RATE;
    (is_slow && cohort.is_refused(natural_share, EVIDENCE_FLOWS)).then_some(rate)
}
