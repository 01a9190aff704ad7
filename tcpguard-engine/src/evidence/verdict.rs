//! The class list: its lines in order, each with its result and the numbers that it rests on.

use super::class::IncidentClass;
use super::failing_clients::FailingClients;
use super::gate::{DISTINCT_MIN, Gate, SCATTERED_SHARE};
use super::numbers::Numbers;
use super::report::Evidence;
use super::signature::{CLIENTS_KNOWN, Candidate, REPLIED_UNFINISHED};
use super::sources::Sources;
use crate::input::{constants, percent, short};

constants! {
    /// Share of the failing handshakes from which their source is the attack.
    pub(crate) const SINGLE_SOURCE_SHARE: f64 = 0.7 Share in 0.3..=1.0,
        "Weighed against offices behind one address, and against a single attacker among \
         other failures: at 100 SYN/s beside 2,000 clients of which 1.5 % fail, 77 % are his.";

    /// Signs of forging from which failing handshakes are an attack.
    pub(crate) const INDICATORS_ATTACK: u32 = 2 Count in 1..=6,
        "Two: each sign alone has an innocent cause (an office is few sources, a broken path \
         fails, a new phone has a new signature), so one is never enough.";

    /// Signs from which SYNs may be dropped by signature or source; never fewer than
    /// INDICATORS_ATTACK.
    pub(crate) const INDICATORS_DROP: u32 = 3 Count in 1..=6,
        "One more than names an attack, so that a mistake about one sign costs nobody a \
         connection; weighed against offices whose path is broken, which may show two: few \
         networks, one distance.";
}

const _: () =
    assert!(INDICATORS_ATTACK <= INDICATORS_DROP, "something is dropped that is not an attack");

/// One line of the class list, as an inspection evaluated it.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct VerdictLine {
    /// The class if the line fits.
    pub class: IncidentClass,
    /// The question of the line.
    pub asks: String,
    /// True if it fits. The first that does decides.
    pub holds: bool,
    /// The numbers, in words.
    pub why: String,
}

impl VerdictLine {
    /// A line that fits.
    pub(crate) fn that_holds(class: IncidentClass, asks: &str, why: String) -> Self {
        Self { class, asks: asks.to_owned(), holds: true, why }
    }
}

