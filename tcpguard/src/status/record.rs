//! What is kept of an attack beside its story, so that the verdict can be re-traced: what
//! `tcpguard explain ATTACK` shows, and what is on record when the attack is over.

use serde::{Deserialize, Serialize};
use tcpguard_engine as engine;
use tcpguard_engine::{IncidentReport, Report};

use super::build::{attack, evidence, number};
use super::{Attack, AttackKind, Clock, Evidence, SynHeader, Time};
use crate::json;

/// The value of [`AttackInFull::schema`].
pub const ATTACK_SCHEMA: &str = "tcpguard.attack/1";
/// The evidence of one attack has at most so many bytes as JSON: [`Attack::evidence`] and
/// [`AttackInFull::record`] together.
pub const EVIDENCE_BYTES: usize = 8192;
/// Numbers of entries that the lists are cut to and of headers that are kept, one after the other,
/// until the evidence fits.
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
/// Characters that a sentence is cut to where all of that was not enough.
const SENTENCE: usize = 100;

/// One attack with everything that it was judged by.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AttackInFull {
    /// Name and version of this document: `tcpguard.attack/1`.
    pub schema: String,
    /// The attack as the status shows it.
    #[serde(flatten)]
    pub attack: Attack,
    /// How it came to the verdict and what became of it.
    pub record: Record,
}

/// How it came to a verdict and what became of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Record {
    /// What raised the alarm, with its arithmetic.
    pub alarm: String,
    /// The first verdict. Later looks leave it alone.
    pub first: FirstVerdict,
    /// The class list as the last look went through it, up to the line that fits.
    pub lines: Vec<VerdictLine>,
    /// Another verdict that the last looks came to; `null` when the last one agreed.
    pub doubt: Option<Doubt>,
    /// What was counted in the seconds before; `null` where that is not known.
    pub before: Option<Rates>,
    /// Counters and signals at the alarm; `null` for what concerns no listener.
    pub at_alarm: Option<Moment>,
    /// Counters and signals at the last look; `null` for what concerns no listener.
    pub at_last: Option<Moment>,
    /// What was counted in the last seconds; `null` while it is open.
    pub after: Option<Rates>,
    /// Its rules, those that have ended first.
    pub rules: Vec<RuleRecord>,
    /// Rules beyond those.
    pub more_rules: u64,
    /// Their hits.
    pub more_hits: u64,
    /// Steps beside rules that were taken for the listener meanwhile.
    pub steps: Vec<String>,
    /// Why no rule is asked for; `null` where one is.
    pub no_rule: Option<String>,
    /// Why no step beside rules is asked for; `null` where one is or that is no question.
    pub no_step: Option<String>,
    /// Headers of SYNs to the listener from the first second after the first verdict, the flood's
    /// and others', at most 16 and fewer where more would not fit.
    #[serde(default)]
    pub syn_headers: Vec<SynHeader>,
    /// The lists here and in `evidence` have at most so many entries; fewer than 16 where more would
    /// not fit in 8 KiB.
    pub lists_hold: u32,
}

/// The first verdict on an attack.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FirstVerdict {
    /// When.
    pub at: Time,
    /// What it was.
    pub kind: AttackKind,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// Why: the line of the class list that fitted.
    pub because: String,
    /// The numbers then.
    pub evidence: Evidence,
}

/// One line of the class list.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct VerdictLine {
    /// What it is if the line fits.
    pub kind: AttackKind,
    /// What the line asks.
    pub asks: String,
    /// Whether it fits. The first that does decides.
    pub holds: bool,
    /// The numbers, in words.
    pub why: String,
}

/// Another verdict than the one that stands.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Doubt {
    /// What the last looks said.
    pub kind: AttackKind,
    /// How many of them, running.
    pub looks: u32,
    /// How many it takes.
    pub needed: u32,
}

/// Counters and signals at one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Moment {
    /// When.
    pub at: Time,
    /// What was counted in the 8 s before.
    pub rates: Rates,
    /// What the signals made of it.
    pub statistics: Statistics,
    /// Growth of the kernel's own counters in the same time, over all listeners.
    pub kernel: KernelGrowth,
    /// Half-open handshakes.
    pub half_open: Option<u32>,
    /// Connections that wait for the application.
    pub accept_queue: Option<u32>,
    /// Places in either queue.
    pub queue_limit: Option<u32>,
}

