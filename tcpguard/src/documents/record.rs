//! Record of an incident, from which its verdict can be re-traced: `tcpguard explain ATTACK` shows it, and it
//! is stored when the attack is over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine as engine;
use tcpguard_engine::{
    Evidence, IncidentClass, IncidentReport, IndicatorName, Measured, Mitigation, MitigationReason,
    PendingClass, Report, Restraint, RestraintReason, RuleReason, Statistics, TcpExt, VerdictLine,
};
use tcpguard_host::json;
use tcpguard_host::time::{Clock, Time};

use super::build::{self, number};
use super::{Incident, SynHeader};

/// Name and version of a [`FullIncident`].
pub const INCIDENT_SCHEMA: &str = "tcpguard.incident/1";
/// Maximum size of the evidence of one attack as JSON, in bytes: [`Incident::evidence`] and
/// [`FullIncident::record`] together.
pub const EVIDENCE_BYTES: usize = 9216;
/// Cuts that are tried one after the other until the evidence fits: number of list entries, and number of SYN
/// headers.
const CUTS: [(usize, usize); 11] = [
    (16, 16),
    (8, 16),
    (6, 16),
    (4, 16),
    (3, 16),
    (2, 16),
    (2, 12),
    (2, 8),
    (1, 4),
    (0, 2),
    (0, 0),
];
/// Number of characters to which sentences are cut where all of that was not enough.
const SENTENCE: usize = 100;

/// One attack, or another incident, with all the evidence that it was judged by.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FullIncident {
    /// The incident as the status shows it.
    #[serde(flatten)]
    pub incident: Incident,
    /// Path to the verdict, and outcome.
    pub record: Record,
}

/// Path of an incident to its verdict, and its outcome.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Record {
    /// Numbers by which the signal raised the alarm.
    pub alarm: Vec<Measured>,
    /// First verdict. Later inspections leave it alone.
    pub first: FirstVerdict,
    /// Lines of the class list as the last inspection evaluated them, up to the line that fits.
    pub lines: Vec<VerdictLine>,
    /// Pending class: another class that the last inspections found; `null` when the last one agreed.
    pub doubt: Option<PendingClass>,
    /// Rates of the 10 s before the incident began; `null` where they are not known.
    pub before: Option<Rates>,
    /// Counters and signals at the alarm; `null` for an incident of no listener.
    pub at_alarm: Option<Moment>,
    /// Counters and signals at the last inspection; `null` for an incident of no listener.
    pub at_last: Option<Moment>,
    /// Rates of the last 10 s before the end; `null` while the incident is open.
    pub after: Option<Rates>,
    /// Rules of the incident, those that have ended first.
    pub rules: Vec<RuleRecord>,
    /// Number of further rules, which `rules` does not list.
    pub more_rules: u64,
    /// Number of hits of these further rules.
    pub more_hits: u64,
    /// Mitigations beside rules that were active for the listener while the incident was open.
    pub mitigations: Vec<Mitigation>,
    /// Reason why no rule is asked for; `null` where one is, or where none is considered.
    pub no_rule: Option<Restraint>,
    /// Reason why no mitigation beside rules is asked for; `null` where one is active, or where none is considered.
    pub no_mitigation: Option<Restraint>,
    /// Headers of SYNs to the listener from the first second after the first verdict, at most 16, and fewer
    /// where more would not fit in 9 KiB. They may be of the flood or of clients.
    #[serde(default)]
    pub syn_headers: Vec<SynHeader>,
    /// Maximum number of entries in `rules` and in the lists of sources, networks, signatures and TTLs of
    /// `evidence`; lower than 16 where more would not fit in 9 KiB.
    pub lists_hold: u32,
}

/// The first verdict on an attack.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FirstVerdict {
    /// Time of the verdict.
    pub at: Time,
    /// Class of the incident.
    pub class: IncidentClass,
    /// Indicators that held then.
    pub indicators: Vec<IndicatorName>,
}

