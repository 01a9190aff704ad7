//! The record of an incident, with which a person can re-trace it when it is long over: the state
//! of its listener before, at the alarm, at the last inspection and at the end; the line of the
//! class list that decided; and the mitigations, or why there were none.
//!
//! Lists are bounded here. The component that stores a record bounds its size in bytes.

use std::collections::VecDeque;
use std::time::Duration;

use super::headers::SynHeader;
use super::verdict::VerdictLine;
use crate::window::Sums;
use crate::{Evidence, IncidentClass, Mitigation, Queues, RuleId, RuleReport, TcpExt, Timestamp};

/// Rules of an incident that are remembered one by one after they have ended.
const RULES: usize = 16;

/// Everything that is kept of an incident beside its evidence at the last inspection.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Record {
    /// The cause of the alarm, with its arithmetic, in words.
    pub alarm: String,
    /// The seconds before it began; `None` where nothing was seen of them.
    pub before: Option<Counts>,
    /// Counters and signals at the alarm; `None` for an incident of no listener.
    pub at_alarm: Option<Moment>,
    /// The first verdict and its basis. Later inspections leave it alone.
    pub first: FirstVerdict,
    /// Counters and signals at the last inspection; `None` for an incident of no listener.
    pub at_last: Option<Moment>,
    /// The class list as the last inspection went through it, up to the line that held.
    pub lines: Vec<VerdictLine>,
    /// Another verdict that has not been taken over yet; `None` when the last inspection agreed.
    pub doubt: Option<PendingClass>,
    /// The last seconds before its end; `None` while it is open.
    pub after: Option<Counts>,
    /// Its rules, those that have ended first.
    pub rules: Vec<RuleRecord>,
    /// Number of further rules, which are not in that list.
    pub more_rules: u64,
    /// Number of hits of these further rules.
    pub more_hits: u64,
    /// Mitigations beside rules that were active for its listener while it was open.
    pub mitigations: Vec<Mitigation>,
    /// Reason that no rule is asked for now; `None` where one is, or where rules are no question.
    pub no_rule: Option<String>,
    /// The rule that an operator removed last and that has not been made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<RemovedRule>,
    /// Reason that no mitigation beside rules is asked for now; `None` where that is no question.
    pub no_mitigation: Option<String>,
    /// Headers of SYNs to its listener, at most 16, a few from each of the first polls.
    pub headers: Vec<SynHeader>,
}

/// The first verdict of an incident.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct FirstVerdict {
    /// Time of the verdict.
    pub at: Timestamp,
    /// The class.
    pub class: IncidentClass,
    /// Confidence in the class, 0 to 1.
    pub confidence: f64,
    /// Reason, in words: the line of the class list that held.
    pub because: String,
    /// The numbers.
    pub evidence: Evidence,
}

/// Another verdict than the one that stands.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct PendingClass {
    /// The class of the last inspections.
    pub class: IncidentClass,
    /// Number of consecutive inspections that found it.
    pub inspections: u32,
    /// Number of consecutive inspections that it takes to change the class.
    pub needed: u32,
}

/// Counters and signals at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Moment {
    /// Time of the last of these counts.
    pub at: Timestamp,
    /// The listener's counts in the window of the evidence up to then.
    pub counts: Counts,
    /// Statistics of the signals.
    pub statistics: Statistics,
    /// Growth of the kernel's own counters of this network namespace in as much time.
    pub tcp_ext: TcpExt,
    /// The listener's queues, as last read.
    pub queues: Option<Queues>,
}

/// The counts of a listener in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Counts {
    /// Length of the span.
    pub span: Duration,
    /// SYNs that arrived.
    pub syns: u64,
    /// Retransmissions among these (sampled).
    pub retransmitted: u64,
    /// Handshakes attempted.
    pub attempts: u64,
    /// SYNs among these that a full queue left without a reply.
    pub unanswered: u64,
    /// SYNs left without a reply for another reason.
    pub ignored: u64,
    /// Handshakes that completed.
    pub completed: u64,
    /// SYNs that rules matched, in whatever mode.
    pub matched: u64,
    /// SYNs dropped.
    pub dropped: u64,
    /// SYNs answered with a cookie of tcpguard.
    pub cookies_sent: u64,
    /// Segments that belonged to no connection.
    pub resets: u64,
}