/// What a listener counted, per second.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rates {
    /// Seconds that these are over.
    pub span_s: f64,
    /// SYNs, repetitions included.
    pub syn_pps: f64,
    /// Repetitions among them (sampled).
    pub repeated_pps: f64,
    /// Handshakes attempted.
    pub attempted_pps: f64,
    /// Handshakes completed.
    pub completed_pps: f64,
    /// SYNs that a full queue left without an answer.
    pub unanswered_pps: f64,
    /// SYNs left without an answer for another reason.
    pub ignored_pps: f64,
    /// SYNs that rules matched, in whatever mode.
    pub matched_pps: f64,
    /// SYNs dropped.
    pub dropped_pps: f64,
    /// SYNs answered with a cookie of the guard's.
    pub cookies_pps: f64,
    /// Segments that belonged to no connection.
    pub strays_pps: f64,
}

/// What the signals made of the counters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Statistics {
    /// Time that a handshake was given to complete, in milliseconds.
    pub given_ms: u64,
    /// Fast path: attempts of the two polls judged.
    pub fast_attempts: u64,
    /// Fast path: how many of them failed.
    pub fast_failures: u64,
    /// Fast path: polls running in which too many did.
    pub fast_polls: u32,
    /// Slow path: the cumulative sum.
    pub cusum: f64,
    /// Slow path: the sum from which it alarms.
    pub cusum_limit: f64,
    /// How much the failures of a poll vary over chance.
    pub dispersion: f64,
    /// Share of the attempts that fail anyway.
    pub natural_share: f64,
    /// Attempts per second that fail anyway.
    pub natural_pps: f64,
    /// Failures to be expected in the 8 s.
    pub expected_failures: f64,
    /// What fails holds so much of the SYN queue; `null` where it was not counted.
    pub occupancy: Option<Occupancy>,
    /// Polls with a full accept queue, less those without since.
    pub overload_polls: u32,
    /// Polls running with a rush of clients.
    pub crowd_polls: u32,
    /// SYNs per second that are usual here; 0 while that is not known.
    pub usual_syn_pps: f64,
}

/// What says how much of a SYN queue failing handshakes hold: the least of the first three.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Occupancy {
    /// Half-open handshakes.
    pub half_open: u32,
    /// Failures of the last minute beyond those to be expected.
    pub of_a_minute: f64,
    /// Those of the last 10 s, times 6.3.
    pub going_on: f64,
    /// So many raise an alarm.
    pub limit: f64,
}

/// Growth of the kernel's own counters of this network namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct KernelGrowth {
    /// Connections lost because an accept queue was full.
    pub listen_overflows: u64,
    /// SYNs and ACKs that a listener dropped for any reason.
    pub listen_drops: u64,
    /// SYN queue full, a cookie went out.
    pub req_q_full_do_cookies: u64,
    /// SYN queue full, the SYN was dropped.
    pub req_q_full_drop: u64,
    /// SYN cookies sent.
    pub syncookies_sent: u64,
    /// Valid ones that came back.
    pub syncookies_recv: u64,
    /// Invalid ones that came back.
    pub syncookies_failed: u64,
}

/// A rule of an attack, which may have ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RuleRecord {
    /// Its number.
    pub id: u32,
    /// `source` or `signature`.
    pub kind: String,
    /// What it matched, in words.
    pub matches: String,
    /// Why it was made.
    pub reason: String,
    /// When it was made.
    pub created_at: Time,
    /// When it ended before its attack did; `null`: it lasted as long.
    pub ended_at: Option<Time>,
    /// SYNs dropped; in observe mode: that would have been.
    pub hits: u64,
    /// SYNs that matched and passed because they were retransmitted.
    pub returned: u64,
    /// Handshakes that new clients completed after that.
    #[serde(default)]
    pub completed: u64,
}

