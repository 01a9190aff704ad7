//! Keeping the rules in the kernel as planned.

use std::collections::BTreeMap;

use super::Engine;
use crate::incident::{
    Event, Fallback, Incident, Instead, NamedRule, RemovedRule, RuleObstacle, Target,
};
use crate::input::{ListenerId, Matcher, Mitigation, Mode, Origin, Rule, RuleId, Timestamp};
use crate::mitigation::{HeldBack, MITIGATION_RETRY, Newest};
use crate::output::Command;
use crate::rules::{Change, Entry, Life, RemovalReason, RuleTable, Wanted, plan};
use crate::settings::Limits;

impl Engine {
    /// Brings the kernel's rules to the planned state.
    pub(super) fn carry_out_plan(&mut self, now: Timestamp) {
        self.forget_expired(now);
        self.listeners.hold_back(&self.mandate);
        let mut removal_reasons = BTreeMap::new();
        for incident in self.listeners.open_incidents_mut() {
            removal_reasons.append(&mut incident.removal_reasons);
        }
        self.rules.removal_reasons.append(&mut removal_reasons);
        self.reclaim_orphans();
        let wanted = self.listeners.wanted(&self.mandate);
        for change in plan(now, &wanted, &self.rules.removal_reasons, &self.rules.table) {
            match change {
                Change::Remove(id, why) => self.remove_rule(now, id, why),
                Change::Install(wanted) => self.install_rule(now, wanted),
                Change::Renew(id, expires) => self.rules.renew(id, expires, &mut self.outbox),
                Change::RollBack(id) => self.roll_back(now, id),
            }
        }
        self.rules.removal_reasons.clear();
    }

    fn install_rule(&mut self, now: Timestamp, wanted: Wanted) {
        let origin = Origin::Incident(wanted.incident);
        let life = Life::WhileNeeded(wanted.ttl);
        let entry = self.rules.table.add(now, wanted.matcher, origin, wanted.reason.clone(), life);
        let rule = entry.map(|entry| entry.rule.clone());
        if self.mandate.enforces()
            && rule.is_some()
            && let Some(id) = self.listeners.alerts_for(wanted.incident)
            && let Some(monitor) = self.listeners.monitors.get_mut(&id)
        {
            monitor.try_out(now, Newest::Rule(wanted.matcher));
        }
        let Some(rule) = rule else {
            let why = RuleObstacle::SlotsTaken;
            self.listeners.note(now, wanted.incident, Event::RuleDeclined { target: None, why });
            return;
        };
        let event = Event::RuleInstalled {
            rule: NamedRule { id: rule.id, target: Target::of(&rule.matcher) },
            origin: rule.origin.clone(),
            reason: wanted.reason,
            mode: self.mandate.mode,
            terms: None,
        };
        self.outbox.push(Command::InstallRule(rule));
        self.listeners.note(now, wanted.incident, event.clone());
        self.alert_rule(event, Some(wanted.incident));
    }

    /// Withdraws rules that drop the SYNs of clients in number, where something else can replace them. Where
    /// nothing can, such clients get in with their first retransmission, and the rule stays or is restored: without
    /// it no client would connect.
    pub(super) fn withdraw_harmful_rules(&mut self, now: Timestamp) {
        let enforced = self.mandate.enforces();
        if enforced {
            self.listeners.reclaim_yielded(now);
        }
        let hurting = self.rules.table.iter().filter_map(|entry| {
            let instead = self.listeners.instead_of(now, entry, &self.mandate)?;
            Some((entry.clone(), instead))
        });
        let hurting: Vec<(Entry, Instead)> = hurting.collect();
        for (entry, instead) in hurting {
            let why = RemovalReason::MatchesClients {
                accepted: enforced.then(|| entry.meter.accepted_retransmits()),
                completed: entry.meter.completed(),
                hits: entry.meter.hits(),
            };
            self.rules.disown(&entry.rule.matcher, &why);
            // The next one rests on this host's own evidence.
            let is_hinted = entry.rests_on_hint();
            if is_hinted && let Matcher::Signature { mask, fingerprint, .. } = entry.rule.matcher {
                self.hinted.hints.refute(now, mask, fingerprint);
                self.listeners.postpone(&entry.rule.matcher, now + MITIGATION_RETRY, &why);
            }
            for incident in self.listeners.open_incidents_mut() {
                if incident.wants(&entry.rule.matcher) {
                    match instead {
                        Instead::Cookies if !enforced => {
                            incident.refuse(&entry.rule.matcher, why.clone());
                        }
                        _ => incident.yield_to(instead, &entry.rule.matcher, why.clone()),
                    }
                }
            }
            let then = match instead {
                _ if is_hinted => Fallback::Retry { after_s: MITIGATION_RETRY.as_secs() },
                Instead::Cookies => Fallback::Cookies,
                Instead::Nothing => Fallback::Nothing,
            };
            let rule = NamedRule { id: entry.rule.id, target: Target::of(&entry.rule.matcher) };
            let event = Event::RuleWithdrawn { rule, why, then };
            if let Some(incident) = entry.incident() {
                self.listeners.note(now, incident, event.clone());
            }
            self.alert_rule(event, entry.incident());
        }
    }

    /// Withdraws the automatic rules that touch an exempt prefix now, and the matchers for which incidents
    /// would make rules once the mode is no longer off.
    pub(super) fn release_exempt(&mut self, now: Timestamp) {
        let automatic = self.rules.table.iter().filter(|entry| entry.incident().is_some());
        let wanted = self.listeners.open_incidents().flat_map(Incident::wanted);
        let matchers = automatic.map(|entry| entry.rule.matcher);
        let touching: BTreeMap<Matcher, RemovalReason> = matchers
            .chain(wanted.map(|wanted| wanted.matcher))
            .filter_map(|matcher| {
                let Matcher::Source(net, _) = matcher else { return None };
                let (_, what) = self.rules.exempt.touched_by(&net)?;
                Some((matcher, RemovalReason::Exempt { what }))
            })
            .collect();
        for (matcher, why) in &touching {
            self.refuse(matcher, why);
        }
        if !touching.is_empty() {
            self.carry_out_plan(now);
        }
    }

