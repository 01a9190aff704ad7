//! The class list: its lines in order, each with its result and the numbers behind it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::Checks;
use super::class::IncidentClass;
use super::failing_clients::FailingClients;
use super::gate::{DISTINCT_MIN, Gate, SCATTERED_SHARE};
use super::measured::{Measured, Quantity};
use super::report::Evidence;
use super::retransmissions::RETRANSMIT_SHARE;
use super::sources::Sources;
use crate::input::constants;
use crate::listener::{FLASH_CROWD_FACTOR, FLASH_CROWD_FLOOR};

constants! {
    /// Share of the failed handshakes from which their source is the attack.
    pub(crate) const SINGLE_SOURCE_SHARE: f64 = 0.7 Share in 0.3..=1.0,
        "Weighed against offices behind one address, and against a single attacker among other \
         failures: at 100 SYN/s beside 2,000 clients of which 1.5 % fail, the attacker has 77 %.";

    /// Indicators of spoofing from which failed handshakes are an attack.
    pub(crate) const INDICATORS_ATTACK: u32 = 2 Count in 1..=6,
        "Two: each indicator alone has a benign cause (an office is few sources, a broken path \
         fails, a new phone has a new signature), so one is never enough.";

    /// Indicators from which SYNs may be dropped by signature or source. Never fewer than
    /// INDICATORS_ATTACK.
    pub(crate) const INDICATORS_DROP: u32 = 3 Count in 1..=6,
        "One more than for an attack, so that an error about one indicator cuts off no client. \
         Weighed against offices with a broken path, which may show two: few networks, one \
         distance.";
}

const _: () =
    assert!(INDICATORS_ATTACK <= INDICATORS_DROP, "something is dropped that is not an attack");

/// One line of the class list, as an inspection evaluated it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct VerdictLine {
    /// The class if the line fits.
    pub class: IncidentClass,
    /// The question of the line.
    pub question: Question,
    /// True if it fits. The first that does decides.
    pub holds: bool,
    /// The numbers behind it that are not those of an indicator, with the limits that it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measured>,
}

/// The question of a line of the class list.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Fewer indicators than of an attack hold.
    FewIndicators,
    /// The failed sources are clients that completed handshakes a moment ago.
    ValidatedClients,
    /// Completed handshakes are missing, as many as fail.
    MissingHandshakes,
    /// The failed networks are known, and their SYNs may be retransmitted.
    KnownNetworks,
    /// The sources reset the SYN-ACKs, as seldom as health checks and scanners.
    HealthChecks,
    /// Clients behind a broken path may look like this.
    BrokenPath,
    /// No pattern of an attack is found.
    NoPattern,
    /// The class fits, by numbers of its own.
    Fits,
    /// The class was found earlier.
    Earlier,
}

impl VerdictLine {
    /// A line that fits by numbers of the class.
    pub(crate) const fn fits(class: IncidentClass, measured: Vec<Measured>) -> Self {
        Self { class, question: Question::Fits, holds: true, measured }
    }

    /// The line of a class that was found earlier.
    pub(crate) fn earlier(class: IncidentClass) -> Self {
        Self { question: Question::Earlier, ..Self::fits(class, Vec::new()) }
    }
}

