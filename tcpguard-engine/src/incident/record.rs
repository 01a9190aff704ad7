//! The record of an incident, with which a person can re-trace it when it is long over: the state
//! of its listener before, at the alarm, at the last inspection and at the end; the line of the
//! class list that decided; and the mitigations, or why there were none.
//!
//! Lists are bounded here. The component that stores a record bounds its size in bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::restraint::Restraint;
use crate::evidence::{Evidence, IncidentClass, Measured, VerdictLine};
use crate::input::{Mitigation, RuleId, RuleReason, SynHeader, Timestamp};
use crate::listener::{Moment, Sums};
use crate::rules::RuleReport;

/// Rules of an incident that are remembered one by one after they have ended.
const RULES: usize = 16;

/// Everything that is kept of an incident beside its evidence at the last inspection.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// The numbers by which the signal raised the alarm.
    pub alarm: Vec<Measured>,
    /// The seconds before it began; `None` where nothing was seen of them.
    pub before: Option<Sums>,
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
    pub after: Option<Sums>,
    /// Its rules, those that have ended first.
    pub rules: Vec<RuleRecord>,
    /// Number of further rules, which are not in that list.
    pub more_rules: u64,
    /// Number of hits of these further rules.
    pub more_hits: u64,
    /// Mitigations beside rules that were active for its listener while it was open.
    pub mitigations: Vec<Mitigation>,
    /// Reason that no rule is asked for now; `None` where one is, or where rules are no question.
    pub no_rule: Option<Restraint>,
    /// The rule that an operator removed last and that has not been made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<RemovedRule>,
    /// Reason that no mitigation beside rules is asked for now; `None` where that is no question.
    pub no_mitigation: Option<Restraint>,
    /// Headers of SYNs to its listener, at most 16, a few from each of the first polls.
    pub headers: Vec<SynHeader>,
}

/// The first verdict of an incident.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FirstVerdict {
    /// Time of the verdict.
    pub at: Timestamp,
    /// The class.
    pub class: IncidentClass,
    /// The numbers.
    pub evidence: Evidence,
}

/// Another verdict than the one that stands.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PendingClass {
    /// The class of the last inspections.
    pub class: IncidentClass,
    /// Number of consecutive inspections that found it.
    pub inspections: u32,
    /// Number of consecutive inspections that it takes to change the class.
    pub needed: u32,
}

/// A rule of an incident, which may have ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RuleRecord {
    /// Its number.
    pub id: RuleId,
    /// `source` or `signature`.
    pub kind: String,
    /// Its matcher, in words.
    pub matches: String,
    /// Reason for which it was made.
    pub reason: RuleReason,
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
        alarm: Vec<Measured>,
        before: Option<Sums>,
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

/// Headers that are kept of an incident.
pub(crate) const HEADERS: usize = 16;

impl Record {
    /// Returns whether there is room for another header.
    pub(crate) fn lacks_headers(&self) -> bool {
        self.headers.len() < HEADERS
    }

    /// Keeps a header if there is room for it.
    pub(crate) fn keep_header(&mut self, header: SynHeader) {
        if self.lacks_headers() {
            self.headers.push(header);
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
            evidence: Evidence::default(),
        };
        Record::new(Vec::new(), None, None, first)
    }

    fn rule(id: u32, hits: u64) -> RuleReport {
        RuleReport {
            id: RuleId(id),
            kind: "source".to_owned(),
            matches: String::new(),
            ports: crate::input::Ports::EVERY,
            origin: "incident".to_owned(),
            incident: Some(1),
            reason: RuleReason::Found,
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
}