    pub(super) fn remove_rule(&mut self, now: Timestamp, id: RuleId, why: RemovalReason) {
        let Some(entry) = self.rules.table.remove(id) else { return };
        for monitor in self.listeners.monitors.values_mut() {
            monitor.ladder.breaker.forget(&Newest::Rule(entry.rule.matcher));
        }
        self.note_end(now, &entry, &why);
        self.outbox.push(Command::RemoveRule { rule: entry.rule, why });
    }

    /// Remembers that a rule has ended, where that matters later.
    pub(super) fn note_end(&mut self, now: Timestamp, entry: &Entry, why: &RemovalReason) {
        if let (Matcher::Source(net, _), Some(ttl)) = (entry.rule.matcher, entry.ttl) {
            self.rules.recurrence.ended(now, net, ttl);
        }
        if let Some(incident) = entry.incident() {
            let rule = NamedRule { id: entry.rule.id, target: Target::of(&entry.rule.matcher) };
            let event = Event::RuleRemoved { rules: 1, rule: Some(rule), why: why.clone() };
            self.listeners.note(now, incident, event);
            let report = self.listeners.rule_report(now, entry);
            if let Some(open) = self.listeners.open_incident(incident) {
                open.keep_rule(now, report);
            }
        }
    }

    /// Makes `rule_table` the rules, in the kernel as well.
    pub(super) fn replace_rules(
        &mut self,
        now: Timestamp,
        rule_table: RuleTable,
        why: RemovalReason,
    ) {
        let removed = rule_table.missing_of(&self.rules.table);
        for entry in &removed {
            self.note_end(now, entry, &why);
        }
        let rules: Vec<Rule> = rule_table.iter().map(|entry| entry.rule.clone()).collect();
        let removed = removed.into_iter().map(|entry| entry.rule).collect();
        self.rules.replaced = Some(std::mem::replace(&mut self.rules.table, rule_table));
        self.outbox.push(Command::ReplaceRules { rules, removed, why });
    }

    /// Ends the requests of all incidents for this rule, for good.
    pub(super) fn refuse(&mut self, matcher: &Matcher, why: &RemovalReason) {
        self.rules.disown(matcher, why);
        for incident in self.listeners.open_incidents_mut() {
            if incident.wants(matcher) {
                incident.refuse(matcher, why.clone());
            }
        }
    }

    /// No incident asks for this rule for a while, nor takes it over from an earlier run.
    pub(super) fn give_up(&mut self, now: Timestamp, id: RuleId, matcher: &Matcher) {
        let orphan = self.rules.disown(matcher, &RemovalReason::Operator);
        let mitigation = matcher.mitigation();
        let removed = RemovedRule { id, mitigation, at: now, until: now + Limits::REMOVED };
        let of = |id: ListenerId| match matcher {
            Matcher::Source(..) => true,
            Matcher::Signature { listener, .. } => *listener == id,
        };
        for incident in self.listeners.open_incidents_mut() {
            if incident.wants(matcher) || (orphan && of(incident.listener_id())) {
                incident.give_up(matcher, removed.clone());
            }
        }
    }

    /// A rule that nothing hits is no longer wanted by the evidence that made it.
    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        let over = |entry: &&Entry| entry.ttl.is_some() && entry.rule.expires <= now;
        let expired: Vec<Matcher> =
            self.rules.table.iter().filter(over).map(|entry| entry.rule.matcher).collect();
        for matcher in &expired {
            for incident in self.listeners.open_incidents_mut() {
                incident.forget(matcher, RemovalReason::NoHits);
            }
        }
    }

    /// The rules of an earlier run become those of the incidents that ask for them. No incident asks for them
    /// in mode off, nor for those of a listener at which rules are held back or forbidden.
    pub(super) fn reclaim_orphans(&mut self) {
        let held_back = |by| RemovalReason::HeldBack { by };
        let unwanted = |matcher: &Matcher| match matcher {
            _ if self.mandate.mode == Mode::Off => Some(held_back(HeldBack::AgentOff)),
            Matcher::Signature { listener, .. } => {
                let monitor = self.listeners.monitors.get(listener)?;
                let forbidden = monitor.ladder.bars(Mitigation::Signature);
                let held_back = self.mandate.held_back(monitor.listener).map(held_back);
                held_back.or(forbidden.then_some(RemovalReason::Forbidden))
            }
            Matcher::Source(..) => None,
        };
        let orphans = self.rules.table.orphans().map(|entry| entry.rule.matcher);
        let orphans: Vec<(Matcher, RemovalReason)> =
            orphans.filter_map(|matcher| Some((matcher, unwanted(&matcher)?))).collect();
        for (matcher, why) in orphans {
            self.rules.disown(&matcher, &why);
        }
        let wanted = self.listeners.open_incidents().flat_map(Incident::wanted);
        self.rules.table.reclaim_orphans(wanted.map(|wanted| (&wanted.matcher, wanted.incident)));
    }

    /// Removes a rule that was not confirmed in time.
    pub(super) fn roll_back(&mut self, now: Timestamp, id: RuleId) {
        let Some(rule) = self.rules.table.entry_mut(id).map(|entry| entry.rule.clone()) else {
            return;
        };
        self.remove_rule(now, id, RemovalReason::Unconfirmed);
        self.rules.reverted(now, rule, &mut self.outbox);
    }
}