/// Counters and signals at one moment.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Moment {
    /// Time of the last of these counts.
    pub at: Time,
    /// Rates of the listener in the window of the evidence up to then, by default 8 s.
    pub rates: Rates,
    /// Statistics of the signals.
    pub statistics: Statistics,
    /// Growth of the kernel's own counters in the same window, over all listeners of this network namespace.
    pub kernel: TcpExt,
    /// Number of half-open handshakes; `null` where they were not counted.
    pub half_open: Option<u32>,
    /// Number of connections that wait for the application to accept them; `null` where the queues were not
    /// read.
    pub accept_queue: Option<u32>,
    /// Capacity of the SYN queue and of the accept queue, each; `null` where the queues were not read.
    pub queue_limit: Option<u32>,
}

/// Rates of a listener, per second.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Rates {
    /// Time over which the rates are taken, in seconds.
    pub span_s: f64,
    /// SYNs per second, retransmissions included.
    pub syn_pps: f64,
    /// Retransmitted SYNs per second (sampled).
    pub retransmitted_pps: f64,
    /// Handshakes attempted per second.
    pub attempted_pps: f64,
    /// Handshakes completed per second.
    pub completed_pps: f64,
    /// Unanswered SYNs per second: those that a full queue left without a reply.
    pub unanswered_pps: f64,
    /// SYNs per second that were left without a reply for another reason.
    pub ignored_pps: f64,
    /// SYNs per second that rules matched, in whatever mode.
    pub matched_pps: f64,
    /// SYNs per second that were dropped, by rules or because they were too many.
    pub dropped_pps: f64,
    /// SYNs per second that XDP answered with a cookie.
    pub cookies_sent_pps: f64,
    /// Out-of-state segments per second: they belonged to no connection, and were answered with a reset or
    /// dropped.
    pub out_of_state_pps: f64,
}

/// A rule of an attack, which may have ended.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RuleRecord {
    /// Number of the rule.
    pub id: u32,
    /// `source` or `signature`.
    pub kind: String,
    /// Matcher of the rule, in words.
    pub matches: String,
    /// Reason for which the rule was made.
    pub reason: RuleReason,
    /// Time at which the rule was made.
    pub created_at: Time,
    /// Time at which the rule ended; `null` if it lasted as long as its attack.
    pub ended_at: Option<Time>,
    /// Number of SYNs that the rule dropped, or would have dropped in observe mode.
    pub hits: u64,
    /// Number of SYNs that matched and passed because they were retransmitted.
    pub accepted_retransmits: u64,
    /// Number of handshakes that new clients completed after such a SYN had passed.
    #[serde(default)]
    pub completed: u64,
}

impl FullIncident {
    /// Builds the document of an incident of `report`, open or closed, at `clock`.
    pub fn build(incident: &IncidentReport, report: &Report, clock: Clock) -> Self {
        let record = Record::build(&incident.record, clock);
        let incident = build::incident(incident, report, clock);
        Self { incident, record }.fitted()
    }

    /// Returns the size of its evidence as JSON, in bytes.
    pub fn evidence_bytes(&self) -> usize {
        let bytes = |json: serde_json::Result<Vec<u8>>| json.map_or(usize::MAX, |json| json.len());
        bytes(json::bytes(&self.incident.evidence)).saturating_add(bytes(json::bytes(&self.record)))
    }

    /// Returns the document with its lists cut until the evidence fits in [`EVIDENCE_BYTES`]. Sentences, and the
    /// numbers of lines and indicators that do not hold, are cut last.
    fn fitted(mut self) -> Self {
        for (most, headers) in CUTS {
            self.cut_lists(most);
            self.record.syn_headers.truncate(headers);
            if self.evidence_bytes() <= EVIDENCE_BYTES {
                return self;
            }
        }
        self.record.cut_sentences();
        if self.evidence_bytes() > EVIDENCE_BYTES {
            let lines = self.record.lines.iter_mut().filter(|line| !line.holds);
            lines.for_each(|line| line.measured.clear());
            let indicators = self.incident.evidence.indicators.iter_mut();
            indicators.filter(|one| !one.holds).for_each(|one| one.measured.clear());
        }
        self
    }

    fn cut_lists(&mut self, most: usize) {
        self.record.lists_hold = most as u32;
        cut_evidence(&mut self.incident.evidence, most);
        let Record { rules, more_rules, more_hits, .. } = &mut self.record;
        // The latest rules show the present state.
        let surplus = rules.len().saturating_sub(most);
        for rule in rules.drain(..surplus) {
            *more_rules += 1;
            *more_hits += rule.hits;
        }
    }
}