/// The statistics that the signals derive from the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Statistics {
    /// Time that a handshake was given to complete.
    pub given: Duration,
    /// Fast path: attempts of the span judged.
    pub fast_attempts: u64,
    /// Fast path: number of these that failed.
    pub fast_failures: u64,
    /// Fast path: consecutive polls in which too many failed.
    pub fast_polls: u32,
    /// Slow path: the cumulative sum.
    pub cusum: f64,
    /// Slow path: the sum from which it alarms.
    pub cusum_limit: f64,
    /// Variance of the failures of a tick over that of chance.
    pub dispersion: f64,
    /// Share of the attempts that fail anyway.
    pub natural_share: f64,
    /// Attempts a second that fail anyway.
    pub natural_rate: f64,
    /// Failures to be expected in the window.
    pub expected: f64,
    /// SYN queue: the part that failing handshakes hold; `None` where it was not counted.
    pub occupancy: Option<Occupied>,
    /// Accept queue: polls in which it was full, less those since in which it was not.
    pub overload_polls: u32,
    /// Signs of a flash crowd: number of consecutive polls.
    pub flash_crowd_polls: u32,
    /// Baseline of SYNs a second; 0 while that is not known.
    pub baseline_syn_rate: f64,
}

/// Estimates of the part of a SYN queue that failing handshakes hold: it is the least of the first
/// three.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Occupied {
    /// Half-open handshakes.
    pub half_open: u32,
    /// Failures of the last minute beyond those to be expected.
    pub of_a_minute: f64,
    /// Failures of the last seconds beyond those to be expected, extrapolated to a minute.
    pub going_on: f64,
    /// Number from which an alarm is raised.
    pub limit: f64,
}

/// A rule of an incident, which may have ended.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct RuleRecord {
    /// Its number.
    pub id: RuleId,
    /// `source` or `signature`.
    pub kind: String,
    /// Its matcher, in words.
    pub matches: String,
    /// Reason for which it was made.
    pub reason: String,
    /// Time at which it was made.
    pub created: Timestamp,
    /// Time of its end, where it ended before its incident did; `None`: it lasted as long.
    pub ended: Option<Timestamp>,
    /// SYNs dropped (in observe mode: would have been).
    pub hits: u64,
    /// SYNs that matched and passed because they were retransmitted.
    pub accepted_retransmits: u64,
    /// Handshakes that new clients completed after that.
    #[serde(default)]
    pub completed: u64,
}

/// A rule of an incident that an operator removed.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct RemovedRule {
    /// Its number.
    pub id: RuleId,
    /// The mitigation that makes such rules: `tcpguard mitigation LISTENER STEP auto` has it made again.
    pub mitigation: Mitigation,
    /// Time of its removal.
    pub at: Timestamp,
    /// Time until which it is not made again, unless the operator leaves it to the agent earlier.
    pub until: Timestamp,
}

impl Record {
    /// A record that begins with the first verdict.
    pub(crate) fn new(
        alarm: String,
        before: Option<Counts>,
        at_alarm: Option<Moment>,
        first: FirstVerdict,
    ) -> Self {
        Self {
            alarm,
            before,
            at_alarm,
            first,
            at_last: None,
            lines: Vec::new(),
            doubt: None,
            after: None,
            rules: Vec::new(),
            more_rules: 0,
            more_hits: 0,
            mitigations: Vec::new(),
            no_rule: None,
            removed: None,
            no_mitigation: None,
            headers: Vec::new(),
        }
    }

    /// Takes a rule over. Of too many those with the most hits stay.
    pub(crate) fn keep_rule(&mut self, rule: RuleReport, ended: Option<Timestamp>) {
        let RuleReport {
            id,
            kind,
            matches,
            reason,
            created,
            hits,
            accepted_retransmits,
            completed,
            ..
        } = rule;
        let record = RuleRecord {
            id,
            kind,
            matches,
            reason,
            created,
            ended,
            hits,
            accepted_retransmits,
            completed,
        };
        self.rules.push(record);
        if self.rules.len() > RULES
            && let Some((place, _)) =
                self.rules.iter().enumerate().min_by_key(|(_, rule)| rule.hits)
        {
            let left_out = self.rules.remove(place);
            self.more_rules += 1;
            self.more_hits += left_out.hits;
        }
    }
}

