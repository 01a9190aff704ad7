//! Record of an attack, from which its verdict can be re-traced: `tcpguard explain ATTACK` shows it, and it
//! is stored when the attack is over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine as engine;
use tcpguard_engine::{IncidentReport, Report};
use tcpguard_host::json;
use tcpguard_host::time::{Clock, Time};

use super::build::{attack, evidence, number};
use super::{DocumentClass, Evidence, Incident, SynHeader};

/// The value of [`FullIncident::schema`].
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
    /// Name and version of this document: `tcpguard.incident/1`.
    pub schema: String,
    /// The incident as the status shows it.
    #[serde(flatten)]
    pub incident: Incident,
    /// Path to the verdict, and outcome.
    pub record: Record,
}

/// Path of an incident to its verdict, and its outcome.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Record {
    /// Cause of the alarm, with its arithmetic, in words.
    pub alarm: String,
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
    pub mitigations: Vec<String>,
    /// Reason why no rule is asked for; `null` where one is, or where none is considered.
    pub no_rule: Option<String>,
    /// Reason why no mitigation beside rules is asked for; `null` where one is active, or where none is considered.
    pub no_mitigation: Option<String>,
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
    pub class: DocumentClass,
    /// Confidence in the class, 0 to 1.
    pub confidence: f64,
    /// Reason of the verdict, in words: the line of the class list that fitted.
    pub because: String,
    /// Numbers at that time.
    pub evidence: Evidence,
}

/// One line of the class list, as an inspection evaluated it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct VerdictLine {
    /// Class if the line fits.
    pub class: DocumentClass,
    /// Question of the line.
    pub asks: String,
    /// True if the line fits. The first one that does decides.
    pub holds: bool,
    /// Numbers behind the result, in words.
    pub why: String,
}

/// Pending class: another class than the present one, not yet found often enough to replace it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PendingClass {
    /// Class that the last inspections found.
    pub class: DocumentClass,
    /// Number of consecutive inspections that found it.
    pub inspections: u32,
    /// Number of consecutive inspections that it takes to change the class.
    pub needed: u32,
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
    pub kernel: KernelGrowth,
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
    pub cookies_pps: f64,
    /// Out-of-state segments per second: they belonged to no connection, and were answered with a reset or
    /// dropped.
    pub out_of_state_pps: f64,
}

/// Statistics that the signals derive from the counters.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Statistics {
    /// Time that a handshake was given to complete, in milliseconds.
    pub given_ms: u64,
    /// Fast path: number of attempts in the two polls judged.
    pub fast_attempts: u64,
    /// Fast path: number of these attempts that failed.
    pub fast_failures: u64,
    /// Fast path: number of consecutive polls in which too many failed.
    pub fast_polls: u32,
    /// Slow path: cumulative sum.
    pub cusum: f64,
    /// Slow path: sum from which an alarm is raised.
    pub cusum_limit: f64,
    /// Variance of the failures of a poll as a multiple of the variance by chance.
    pub dispersion: f64,
    /// Share of the attempts that fail without an attack, 0 to 1.
    pub natural_share: f64,
    /// Attempts per second that fail without an attack.
    pub natural_pps: f64,
    /// Number of failures to be expected in the window of the evidence.
    pub expected_failures: f64,
    /// Part of the SYN queue that failing handshakes hold; `null` where it was not counted.
    pub occupancy: Option<Occupancy>,
    /// Number of polls with a full accept queue, less the polls since in which it was not full.
    pub overload_polls: u32,
    /// Number of consecutive polls with a flash crowd.
    pub flash_crowd_polls: u32,
    /// Baseline of SYNs per second at the listener; 0 while it is not known.
    pub baseline_syn_pps: f64,
}

/// Estimates of the slots of a SYN queue that failing handshakes hold. The least of the first three counts.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Occupancy {
    /// Number of half-open handshakes.
    pub half_open: u32,
    /// Failures of the last minute beyond those to be expected.
    pub of_a_minute: f64,
    /// Failures of the last 10 s beyond those to be expected, times 6.3: an entry of the queue lives 63 s.
    pub going_on: f64,
    /// Number of slots from which an alarm is raised.
    pub limit: f64,
}