fn cut_evidence(evidence: &mut Evidence, most: usize) {
    evidence.top_sources.truncate(most);
    evidence.top_networks.truncate(most);
    evidence.signatures.truncate(most);
    evidence.ttls.truncate(most);
}

impl Record {
    fn build(record: &engine::Record, clock: Clock) -> Self {
        let first = &record.first;
        Self {
            alarm: record.alarm.clone(),
            first: FirstVerdict {
                at: clock.time_at(first.at),
                class: first.class,
                indicators: first
                    .evidence
                    .indicators
                    .iter()
                    .filter(|one| one.holds)
                    .map(|one| one.name)
                    .collect(),
            },
            lines: record.lines.clone(),
            doubt: record.doubt,
            before: record.before.as_ref().map(Rates::build),
            at_alarm: record.at_alarm.as_ref().map(|moment| Moment::build(moment, clock)),
            at_last: record.at_last.as_ref().map(|moment| Moment::build(moment, clock)),
            after: record.after.as_ref().map(Rates::build),
            rules: record.rules.iter().map(|rule| RuleRecord::build(rule, clock)).collect(),
            more_rules: record.more_rules,
            more_hits: record.more_hits,
            mitigations: record.mitigations.clone(),
            no_rule: record.no_rule.clone(),
            no_mitigation: record.no_mitigation.clone(),
            syn_headers: record.headers.iter().map(|one| SynHeader::build(one, clock)).collect(),
            lists_hold: 0,
        }
    }

    fn cut_sentences(&mut self) {
        let Self { rules, no_mitigation, .. } = self;
        let rules = rules.iter_mut().flat_map(|RuleRecord { matches, reason, .. }| {
            let given = match reason {
                RuleReason::Given { text } => Some(text),
                _ => None,
            };
            std::iter::once(matches).chain(given)
        });
        for text in rules {
            if let Some(short) = shortened(text) {
                *text = short;
            }
        }
        if let Some(RestraintReason::Refused {
            why: MitigationReason::Failed { error, .. }, ..
        }) = no_mitigation.as_mut().map(|restraint| &mut restraint.reason)
            && let Some(short) = shortened(error)
        {
            *error = short.into();
        }
    }
}

/// The first characters of a text that is too long; `None` for any other.
fn shortened(text: &str) -> Option<String> {
    let (end, _) = text.char_indices().nth(SENTENCE)?;
    Some(format!("{}…", &text[..end]))
}

impl Moment {
    fn build(moment: &engine::Moment, clock: Clock) -> Self {
        Self {
            at: clock.time_at(moment.at),
            rates: Rates::build(&moment.counts),
            statistics: moment.statistics,
            kernel: moment.tcp_ext,
            half_open: moment.queues.and_then(|queues| queues.half_open),
            accept_queue: moment.queues.map(|queues| queues.accept),
            queue_limit: moment.queues.map(|queues| queues.backlog),
        }
    }
}

impl Rates {
    fn build(counts: &engine::Sums) -> Self {
        let rate = |count| rounded(counts.per_second(count));
        Self {
            span_s: number(counts.span.as_secs_f64()),
            syn_pps: rate(counts.syns),
            retransmitted_pps: rate(counts.retransmitted),
            attempted_pps: rate(counts.attempts),
            completed_pps: rate(counts.established),
            unanswered_pps: rate(counts.unanswered),
            ignored_pps: rate(counts.ignored),
            matched_pps: rate(counts.matched),
            dropped_pps: rate(counts.dropped),
            cookies_sent_pps: rate(counts.cookies_sent),
            out_of_state_pps: rate(counts.resets),
        }
    }
}

impl RuleRecord {
    fn build(rule: &engine::RuleRecord, clock: Clock) -> Self {
        Self {
            id: rule.id.0,
            kind: rule.kind.clone(),
            matches: rule.matches.clone(),
            reason: rule.reason.clone(),
            created_at: clock.time_at(rule.created),
            ended_at: rule.ended.map(|at| clock.time_at(at)),
            hits: rule.hits,
            accepted_retransmits: rule.accepted_retransmits,
            completed: rule.completed,
        }
    }
}

/// Rounds a rate or a sum to two decimals, which is its precision.
fn rounded(value: f64) -> f64 {
    number((value * 100.0).round() / 100.0)
}