/// The lines up to the first that fits, which is the class:
///
/// 1. Below the gate it is no attack. It is none either where the failing sources were served a moment ago
///    and are no more than then, or have been here before, until they are known not to retransmit their SYNs.
///    Nor is it one where they reset the SYN-ACKs, as seldom as health checks and scanners.
/// 2. Clients behind a broken path may be the cause, until it is known that no SYN is retransmitted. Until then
///    no class of attack is named, unless more handshakes fail than clients could begin.
/// 3. One source dominates.
/// 4. Few sources or networks, unless they retransmit their SYNs as clients would and are no more than those.
/// 5. Random sources: seen once each, with one more indicator of spoofing, of which networks that are new here,
///    a surge and sources that no reply reaches are three. Or, where a smaller pool of spoofed addresses is
///    used more than once: one machine's fingerprint and hop count, and no client behind any.
/// 6. Many sources that are none of that, have one fingerprint or are new here, and do not retransmit their
///    SYNs as clients would, or are more than those.
///
/// The rest has two indicators of an attack and no pattern: a broken path still explains it best.
pub(crate) fn verdict(
    gate: &Gate,
    sources: &Sources,
    failing_clients: &FailingClients,
) -> Vec<VerdictLine> {
    let many = sources.distinct >= DISTINCT_MIN;
    let everywhere = sources.everywhere && gate.failing_share >= SCATTERED_SHARE;
    let novel = gate.novel == Some(true);
    let alike =
        gate.fingerprint || gate.ttl || gate.silent || gate.surge || gate.unreachable || novel;
    let scattered = gate.singletons && (alike || everywhere);
    let one_machine = gate.fingerprint && gate.ttl && gate.no_retransmission == Some(true);
    let by = Numbers { gate, sources, failing_clients, everywhere };
    let list = [
        (
            IncidentClass::HandshakeDegraded,
            "too few signs of an attack?",
            gate.signs() < INDICATORS_ATTACK
                || gate.may_be_clients()
                || gate.health_checks.is_some(),
            by.signs(),
        ),
        (
            IncidentClass::HandshakeDegraded,
            "may clients behind a broken path look like this?",
            gate.may_be_a_path(),
            by.path(),
        ),
        (
            IncidentClass::SingleSource,
            "does one source dominate?",
            sources.top_excess() >= SINGLE_SOURCE_SHARE,
            by.top_source(),
        ),
        (
            IncidentClass::FewSource,
            "do few sources or networks?",
            gate.few_sources && (gate.no_retransmission != Some(false) || gate.surge),
            by.few_sources(),
        ),
        (
            IncidentClass::RandomSpoofed,
            "are the sources forged at random?",
            many && (scattered || one_machine),
            by.spoofed(scattered),
        ),
        (
            IncidentClass::Distributed,
            "many sources that attack together?",
            many && alike && (gate.no_retransmission == Some(true) || gate.surge),
            by.together(),
        ),
        (
            IncidentClass::HandshakeDegraded,
            "what is left:",
            true,
            "signs of an attack but no pattern of one; a broken path still explains it best"
                .to_owned(),
        ),
    ];
    let decides = list.iter().position(|(_, _, holds, _)| *holds).unwrap_or(list.len());
    let lines = list.into_iter().take(decides + 1);
    lines
        .map(|(class, asks, holds, why)| VerdictLine { class, asks: asks.to_owned(), holds, why })
        .collect()
}

/// The line of a listener of which the application does not accept.
pub(crate) fn overload_line() -> VerdictLine {
    VerdictLine::that_holds(
        IncidentClass::ListenerOverload,
        "is the accept queue what fails?",
        "it is full, and handshakes that the application does not take up fail as if the path were \
         broken"
            .to_owned(),
    )
}

/// The line of a flash crowd.
pub(crate) fn flash_crowd_line(evidence: &Evidence, syn_rate: f64) -> VerdictLine {
    VerdictLine::that_holds(
        IncidentClass::FlashCrowd,
        "more clients than usual who are served?",
        format!(
            "{} SYN/s where {} are usual, and {} of the handshakes complete",
            short(syn_rate),
            short(evidence.baseline_syn_rate),
            percent(evidence.completion)
        ),
    )
}