impl Counts {
    /// A count per second; 0 where no time has passed.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.span.is_zero() { 0.0 } else { count as f64 / self.span.as_secs_f64() }
    }
}

impl From<Sums> for Counts {
    fn from(sums: Sums) -> Self {
        Self {
            span: sums.span,
            syns: sums.syns,
            retransmitted: sums.retransmitted,
            attempts: sums.attempts,
            unanswered: sums.unanswered,
            ignored: sums.ignored,
            completed: sums.completed,
            matched: sums.matched,
            dropped: sums.dropped,
            cookies_sent: sums.cookies_sent,
            resets: sums.resets,
        }
    }
}

/// The kernel's own counters over a while, from which their growth is computed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Growth {
    readings: VecDeque<(Timestamp, TcpExt)>,
}

impl Growth {
    /// Takes over a reading; the answer is the growth over the last `span`, or over less while less
    /// is known.
    pub fn over(&mut self, now: Timestamp, span: Duration, reading: TcpExt) -> TcpExt {
        self.readings.push_back((now, reading));
        while self.readings.get(1).is_some_and(|(at, _)| now.since(*at) >= span) {
            self.readings.pop_front();
        }
        let before = self.readings.front().map_or(reading, |(_, before)| *before);
        let grown = |count: fn(&TcpExt) -> u64| count(&reading).saturating_sub(count(&before));
        TcpExt {
            listen_overflows: grown(|counters| counters.listen_overflows),
            listen_drops: grown(|counters| counters.listen_drops),
            req_q_full_do_cookies: grown(|counters| counters.req_q_full_do_cookies),
            req_q_full_drop: grown(|counters| counters.req_q_full_drop),
            syncookies_sent: grown(|counters| counters.syncookies_sent),
            syncookies_recv: grown(|counters| counters.syncookies_recv),
            syncookies_failed: grown(|counters| counters.syncookies_failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let first = FirstVerdict {
            at: Timestamp::default(),
            class: IncidentClass::FewSource,
            confidence: 0.5,
            because: String::new(),
            evidence: Evidence::default(),
        };
        Record::new(String::new(), None, None, first)
    }

    fn rule(id: u32, hits: u64) -> RuleReport {
        RuleReport {
            id: RuleId(id),
            kind: "source".to_owned(),
            matches: String::new(),
            ports: crate::Ports::EVERY,
            origin: "incident".to_owned(),
            incident: Some(1),
            reason: String::new(),
            created: Timestamp::default(),
            expires: Timestamp::default(),
            confirmed_until: None,
            hits,
            accepted_retransmits: 0,
            completed: 0,
        }
    }

    #[test]
    fn of_too_many_rules_those_with_the_most_hits_stay_and_no_hit_is_lost() {
        let mut record = record();
        for id in 0..40 {
            record.keep_rule(rule(id, u64::from(id * 37 % 40)), None);
        }
        let hits: u64 = record.rules.iter().map(|rule| rule.hits).sum();
        assert_eq!((record.rules.len(), record.more_rules), (RULES, 24));
        assert_eq!(hits, (24..40).sum::<u64>());
        assert_eq!(hits + record.more_hits, (0..40).sum::<u64>());
    }

    #[test]
    fn growth_is_that_of_the_last_seconds() {
        let mut growth = Growth::default();
        let mut grown = |second: u64, drops| {
            let reading = TcpExt { listen_drops: drops, ..TcpExt::default() };
            let now = Timestamp::from_millis(1000 * second);
            growth.over(now, Duration::from_secs(8), reading).listen_drops
        };
        assert_eq!(grown(100, 50), 0, "what was before is nobody's");
        assert_eq!(grown(104, 60), 10);
        assert_eq!(grown(108, 70), 20);
        assert_eq!(grown(112, 75), 15);
        assert_eq!(grown(113, 3), 0, "it counts anew");
    }
}
