//! The record of an incident, with which a person can re-trace it when it is long over: the state
//! of its listener before, at the alarm, at the last inspection and at the end; the line of the
//! class list that decided; and the mitigations, or why there were none.
//!
//! Lists are bounded here. The component that stores a record bounds its size in bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::restraint::Restraint;
use crate::evidence::{IncidentClass, IndicatorName, Measured, VerdictLine};
use crate::input::{Mitigation, RuleId, RuleReason, SynHeader, Timestamp, map_time};
use crate::listener::{Moment, Rates};
use crate::rules::RuleReport;

/// Rules of an incident that are remembered one by one after they have ended.
const RULES: usize = 16;

/// Path of an incident to its verdict, and its outcome: everything that is kept of it beside its evidence at the last
/// inspection.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Record<At = Timestamp> {
    /// Numbers by which the signal raised the alarm.
    pub alarm: Vec<Measured>,
    /// First verdict. Later inspections leave it alone.
    pub first: FirstVerdict<At>,
    /// Lines of the class list as the last inspection evaluated them, up to the line that fits.
    pub lines: Vec<VerdictLine>,
    /// Pending class: another class that the last inspections found; `null` when the last one agreed.
    pub doubt: Option<PendingClass>,
    /// Rates of the 10 s before the incident began; `null` where they are not known.
    pub before: Option<Rates>,
    /// Counters and signals at the alarm; `null` for an incident of no listener.
    pub at_alarm: Option<Moment<At>>,
    /// Counters and signals at the last inspection; `null` for an incident of no listener.
    pub at_last: Option<Moment<At>>,
    /// Rates of the last 10 s before the end; `null` while the incident is open.
    pub after: Option<Rates>,
    /// Rules of the incident, those that have ended first.
    pub rules: Vec<RuleRecord<At>>,
    /// Number of further rules, which `rules` does not list.
    pub more_rules: u64,
    /// Number of hits of these further rules.
    pub more_hits: u64,
    /// Mitigations beside rules that were active for the listener while the incident was open.
    pub mitigations: Vec<Mitigation>,
    /// Reason why no rule is asked for; `null` where one is, or where none is considered.
    pub no_rule: Option<Restraint>,
    /// The rule that an operator removed last and that has not been made again; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<RemovedRule<At>>,
    /// Reason why no mitigation beside rules is asked for; `null` where one is active, or where none is considered.
    pub no_mitigation: Option<Restraint>,
    /// Headers of SYNs to the listener from the first second after the first verdict, at most 16, and fewer
    /// where more would not fit in 9 KiB. They may be of the flood or of clients.
    pub syn_headers: Vec<SynHeader<At>>,
    /// Maximum number of entries in `rules` and in the lists of sources, networks, signatures and TTLs of
    /// `evidence`; lower than 16 where more would not fit in 9 KiB.
    pub lists_hold: u32,
}

map_time!(
    Record: first, at_alarm, at_last, rules, removed, syn_headers;
    alarm, lines, doubt, before, after, more_rules, more_hits, mitigations, no_rule,
    no_mitigation, lists_hold
);

/// The first verdict on an incident.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FirstVerdict<At = Timestamp> {
    /// Time of the verdict.
    pub at: At,
    /// Class of the incident.
    pub class: IncidentClass,
    /// Indicators that held then.
    pub indicators: Vec<IndicatorName>,
}

map_time!(FirstVerdict: at; class, indicators);

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
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RuleRecord<At = Timestamp> {
    /// Number of the rule.
    pub id: RuleId,
    /// `source` or `signature`.
    pub kind: Mitigation,
    /// Matcher of the rule, in words.
    pub matches: String,
    /// Reason for which the rule was made.
    pub reason: RuleReason,
    /// Time at which the rule was made.
    pub created_at: At,
    /// Time at which the rule ended; `null` if it lasted as long as its attack.
    pub ended_at: Option<At>,
    /// Number of SYNs that the rule dropped, or would have dropped in observe mode.
    pub hits: u64,
    /// Number of SYNs that matched and passed because they were retransmitted.
    pub accepted_retransmits: u64,
    /// Number of handshakes that new clients completed after such a SYN had passed.
    #[serde(default)]
    pub completed: u64,
}

map_time!(
    RuleRecord: created_at, ended_at;
    id, kind, matches, reason, hits, accepted_retransmits, completed
);

/// A rule of an incident that an operator removed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RemovedRule<At = Timestamp> {
    /// Number of the rule.
    pub id: RuleId,
    /// The mitigation that makes such rules: `tcpguard mitigation LISTENER STEP auto` has it made again.
    pub mitigation: Mitigation,
    /// Time of its removal.
    pub at: At,
    /// Time until which it is not made again, unless the operator leaves it to the agent earlier.
    pub until: At,
}

map_time!(RemovedRule: at, until; id, mitigation);

impl Record {
    /// A record that begins with the first verdict.
    pub(crate) fn new(
        alarm: Vec<Measured>,
        before: Option<Rates>,
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
            syn_headers: Vec::new(),
            lists_hold: RULES as u32,
        }
    }

    /// Takes a rule over. Of too many those with the most hits stay.
    pub(crate) fn keep_rule(&mut self, rule: RuleReport, ended: Option<Timestamp>) {
        self.rules.push(RuleRecord {
            id: rule.id,
            kind: rule.kind,
            matches: rule.matches,
            reason: rule.reason,
            created_at: rule.created_at,
            ended_at: ended,
            hits: rule.hits,
            accepted_retransmits: rule.accepted_retransmits,
            completed: rule.completed,
        });
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
        self.syn_headers.len() < HEADERS
    }

    /// Keeps a header if there is room for it.
    pub(crate) fn keep_header(&mut self, header: SynHeader) {
        if self.lacks_headers() {
            self.syn_headers.push(header);
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
            indicators: Vec::new(),
        };
        Record::new(Vec::new(), None, None, first)
    }

    fn rule(id: u32, hits: u64) -> RuleReport {
        RuleReport {
            id: RuleId(id),
            kind: Mitigation::Source,
            matches: String::new(),
            ports: crate::input::Ports::EVERY,
            origin: crate::rules::RuleOrigin::Incident,
            incident: Some(1),
            reason: RuleReason::Found,
            created_at: Timestamp::default(),
            expires_at: Timestamp::default(),
            expires_in_s: 0,
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