/// Returns the reason that the present flood gets no rule yet, where none is given when a rule is considered:
/// the marks are too few, or too little is known of the clients.
pub(crate) fn without_rule(
    class: IncidentClass,
    gate: u32,
    candidate: Option<&Candidate>,
    recorded: u64,
) -> Option<String> {
    if !class.is_flood() {
        return None;
    }
    let needed = match class {
        IncidentClass::Distributed => INDICATORS_ATTACK,
        _ => INDICATORS_DROP,
    };
    if gate < needed {
        return Some(format!("{gate} items of the gate hold, a rule takes {needed}"));
    }
    let Some(candidate) = candidate else {
        return Some("no failing SYN is known".to_owned());
    };
    if !candidate.covers_enough() {
        let covers = percent(candidate.coverage);
        return Some(format!("the top signature covers only {covers} of the failing SYNs"));
    }
    if candidate.is_of_clients() {
        return Some(
            "real clients look like the top signature; that is for SYN cookies".to_owned(),
        );
    }
    let known = recorded >= CLIENTS_KNOWN || candidate.unfinished >= REPLIED_UNFINISHED;
    (!known).then(|| {
        format!(
            "that no client looks like the top signature is not known yet: {} of {} handshakes that \
             would say so are on record, and {} of {} answered SYNs with it have led to nothing",
            short(recorded as f64),
            CLIENTS_KNOWN,
            short(candidate.unfinished as f64),
            REPLIED_UNFINISHED,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::SourceShare;
    use super::super::retransmissions::Retransmissions;
    use super::*;

    /// The last line for a gate and sources, and how many there were before it.
    fn decided(gate: &Gate, sources: &Sources) -> (usize, IncidentClass, String) {
        let lines = verdict(gate, sources, &FailingClients::default());
        let holding = lines.iter().filter(|line| line.holds).count();
        assert!(holding == 1 && lines.last().is_some_and(|line| line.holds), "{lines:?}");
        let last = lines.last().expect("a line");
        (lines.len() - 1, last.class, last.why.clone())
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
            failing_share: 0.9,
            ..Gate::default()
        }
    }

    #[test]
    fn too_few_signs_are_named() {
        let unknown =
            Gate { no_retransmission: None, retransmissions: Retransmissions::default(), ..gate() };
        let lone = Gate { ttl: true, ..unknown };
        let (before, class, why) = decided(&lone, &many());
        assert_eq!((before, class), (0, IncidentClass::HandshakeDegraded));
        assert_eq!(why, "1 holds (ttl), 2 make an attack");
        let (_, _, why) = decided(&Gate::default(), &many());
        assert_eq!(why, "none holds, 2 make an attack");
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
        let (before, class, why) = decided(&early, &many());
        assert_eq!((before, class), (0, IncidentClass::HandshakeDegraded));
        assert_eq!(
            why,
            "2 hold (ttl, singletons), 2 make an attack; clients have come from most of these networks \
             before, whether the SYNs are repeated is not known yet"
        );
        let clients =
            Gate { no_retransmission: Some(false), retransmissions: retransmitted(0.8), ..known };
        assert_eq!(decided(&clients, &many()).1, IncidentClass::HandshakeDegraded);
        let surge = Gate { surge: true, ..clients };
        assert_eq!(decided(&surge, &many()).1, IncidentClass::HandshakeDegraded, "all come back");
        let lasting = Gate { lasting: true, ..surge };
        assert_eq!(decided(&lasting, &many()).1, IncidentClass::RandomSpoofed);
    }

    #[test]
    fn networks_that_are_new_are_a_sign_of_forging() {
        let here = Sources { everywhere: false, ..many() };
        let gate = Gate { singletons: true, failing_share: 0.1, ..gate() };
        assert_eq!(
            decided(&gate, &here).1,
            IncidentClass::HandshakeDegraded,
            "2 signs, no pattern"
        );
        let novel = Gate { novel: Some(true), ..gate };
        let (_, class, why) = decided(&novel, &here);
        assert_eq!(class, IncidentClass::RandomSpoofed);
        assert!(why.ends_with("90% are needed, with networks new here"), "{why}");
        let pool = Sources { singletons: 0.2, ..here };
        let (_, class, why) = decided(&Gate { singletons: false, ..novel }, &pool);
        assert_eq!(class, IncidentClass::Distributed);
        assert!(why.contains("with networks new here in common"), "{why}");
    }

    #[test]
    fn a_possible_broken_path_waits_until_no_retransmission_is_known() {
        let top = vec![SourceShare { addr: [198, 51, 100, 7].into(), share: 0.9 }];
        let sources = Sources { top, ..many() };
        let early = Gate { ttl: true, few_sources: true, no_retransmission: None, ..gate() };
        let early = Gate { retransmissions: Retransmissions::default(), ..early };
        let (before, class, why) = decided(&early, &sources);
        assert_eq!((before, class), (1, IncidentClass::HandshakeDegraded));
        assert!(why.ends_with("whether the SYNs are repeated is not known yet"), "{why}");
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
    fn sources_that_come_round_are_named_and_are_not_random() {
        let gate = Gate { silent: true, singletons: false, ..gate() };
        let pool = Sources { again: (12, 3.1), singletons: 0.91, everywhere: false, ..many() };
        let lines = verdict(&gate, &pool, &FailingClients::default());
        assert!(!lines[4].holds, "{lines:?}");
        assert!(
            lines[4].why.contains("12 sources come again, of 10000 addresses up to 3 would"),
            "{lines:?}"
        );
        assert_eq!(lines.last().map(|line| line.class), Some(IncidentClass::Distributed));
    }

    #[test]
    fn a_source_that_dominates_is_named_with_what_it_takes() {
        let top = vec![SourceShare { addr: [198, 51, 100, 7].into(), share: 0.72 }];
        let (before, class, why) =
            decided(&Gate { ttl: true, ..gate() }, &Sources { top, ..many() });
        assert_eq!((before, class), (2, IncidentClass::SingleSource));
        assert_eq!(why, "198.51.100.7 sends 72% of the failing SYNs, 70% are needed");
    }

    #[test]
    fn few_sources_are_reported_with_their_numbers_and_ruled_out_when_they_retransmit() {
        let sources = Sources { k90: 3, k90_networks: 3, distinct: 100, ..many() };
        let few = Gate { few_sources: true, fingerprint: true, spoofed: true, ..gate() };
        let (before, class, why) = decided(&few, &sources);
        assert_eq!((before, class), (3, IncidentClass::FewSource));
        assert_eq!(
            why,
            "90% of the failing SYNs come from 3 sources in 3 networks, and 40.0 from each; few are 8 \
             networks, or 64 sources with 2 SYNs each; 2% of the SYNs are repeated, clients repeat more \
             than 35%"
        );
        let clients =
            Gate { no_retransmission: Some(false), retransmissions: retransmitted(0.6), ..few };
        let lines = verdict(&clients, &sources, &FailingClients::default());
        assert!(!lines[3].holds);
        assert!(
            lines[3].why.ends_with(
                "but 60% of the SYNs are repeated, as clients repeat theirs (35% at most)"
            ),
            "{lines:?}"
        );
    }

    #[test]
    fn more_than_clients_could_begin_is_a_flood_whether_or_not_it_is_repeated() {
        let clients =
            Gate { no_retransmission: Some(false), retransmissions: retransmitted(0.9), ..gate() };
        let surge = Gate { singletons: true, surge: true, ..clients.clone() };
        let (_, class, why) = decided(&surge, &many());
        assert_eq!(class, IncidentClass::RandomSpoofed);
        assert!(why.ends_with("with a surge"), "{why}");
        let few = Sources { k90: 3, k90_networks: 3, distinct: 100, ..many() };
        let surge = Gate { few_sources: true, surge: true, ..clients.clone() };
        let (_, class, why) = decided(&surge, &few);
        assert_eq!(class, IncidentClass::FewSource);
        assert!(
            why.ends_with("90% of the SYNs are repeated, but more fail than clients could begin")
        );
        let pool = Sources { singletons: 0.2, everywhere: false, ..many() };
        let surge = Gate { ttl: true, surge: true, ..clients };
        assert_eq!(decided(&surge, &pool).1, IncidentClass::Distributed);
    }

    #[test]
    fn a_source_that_resets_syn_acks_as_seldom_as_a_scanner_is_no_attack() {
        let few = Sources { k90: 3, k90_networks: 3, distinct: 100, ..many() };
        let health_checks = Gate { few_sources: true, health_checks: Some(60.0), ..gate() };
        let (before, class, why) = decided(&health_checks, &few);
        assert_eq!((before, class), (0, IncidentClass::HandshakeDegraded));
        assert!(
            why.ends_with(
                "they reset what they are answered, 60/s in all and no source more than 50/s, as clients, \
                 health checks and scanners do"
            ),
            "{why}"
        );
        assert_eq!(
            decided(&Gate { health_checks: None, ..health_checks }, &few).1,
            IncidentClass::FewSource
        );
    }

    #[test]
    fn as_many_missing_completions_as_failures_are_clients_that_fail() {
        let failing = Gate { singletons: true, missing: true, ..gate() };
        let (before, class, why) = decided(&failing, &many());
        assert_eq!((before, class), (0, IncidentClass::HandshakeDegraded));
        assert!(why.ends_with("as many completed handshakes are missing as fail"), "{why}");
        let flood = Gate { missing: false, ..failing };
        assert_eq!(decided(&flood, &many()).1, IncidentClass::RandomSpoofed);
    }

    #[test]
    fn the_evidence_of_spoofed_sources_is_stated() {
        let marked = Gate { singletons: true, ttl: true, fingerprint: true, ..gate() };
        let (before, class, why) = decided(&marked, &many());
        assert_eq!((before, class), (4, IncidentClass::RandomSpoofed));
        assert_eq!(
            why,
            "97% of a draw come from sources seen once, 90% are needed, with a tool's fingerprint, one \
             machine's TTL"
        );
        let (_, class, why) = decided(&Gate { singletons: true, ..gate() }, &many());
        assert_eq!(class, IncidentClass::RandomSpoofed);
        assert!(
            why.ends_with(
                "they stand in 220 /8 networks, as drawn ones would, and 90% of all handshakes fail"
            ),
            "{why}"
        );
        let pool = Sources { singletons: 0.2, ..many() };
        let (_, class, why) = decided(&Gate { singletons: false, ..marked }, &pool);
        assert_eq!(class, IncidentClass::RandomSpoofed);
        assert!(why.contains("would have one fingerprint and one TTL"), "{why}");
    }

    #[test]
    fn many_sources_that_attack_together_have_something_in_common() {
        let pool = Sources { singletons: 0.2, everywhere: false, distinct: 3000, ..many() };
        let (before, class, why) = decided(&Gate { fingerprint: true, ..gate() }, &pool);
        assert_eq!((before, class), (5, IncidentClass::Distributed));
        assert_eq!(
            why,
            "3000 sources among 4000 flows, with a tool's fingerprint in common; 2% of the SYNs are \
             repeated, clients repeat more than 35%"
        );
    }

    #[test]
    fn what_has_signs_but_no_pattern_is_a_broken_path() {
        let clients = Gate {
            fingerprint: true,
            ttl: true,
            spoofed: true,
            retransmissions: retransmitted(0.7),
            no_retransmission: Some(false),
            ..gate()
        };
        let sources = Sources { singletons: 0.2, everywhere: false, ..many() };
        let (before, class, why) = decided(&clients, &sources);
        assert_eq!((before, class), (6, IncidentClass::HandshakeDegraded));
        assert!(why.contains("no pattern"), "{why}");
        let few = Sources { distinct: 40, ..sources };
        let lines = verdict(&clients, &few, &FailingClients::default());
        assert_eq!(lines[4].why, "only 40 sources are known, 48 are needed");
    }

    #[test]
    fn a_flood_without_a_rule_names_what_is_missing() {
        let without = |class, gate, candidate: Option<&Candidate>, recorded| {
            without_rule(class, gate, candidate, recorded)
        };
        let random = IncidentClass::RandomSpoofed;
        assert_eq!(
            without(random, 2, None, 0).as_deref(),
            Some("2 items of the gate hold, a rule takes 3")
        );
        let candidate = Candidate {
            mask: tcpguard_common::abi::Mask::Full,
            print: tcpguard_common::abi::Fingerprint::default(),
            coverage: 0.9,
            completion: 0.0,
            completed: 0,
            admitted: false,
            recorded: 0,
            recorded_share: 0.0,
            unfinished: 300,
            together: 0.0,
        };
        let why = without(random, 3, Some(&candidate), 120).expect("too little is known");
        assert!(why.contains("120 of 200 handshakes"), "{why}");
        assert!(why.contains("300 of 1000 answered SYNs"), "{why}");
        assert_eq!(without(random, 3, Some(&candidate), 200), None);
        assert_eq!(without(IncidentClass::FlashCrowd, 0, None, 0), None);
    }
}