/// The lines up to the first that fits, which is the class:
///
/// 1. Below the gate it is no attack.
/// 2. Neither is it one where the failed sources are clients, by all that is known: they were served a moment
///    ago and are no more than then, as many completed handshakes are missing as fail, or they have been here
///    before, until they are known not to retransmit their SYNs.
/// 3. Nor is it one where they reset the SYN-ACKs, as seldom as health checks and scanners.
/// 4. Clients behind a broken path may be the cause, until it is known that no SYN is retransmitted. Until then
///    no class of attack is named, unless more handshakes fail than clients could begin.
/// 5. One source dominates.
/// 6. Few sources or networks, unless they retransmit their SYNs as clients would and are no more than those.
/// 7. Random sources: seen once each, with one more indicator of spoofing, of which networks that are new here,
///    a surge and sources that no reply reaches are three. Or, where a smaller pool of spoofed addresses is
///    used more than once: one machine's fingerprint and hop count, and no client behind any.
/// 8. Many sources that are none of that, have one fingerprint or are new here, and do not retransmit their
///    SYNs as clients would, or are more than those.
///
/// The rest has two indicators of an attack and no pattern: a broken path still explains it best.
pub(crate) fn verdict(
    gate: &Gate,
    sources: &Sources,
    failing_clients: &FailingClients,
) -> Vec<VerdictLine> {
    let many = sources.distinct >= DISTINCT_MIN;
    let everywhere = sources.everywhere && gate.failed_share >= SCATTERED_SHARE;
    let novel = gate.novel == Some(true);
    let alike =
        gate.fingerprint || gate.ttl || gate.silent || gate.surge || gate.unreachable || novel;
    let scattered = gate.singletons && (alike || everywhere);
    let one_machine = gate.fingerprint && gate.ttl && gate.no_retransmission == Some(true);
    let distinct = Quantity::Sources.is(sources.distinct as f64).at_least(DISTINCT_MIN as f64);
    let degraded = IncidentClass::HandshakeDegraded;
    let list = [
        (
            degraded,
            Question::FewIndicators,
            gate.signs() < INDICATORS_ATTACK,
            vec![Quantity::Indicators.is(gate.signs().into()).below(INDICATORS_ATTACK.into())],
        ),
        (degraded, Question::ValidatedClients, gate.failing_clients, failing_clients.measured()),
        (degraded, Question::MissingHandshakes, gate.missing, Vec::new()),
        (degraded, Question::KnownNetworks, gate.are_known(), Vec::new()),
        (
            degraded,
            Question::HealthChecks,
            gate.health_checks.is_some(),
            gate.health_checks
                .map(|rate| Quantity::HealthCheckRate.is(rate).at_most(Checks::MOST))
                .into_iter()
                .collect(),
        ),
        (
            degraded,
            Question::BrokenPath,
            gate.may_be_a_path(),
            vec![
                Quantity::RetransmittedShare
                    .maybe(gate.retransmissions.share)
                    .above(RETRANSMIT_SHARE),
            ],
        ),
        (
            IncidentClass::SingleSource,
            Question::Fits,
            sources.top_excess() >= SINGLE_SOURCE_SHARE,
            vec![Quantity::TopSourceShare.is(sources.top_excess()).at_least(SINGLE_SOURCE_SHARE)],
        ),
        (
            IncidentClass::FewSource,
            Question::Fits,
            gate.few_sources && (gate.no_retransmission != Some(false) || gate.surge),
            Vec::new(),
        ),
        (
            IncidentClass::RandomSpoofed,
            Question::Fits,
            many && (scattered || one_machine),
            vec![
                distinct,
                Quantity::WideNetworks.counts(sources.slash8),
                Quantity::FailedShare.is(gate.failed_share).at_least(SCATTERED_SHARE),
            ],
        ),
        (
            IncidentClass::Distributed,
            Question::Fits,
            many && alike && (gate.no_retransmission == Some(true) || gate.surge),
            vec![distinct, Quantity::FailedFlows.is(sources.flows as f64)],
        ),
        (degraded, Question::NoPattern, true, Vec::new()),
    ];
    let decides = list.iter().position(|(_, _, holds, _)| *holds).unwrap_or(list.len());
    let lines = list.into_iter().take(decides + 1);
    lines
        .map(|(class, question, holds, measured)| VerdictLine { class, question, holds, measured })
        .collect()
}

/// The line of a listener of which the application does not accept.
pub(crate) const fn overload_line() -> VerdictLine {
    VerdictLine::fits(IncidentClass::ListenerOverload, Vec::new())
}