impl AttackInFull {
    /// What is known of an incident at `clock`, an open or a closed one of `report`.
    pub fn build(incident: &IncidentReport, report: &Report, clock: Clock) -> Self {
        let attack = attack(incident, report, clock);
        let record = Record::build(&incident.record, clock);
        Self { schema: ATTACK_SCHEMA.to_owned(), attack, record }.fitted()
    }

    /// Bytes of its evidence as JSON.
    pub fn evidence_bytes(&self) -> usize {
        let bytes = |json: serde_json::Result<Vec<u8>>| json.map_or(usize::MAX, |json| json.len());
        bytes(json::bytes(&self.attack.evidence)).saturating_add(bytes(json::bytes(&self.record)))
    }

    /// The same with lists as long as there is room for. The numbers stay; the sentences, which say
    /// them once more, are cut last.
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
        cut_evidence(&mut self.attack.evidence, most);
        // What the last look saw says more than what the first one did.
        let first = &mut self.record.first;
        cut_evidence(&mut first.evidence, if most > 4 { most / 2 } else { 0 });
        // Which items held, and why it was what it was, stays.
        if most < 16 {
            first.evidence.gate.retain(|item| item.holds);
        }
        if most < 8 {
            first.evidence.gate.iter_mut().for_each(|item| item.detail.clear());
        }
        let Record { rules, more_rules, more_hits, .. } = &mut self.record;
        // The latest say where it stands.
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
                kind: first.class.into(),
                confidence: number(first.confidence),
                because: first.because.clone(),
                evidence: evidence(&first.evidence),
            },
            lines: record.lines.iter().map(VerdictLine::build).collect(),
            doubt: record.doubt.map(|doubt| Doubt {
                kind: doubt.class.into(),
                looks: doubt.looks,
                needed: doubt.needed,
            }),
            before: record.before.as_ref().map(Rates::build),
            at_alarm: record.at_alarm.as_ref().map(|moment| Moment::build(moment, clock)),
            at_last: record.at_last.as_ref().map(|moment| Moment::build(moment, clock)),
            after: record.after.as_ref().map(Rates::build),
            rules: record.rules.iter().map(|rule| RuleRecord::build(rule, clock)).collect(),
            more_rules: record.more_rules,
            more_hits: record.more_hits,
            steps: record.steps.iter().map(|step| step.name().to_owned()).collect(),
            no_rule: record.no_rule.clone(),
            no_step: record.no_step.clone(),
            syn_headers: record.headers.iter().map(|one| SynHeader::build(one, clock)).collect(),
            lists_hold: 0,
        }
    }

    fn cut_sentences(&mut self) {
        let Self { alarm, first, lines, rules, no_rule, no_step, .. } = self;
        let lines = lines.iter_mut().flat_map(|line| [&mut line.asks, &mut line.why]);
        let rules = rules.iter_mut().flat_map(|rule| [&mut rule.matches, &mut rule.reason]);
        let others = [alarm, &mut first.because].into_iter().chain(no_rule).chain(no_step);
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
        Self { kind: (*class).into(), asks: asks.clone(), holds: *holds, why: why.clone() }
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
    fn build(counts: &engine::Counts) -> Self {
        let rate = |count| rounded(counts.per_second(count));
        Self {
            span_s: number(counts.span.as_secs_f64()),
            syn_pps: rate(counts.syns),
            repeated_pps: rate(counts.repeated),
            attempted_pps: rate(counts.attempts),
            completed_pps: rate(counts.completed),
            unanswered_pps: rate(counts.unanswered),
            ignored_pps: rate(counts.ignored),
            matched_pps: rate(counts.matched),
            dropped_pps: rate(counts.dropped),
            cookies_pps: rate(counts.cookies_sent),
            strays_pps: rate(counts.resets),
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
            crowd_polls: statistics.crowd_polls,
            usual_syn_pps: rounded(statistics.usual_syn_rate),
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
            returned: rule.returned,
            completed: rule.completed,
        }
    }
}

/// A rate or a sum: two decimals are what can be known of it.
fn rounded(value: f64) -> f64 {
    number((value * 100.0).round() / 100.0)
}