/// Growth of the kernel's own counters of this network namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct KernelGrowth {
    /// `ListenOverflows`: connections lost because an accept queue was full.
    pub listen_overflows: u64,
    /// `ListenDrops`: SYNs and ACKs that a listener dropped for any reason.
    pub listen_drops: u64,
    /// `TCPReqQFullDoCookies`: SYNs that were answered with a cookie because the SYN queue was full.
    pub req_q_full_do_cookies: u64,
    /// `TCPReqQFullDrop`: SYNs that were dropped because the SYN queue was full.
    pub req_q_full_drop: u64,
    /// `SyncookiesSent`: SYN cookies that the kernel sent.
    pub syncookies_sent: u64,
    /// `SyncookiesRecv`: valid SYN cookies that clients returned.
    pub syncookies_recv: u64,
    /// `SyncookiesFailed`: ACKs with an invalid SYN cookie.
    pub syncookies_failed: u64,
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
    pub reason: String,
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
        let attack = attack(incident, report, clock);
        let record = Record::build(&incident.record, clock);
        Self { schema: INCIDENT_SCHEMA.to_owned(), incident: attack, record }.fitted()
    }

    /// Returns the size of its evidence as JSON, in bytes.
    pub fn evidence_bytes(&self) -> usize {
        let bytes = |json: serde_json::Result<Vec<u8>>| json.map_or(usize::MAX, |json| json.len());
        bytes(json::bytes(&self.incident.evidence)).saturating_add(bytes(json::bytes(&self.record)))
    }

    /// Returns the document with its lists cut until the evidence fits in [`EVIDENCE_BYTES`]. The numbers
    /// stay; the sentences, which repeat them, are cut last.
    fn fitted(mut self) -> Self {
        for (most, headers) in CUTS {
            self.cut_lists(most);
            self.record.syn_headers.truncate(headers);
            if self.evidence_bytes() <= EVIDENCE_BYTES {
                return self;
            }
        }
        self.record.first.evidence.gate.clear();
        self.record.cut_sentences();
        self
    }

    fn cut_lists(&mut self, most: usize) {
        self.record.lists_hold = most as u32;
        cut_evidence(&mut self.incident.evidence, most);
        // The evidence of the last inspection is worth more than that of the first one.
        let first = &mut self.record.first;
        cut_evidence(&mut first.evidence, if most > 4 { most / 2 } else { 0 });
        // The indicators that held, and the reason of the verdict, stay.
        if most < 16 {
            first.evidence.gate.retain(|item| item.holds);
        }
        if most < 8 {
            first.evidence.gate.iter_mut().for_each(|item| item.detail.clear());
        }
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
                class: first.class.into(),
                confidence: number(first.confidence),
                because: first.because.clone(),
                evidence: evidence(&first.evidence),
            },
            lines: record.lines.iter().map(VerdictLine::build).collect(),
            doubt: record.doubt.map(|doubt| PendingClass {
                class: doubt.class.into(),
                inspections: doubt.inspections,
                needed: doubt.needed,
            }),
            before: record.before.as_ref().map(Rates::build),
            at_alarm: record.at_alarm.as_ref().map(|moment| Moment::build(moment, clock)),
            at_last: record.at_last.as_ref().map(|moment| Moment::build(moment, clock)),
            after: record.after.as_ref().map(Rates::build),
            rules: record.rules.iter().map(|rule| RuleRecord::build(rule, clock)).collect(),
            more_rules: record.more_rules,
            more_hits: record.more_hits,
            mitigations: record
                .mitigations
                .iter()
                .map(|mitigation| mitigation.name().to_owned())
                .collect(),
            no_rule: record.no_rule.clone(),
            no_mitigation: record.no_mitigation.clone(),
            syn_headers: record.headers.iter().map(|one| SynHeader::build(one, clock)).collect(),
            lists_hold: 0,
        }
    }

    fn cut_sentences(&mut self) {
        let Self { alarm, first, lines, rules, no_rule, no_mitigation, .. } = self;
        let lines = lines.iter_mut().flat_map(|line| [&mut line.asks, &mut line.why]);
        let rules = rules.iter_mut().flat_map(|rule| [&mut rule.matches, &mut rule.reason]);
        let others = [alarm, &mut first.because].into_iter().chain(no_rule).chain(no_mitigation);
        for sentence in lines.chain(rules).chain(others) {
            if let Some((end, _)) = sentence.char_indices().nth(SENTENCE) {
                sentence.truncate(end);
                sentence.push('…');
            }
        }
    }
}

impl VerdictLine {
    fn build(line: &engine::VerdictLine) -> Self {
        let engine::VerdictLine { class, asks, holds, why } = line;
        Self { class: (*class).into(), asks: asks.clone(), holds: *holds, why: why.clone() }
    }
}

impl Moment {
    fn build(moment: &engine::Moment, clock: Clock) -> Self {
        let kernel = &moment.tcp_ext;
        Self {
            at: clock.time_at(moment.at),
            rates: Rates::build(&moment.counts),
            statistics: Statistics::build(&moment.statistics),
            kernel: KernelGrowth {
                listen_overflows: kernel.listen_overflows,
                listen_drops: kernel.listen_drops,
                req_q_full_do_cookies: kernel.req_q_full_do_cookies,
                req_q_full_drop: kernel.req_q_full_drop,
                syncookies_sent: kernel.syncookies_sent,
                syncookies_recv: kernel.syncookies_recv,
                syncookies_failed: kernel.syncookies_failed,
            },
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
            completed_pps: rate(counts.completed),
            unanswered_pps: rate(counts.unanswered),
            ignored_pps: rate(counts.ignored),
            matched_pps: rate(counts.matched),
            dropped_pps: rate(counts.dropped),
            cookies_pps: rate(counts.cookies_sent),
            out_of_state_pps: rate(counts.resets),
        }
    }
}

impl Statistics {
    fn build(statistics: &engine::Statistics) -> Self {
        let queue = statistics.occupancy;
        Self {
            given_ms: statistics.given.as_millis() as u64,
            fast_attempts: statistics.fast_attempts,
            fast_failures: statistics.fast_failures,
            fast_polls: statistics.fast_polls,
            cusum: rounded(statistics.cusum),
            cusum_limit: rounded(statistics.cusum_limit),
            dispersion: rounded(statistics.dispersion),
            natural_share: number(statistics.natural_share),
            natural_pps: rounded(statistics.natural_rate),
            expected_failures: rounded(statistics.expected),
            occupancy: queue.map(|queue| Occupancy {
                half_open: queue.half_open,
                of_a_minute: rounded(queue.of_a_minute),
                going_on: rounded(queue.going_on),
                limit: rounded(queue.limit),
            }),
            overload_polls: statistics.overload_polls,
            flash_crowd_polls: statistics.flash_crowd_polls,
            baseline_syn_pps: rounded(statistics.baseline_syn_rate),
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