/// The line of a flash crowd.
pub(crate) fn flash_crowd_line(evidence: &Evidence, syn_rate: f64) -> VerdictLine {
    let limit = (FLASH_CROWD_FACTOR * evidence.baseline_syn_rate).max(FLASH_CROWD_FLOOR);
    VerdictLine::fits(
        IncidentClass::FlashCrowd,
        vec![
            Quantity::SynRate.is(syn_rate).above(limit),
            Quantity::BaselineSynRate.is(evidence.baseline_syn_rate),
            Quantity::CompletedShare.is(evidence.completion),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::super::report::SourceShare;
    use super::super::retransmissions::Retransmissions;
    use super::*;

    /// The question and the class of the last line for a gate and sources.
    fn decided(gate: &Gate, sources: &Sources) -> (Question, IncidentClass) {
        let lines = verdict(gate, sources, &FailingClients::default());
        let holding = lines.iter().filter(|line| line.holds).count();
        assert!(holding == 1 && lines.last().is_some_and(|line| line.holds), "{lines:?}");
        let last = lines.last().expect("a line");
        (last.question, last.class)
    }

    fn many() -> Sources {
        Sources {
            flows: 4000,
            distinct: 3900,
            top: vec![SourceShare { addr: [198, 51, 100, 7].into(), share: 0.01 }],
            singletons: 0.97,
            k90: 3500,
            k90_networks: 3400,
            slash8: 220,
            everywhere: true,
            ..Sources::default()
        }
    }

    fn retransmitted(share: f64) -> Retransmissions {
        Retransmissions { share: Some(share), ..Retransmissions::default() }
    }

    fn gate() -> Gate {
        Gate {
            retransmissions: retransmitted(0.02),
            no_retransmission: Some(true),
            failed_share: 0.9,
            ..Gate::default()
        }
    }

    #[test]
    fn too_few_indicators_are_no_attack() {
        let unknown =
            Gate { no_retransmission: None, retransmissions: Retransmissions::default(), ..gate() };
        let lone = Gate { ttl: true, ..unknown };
        for (gate, holding) in [(lone, 1.0), (Gate::default(), 0.0)] {
            let few = (Question::FewIndicators, IncidentClass::HandshakeDegraded);
            assert_eq!(decided(&gate, &many()), few);
            let lines = verdict(&gate, &many(), &FailingClients::default());
            assert_eq!(lines[0].measured, [Quantity::Indicators.is(holding).below(2.0)]);
        }
    }

    #[test]
    fn validated_sources_are_clients_until_they_are_known_not_to_retransmit() {
        let known = Gate { ttl: true, singletons: true, novel: Some(false), ..gate() };
        assert_eq!(decided(&known, &many()).1, IncidentClass::RandomSpoofed);
        let early = Gate {
            no_retransmission: None,
            retransmissions: Retransmissions::default(),
            ..known.clone()
        };
        let clients = (Question::KnownNetworks, IncidentClass::HandshakeDegraded);
        assert_eq!(decided(&early, &many()), clients);
        let retransmitted =
            Gate { no_retransmission: Some(false), retransmissions: retransmitted(0.8), ..known };
        assert_eq!(decided(&retransmitted, &many()).1, IncidentClass::HandshakeDegraded);
        let surge = Gate { surge: true, ..retransmitted };
        assert_eq!(decided(&surge, &many()), clients, "all come back");
        let lasting = Gate { lasting: true, ..surge };
        assert_eq!(decided(&lasting, &many()).1, IncidentClass::RandomSpoofed);
    }

    #[test]
    fn networks_that_are_new_are_an_indicator_of_spoofing() {
        let here = Sources { everywhere: false, ..many() };
        let gate = Gate { singletons: true, failed_share: 0.1, ..gate() };
        assert_eq!(decided(&gate, &here).0, Question::NoPattern, "2 indicators");
        let novel = Gate { novel: Some(true), ..gate };
        assert_eq!(decided(&novel, &here).1, IncidentClass::RandomSpoofed);
        let pool = Sources { singletons: 0.2, ..here };
        let novel = Gate { singletons: false, ..novel };
        assert_eq!(decided(&novel, &pool).1, IncidentClass::Distributed);
    }

    #[test]
    fn a_possible_broken_path_waits_until_no_retransmission_is_known() {
        let top = vec![SourceShare { addr: [198, 51, 100, 7].into(), share: 0.9 }];
        let sources = Sources { top, ..many() };
        let early = Gate { ttl: true, few_sources: true, no_retransmission: None, ..gate() };
        let early = Gate { retransmissions: Retransmissions::default(), ..early };
        let path = (Question::BrokenPath, IncidentClass::HandshakeDegraded);
        assert_eq!(decided(&early, &sources), path);
        let clients = Gate {
            no_retransmission: Some(false),
            retransmissions: retransmitted(0.9),
            ..early.clone()
        };
        assert_eq!(decided(&clients, &sources).1, IncidentClass::HandshakeDegraded);
        let tool = Gate { fingerprint: true, spoofed: true, ..early };
        assert_eq!(decided(&tool, &sources).1, IncidentClass::SingleSource);
    }

    #[test]
    fn sources_that_are_seen_again_are_counted_and_are_not_random() {
        let gate = Gate { silent: true, singletons: false, ..gate() };
        let pool = Sources { again: (12, 3.1), singletons: 0.91, everywhere: false, ..many() };
        let lines = verdict(&gate, &pool, &FailingClients::default());
        let spoofed = lines.iter().find(|line| line.class == IncidentClass::RandomSpoofed);
        let spoofed = spoofed.expect("a line");
        assert!(!spoofed.holds, "{lines:?}");
        assert_eq!(pool.seen_again(), Quantity::SourcesSeenAgain.is(12.0).at_most(3.0));
        assert_eq!(lines.last().map(|line| line.class), Some(IncidentClass::Distributed));
    }

    #[test]
    fn a_source_that_dominates_is_measured() {
        let top = vec![SourceShare { addr: [198, 51, 100, 7].into(), share: 0.72 }];
        let (gate, sources) = (Gate { ttl: true, ..gate() }, Sources { top, ..many() });
        let one = (Question::Fits, IncidentClass::SingleSource);
        assert_eq!(decided(&gate, &sources), one);
        let lines = verdict(&gate, &sources, &FailingClients::default());
        let share = Quantity::TopSourceShare.is(0.72).at_least(SINGLE_SOURCE_SHARE);
        assert_eq!(lines.last().map(|line| line.measured.clone()), Some(vec![share]));
    }

    #[test]
    fn few_sources_are_ruled_out_when_they_retransmit() {
        let sources = Sources { k90: 3, k90_networks: 3, distinct: 100, ..many() };
        let few = Gate { few_sources: true, fingerprint: true, spoofed: true, ..gate() };
        assert_eq!(decided(&few, &sources), (Question::Fits, IncidentClass::FewSource));
        let clients =
            Gate { no_retransmission: Some(false), retransmissions: retransmitted(0.6), ..few };
        let lines = verdict(&clients, &sources, &FailingClients::default());
        let few = lines.iter().find(|line| line.class == IncidentClass::FewSource);
        assert!(few.is_some_and(|line| !line.holds), "{lines:?}");
    }

    #[test]
    fn more_than_clients_could_begin_is_a_flood_whether_or_not_it_is_repeated() {
        let clients =
            Gate { no_retransmission: Some(false), retransmissions: retransmitted(0.9), ..gate() };
        let surge = Gate { singletons: true, surge: true, ..clients.clone() };
        assert_eq!(decided(&surge, &many()).1, IncidentClass::RandomSpoofed);
        let few = Sources { k90: 3, k90_networks: 3, distinct: 100, ..many() };
        let surge = Gate { few_sources: true, surge: true, ..clients.clone() };
        assert_eq!(decided(&surge, &few).1, IncidentClass::FewSource);
        let pool = Sources { singletons: 0.2, everywhere: false, ..many() };
        let surge = Gate { ttl: true, surge: true, ..clients };
        assert_eq!(decided(&surge, &pool).1, IncidentClass::Distributed);
    }

    #[test]
    fn a_source_that_resets_syn_acks_as_seldom_as_a_scanner_is_no_attack() {
        let few = Sources { k90: 3, k90_networks: 3, distinct: 100, ..many() };
        let health_checks = Gate { few_sources: true, health_checks: Some(60.0), ..gate() };
        let checks = (Question::HealthChecks, IncidentClass::HandshakeDegraded);
        assert_eq!(decided(&health_checks, &few), checks);
        assert_eq!(
            decided(&Gate { health_checks: None, ..health_checks }, &few).1,
            IncidentClass::FewSource
        );
    }

    #[test]
    fn as_many_missing_completions_as_failures_are_clients_that_fail() {
        let failing = Gate { singletons: true, missing: true, ..gate() };
        let missing = (Question::MissingHandshakes, IncidentClass::HandshakeDegraded);
        assert_eq!(decided(&failing, &many()), missing);
        let flood = Gate { missing: false, ..failing };
        assert_eq!(decided(&flood, &many()).1, IncidentClass::RandomSpoofed);
    }

    #[test]
    fn spoofed_sources_are_seen_once_or_have_the_marks_of_one_machine() {
        let marked = Gate { singletons: true, ttl: true, fingerprint: true, ..gate() };
        let spoofed = (Question::Fits, IncidentClass::RandomSpoofed);
        assert_eq!(decided(&marked, &many()), spoofed);
        assert_eq!(decided(&Gate { singletons: true, ..gate() }, &many()), spoofed);
        let pool = Sources { singletons: 0.2, ..many() };
        assert_eq!(decided(&Gate { singletons: false, ..marked }, &pool), spoofed);
    }

    #[test]
    fn many_sources_that_attack_together_have_something_in_common() {
        let pool = Sources { singletons: 0.2, everywhere: false, distinct: 3000, ..many() };
        let together = (Question::Fits, IncidentClass::Distributed);
        assert_eq!(decided(&Gate { fingerprint: true, ..gate() }, &pool), together);
    }

    #[test]
    fn indicators_without_a_pattern_are_a_broken_path() {
        let clients = Gate {
            fingerprint: true,
            ttl: true,
            spoofed: true,
            retransmissions: retransmitted(0.7),
            no_retransmission: Some(false),
            ..gate()
        };
        let sources = Sources { singletons: 0.2, everywhere: false, ..many() };
        let path = (Question::NoPattern, IncidentClass::HandshakeDegraded);
        assert_eq!(decided(&clients, &sources), path);
        let few = Sources { distinct: 40, ..sources };
        assert_eq!(decided(&clients, &few), path, "too few sources");
    }
}
