//! Rules that an operator removes. One that was made for an attack is not made again at once, or it could
//! not be removed; but an operator's word never ends the defence against an attack.

use ipnet::IpNet;

use super::Engine;
use super::monitor::ALERT_WINDOW;
use crate::evidence::Severity;
use crate::incident::{Event, NamedRule, RemovedRule, Target};
use crate::input::{FleetName, ListenerId, Matcher, RuleId, Timestamp, Which, Whose};
use crate::output::{RequestError, Response};
use crate::rules::{Entry, RemovalReason, RuleReport};
use crate::settings::Limits;

/// Rules removed together that are reported one by one; more are reported in one line.
pub(super) const ALERTED_SINGLY: usize = 8;

impl Engine {
    pub(super) fn unblock(
        &mut self,
        now: Timestamp,
        which: Which,
        whose: Whose,
    ) -> Result<Response, RequestError> {
        let asked = |entry: &Entry| which.includes(entry) && whose.includes(entry);
        let removed: Vec<(Matcher, RuleReport)> = self
            .rule_table
            .iter()
            .filter(|entry| asked(entry))
            .map(|entry| (entry.rule.matcher, self.rule_report(entry)))
            .collect();
        if removed.is_empty() {
            return Err(self.not_found(which, whose));
        }
        for (matcher, report) in &removed {
            self.give_up(now, report.id, matcher);
        }
        // The fleet repeats its rules.
        let of_fleet = self.rule_table.of_fleet().filter(|(entry, _)| asked(entry));
        let names: Vec<FleetName> = of_fleet.map(|(_, name)| name.clone()).collect();
        for name in names {
            self.fleet.overrule(now, name, now + Limits::MAX_ALLOW);
        }
        if which == Which::All {
            let staying = self.rule_table.only(|entry| !whose.includes(entry));
            self.replace_rules(now, staying, RemovalReason::Operator);
        } else {
            for (_, report) in &removed {
                self.remove_rule(now, report.id, RemovalReason::Operator);
            }
        }
        if removed.len() > ALERTED_SINGLY {
            let (rules, why) = (removed.len() as u64, RemovalReason::Operator);
            let event = Event::RuleRemoved { rules, rule: None, why };
            self.alert(Severity::Notice, event, None);
        } else {
            for (matcher, report) in &removed {
                let rule = Some(NamedRule { id: report.id, target: Target::of(matcher) });
                let event = Event::RuleRemoved { rules: 1, rule, why: RemovalReason::Operator };
                self.alert_rule(Severity::Notice, event, report.incident);
            }
        }
        Ok(Response::Unblocked(removed.into_iter().map(|(_, report)| report).collect()))
    }

    /// No incident asks for this rule for a while, nor takes it over from an earlier run.
    fn give_up(&mut self, now: Timestamp, id: RuleId, matcher: &Matcher) {
        let orphan = self.rule_table.disown(matcher);
        if orphan {
            self.removal_reasons.insert(*matcher, RemovalReason::Operator);
        }
        let mitigation = matcher.mitigation();
        let removed = RemovedRule { id, mitigation, at: now, until: now + Limits::REMOVED };
        let of = |id: ListenerId| match matcher {
            Matcher::Source(..) => true,
            Matcher::Signature { listener, .. } => *listener == id,
        };
        for incident in self.open_incidents_mut() {
            if incident.wants(matcher) || (orphan && of(incident.listener_id())) {
                incident.give_up(matcher, removed.clone());
            }
        }
    }

    /// Incidents ask again for the rules that an operator removed, if the evidence does.
    pub(super) fn take_up_removed(&mut self, now: Timestamp) {
        let until = now + ALERT_WINDOW;
        self.monitors.values_mut().for_each(|monitor| monitor.take_up(until, None));
        if let Some(rolled) = &mut self.rolled {
            rolled.incident.take_up(None);
        }
    }

    fn not_found(&self, which: Which, whose: Whose) -> RequestError {
        let mut asked = self.rule_table.iter().filter(|entry| whose.includes(entry));
        let wider = asked.find_map(|entry| match (which, entry.rule.matcher) {
            (Which::Within(net), Matcher::Source(rule, _)) if rule.contains(&net) => {
                Some((entry.rule.id, rule))
            }
            _ => None,
        });
        let automatic = match whose {
            Whose::Operators => {
                let of_incidents = |entry: &&Entry| Whose::Incidents.includes(entry);
                self.rule_table.iter().filter(of_incidents).filter(|e| which.includes(e)).count()
            }
            Whose::Incidents | Whose::Fleet | Whose::All => 0,
        };
        RequestError::NotFound { which, whose, wider, automatic: automatic as u32 }
    }
}

impl Which {
    fn includes(self, entry: &Entry) -> bool {
        match self {
            Self::Within(net) => lies_within(&net, entry),
            Self::Numbered(id) => entry.rule.id == id,
            Self::All => true,
        }
    }
}

impl Whose {
    fn includes(self, entry: &Entry) -> bool {
        match self {
            Self::Operators => entry.is_operators(),
            Self::Incidents => entry.incident().is_some(),
            Self::Fleet => entry.fleet().is_some(),
            Self::All => true,
        }
    }
}

/// Returns whether it is a rule on sources that all lie within `net`.
pub(super) fn lies_within(net: &IpNet, entry: &Entry) -> bool {
    entry.rule.matcher.prefix().is_some_and(|source| net.contains(&source))
}
