//! Upkeep at every poll: keeping rules as planned and samples of the right size, cleaning up a flood's
//! half-open entries, and asking questions as often as the situation needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Engine;
use super::monitor::ListenerMonitor;
use super::rollup::signature;
use crate::evidence::Severity;
use crate::incident::{
    Event, Fallback, Incident, IncidentReport, Instead, NamedRule, RuleObstacle, Target,
};
use crate::input::{ListenerId, Matcher, Mitigation, Mode, Origin, POLL, RuleId, Timestamp};
use crate::mitigation::{CleanUp, MITIGATION_RETRY, Newest};
use crate::output::Command;
use crate::policy::clean_age;
use crate::rules::{COMPLETED_WINDOW, Change, Entry, Life, RemovalReason, RuleTable, Wanted, plan};

/// Interval of the questions in calm: often enough to learn and to see a queue fill, rare enough to cost nothing.
pub(super) const CALM: Duration = Duration::from_secs(5);
/// Interval of the questions during an incident.
const BUSY: Duration = Duration::from_secs(1);
/// Time after an alarm or a new rule in which every poll counts.
const URGENT: Duration = Duration::from_secs(5);
/// Half-open entries removed at a time: each costs a message to the kernel.
pub(super) const CLEAN_LIMIT: u32 = 4096;
/// Listeners of which the queues are cleaned up in a poll: each costs a walk over the host's sockets.
pub(super) const CLEANED_AT_ONCE: usize = 64;

impl Engine {
    /// Brings the kernel's rules to the planned state.
    pub(super) fn carry_out_plan(&mut self, now: Timestamp) {
        self.forget_expired(now);
        self.hold_back();
        let mut removal_reasons = BTreeMap::new();
        for incident in self.open_incidents_mut() {
            removal_reasons.append(&mut incident.removal_reasons);
        }
        self.removal_reasons.append(&mut removal_reasons);
        self.reclaim_orphans();
        for change in plan(now, &self.wanted(), &self.removal_reasons, &self.rule_table) {
            match change {
                Change::Remove(id, why) => self.remove_rule(now, id, why),
                Change::Install(wanted) => self.install_rule(now, wanted),
                Change::Renew(id, expires) => self.renew_rule(id, expires),
                Change::RollBack(id) => self.roll_back(now, id),
            }
        }
        self.removal_reasons.clear();
    }

    /// Rules that incidents want, by incident.
    fn wanted(&self) -> Vec<Wanted> {
        if self.mode == Mode::Off {
            return Vec::new();
        }
        let mut incidents: Vec<&Incident> = self.open_incidents().collect();
        incidents.sort_by_key(|incident| incident.id());
        incidents.into_iter().flat_map(Incident::wanted).cloned().collect()
    }

    /// A rule that nothing hits is no longer wanted by the evidence that made it.
    fn forget_expired(&mut self, now: Timestamp) {
        let over = |entry: &&Entry| entry.ttl.is_some() && entry.rule.expires <= now;
        let expired: Vec<Matcher> =
            self.rule_table.iter().filter(over).map(|entry| entry.rule.matcher).collect();
        for matcher in &expired {
            for incident in self.open_incidents_mut() {
                incident.forget(matcher, RemovalReason::NoHits);
            }
        }
    }

    fn install_rule(&mut self, now: Timestamp, wanted: Wanted) {
        let origin = Origin::Incident(wanted.incident);
        let life = Life::WhileNeeded(wanted.ttl);
        let entry = self.rule_table.add(now, wanted.matcher, origin, wanted.reason.clone(), life);
        let rule = entry.map(|entry| entry.rule.clone());
        if self.mode == Mode::Enforce
            && rule.is_some()
            && let Some(id) = self.alerts_for(wanted.incident)
            && let Some(monitor) = self.monitors.get_mut(&id)
        {
            monitor.try_out(now, Newest::Rule(wanted.matcher));
        }
        let Some(rule) = rule else {
            let why = RuleObstacle::SlotsTaken;
            self.note(now, wanted.incident, Event::RuleDeclined { target: None, why });
            return;
        };
        let event = Event::RuleInstalled {
            rule: NamedRule { id: rule.id, target: Target::of(&rule.matcher) },
            origin: rule.origin.clone(),
            reason: wanted.reason,
            mode: self.mode,
            terms: None,
        };
        self.commands.push_back(Command::InstallRule(rule));
        self.note(now, wanted.incident, event.clone());
        self.alert_rule(Severity::Notice, event, Some(wanted.incident));
    }

    /// The listener at which clients show whether a rule of an incident keeps them out: its own, or the one
    /// with the most clients of those that are reported together.
    fn alerts_for(&self, incident: u64) -> Option<ListenerId> {
        let own = |monitor: &&ListenerMonitor| {
            monitor.incident.as_deref().is_some_and(|open| open.id() == incident)
        };
        if let Some(monitor) = self.monitors.values().find(own) {
            return Some(monitor.id);
        }
        let rolled = self.rolled.as_ref().filter(|rolled| rolled.incident.id() == incident)?;
        let baseline = |id: &ListenerId| {
            self.monitors.get(id).and_then(|monitor| monitor.baseline_completed()).unwrap_or(0.0)
        };
        rolled.failing().max_by(|one, other| baseline(one).total_cmp(&baseline(other)))
    }

    pub(super) fn remove_rule(&mut self, now: Timestamp, id: RuleId, why: RemovalReason) {
        let Some(entry) = self.rule_table.remove(id) else { return };
        for monitor in self.monitors.values_mut() {
            monitor.ladder.breaker.forget(&Newest::Rule(entry.rule.matcher));
        }
        self.note_end(now, &entry, &why);
        self.commands.push_back(Command::RemoveRule { rule: entry.rule, why });
    }

    /// Remembers that a rule has ended, where that matters later.
    pub(super) fn note_end(&mut self, now: Timestamp, entry: &Entry, why: &RemovalReason) {
        if let (Matcher::Source(net, _), Some(ttl)) = (entry.rule.matcher, entry.ttl) {
            self.recurrence.ended(now, net, ttl);
        }
        if let Some(incident) = entry.incident() {
            let rule = NamedRule { id: entry.rule.id, target: Target::of(&entry.rule.matcher) };
            let event = Event::RuleRemoved { rules: 1, rule: Some(rule), why: why.clone() };
            self.note(now, incident, event);
            let report = self.rule_report(entry);
            if let Some(open) = self.open_incident(incident) {
                open.keep_rule(now, report);
            }
        }
    }

    pub(super) fn renew_rule(&mut self, id: RuleId, expires: Timestamp) {
        if let Some(entry) = self.rule_table.entry_mut(id) {
            entry.rule.expires = expires;
            self.commands.push_back(Command::RenewRule { id, expires });
        }
    }

    /// Withdraws rules that drop the SYNs of clients in number, where something else can replace them. Where
    /// nothing can, such clients get in with their first retransmission, and the rule stays or is restored: without
    /// it no client would connect.
    pub(super) fn withdraw_harmful_rules(&mut self, now: Timestamp) {
        let enforced = self.mode == Mode::Enforce;
        if enforced {
            self.reclaim_yielded(now);
        }
        let hurting = self.rule_table.iter().filter_map(|entry| {
            let instead = self.instead_of(now, entry)?;
            Some((entry.clone(), instead))
        });
        let hurting: Vec<(Entry, Instead)> = hurting.collect();
        for (entry, instead) in hurting {
            let why = RemovalReason::MatchesClients {
                accepted: enforced.then(|| entry.meter.accepted_retransmits()),
                completed: entry.meter.completed(),
                hits: entry.meter.hits(),
            };
            if self.rule_table.disown(&entry.rule.matcher) {
                self.removal_reasons.insert(entry.rule.matcher, why.clone());
            }
            // The next one rests on this host's own evidence.
            let is_hinted = entry.rests_on_hint();
            if is_hinted && let Matcher::Signature { mask, fingerprint, .. } = entry.rule.matcher {
                self.hints.refute(now, mask, fingerprint);
                self.postpone(&entry.rule.matcher, now + MITIGATION_RETRY, &why);
            }
            for incident in self.open_incidents_mut() {
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
                self.note(now, incident, event.clone());
            }
            self.alert_rule(Severity::Warning, event, entry.incident());
        }
    }

    /// Has incidents ask again for rules that made way for clients, where nothing replaces them.
    fn reclaim_yielded(&mut self, now: Timestamp) {
        for monitor in self.monitors.values_mut() {
            if monitor.incident.is_none() || monitor.is_answered(now) {
                continue;
            }
            let unanswered = monitor.window.last(POLL).unanswered > 0;
            monitor.incident.iter_mut().for_each(|incident| incident.reclaim(unanswered));
        }
        let Some(rolled) = &mut self.rolled else { return };
        let failing: Vec<&ListenerMonitor> =
            rolled.failing().filter_map(|id| self.monitors.get(&id)).collect();
        if failing.iter().all(|monitor| monitor.is_answered(now)) {
            return;
        }
        let unanswered = failing.iter().any(|monitor| monitor.window.last(POLL).unanswered > 0);
        rolled.incident.reclaim(unanswered);
    }

    /// The replacement for a rule that drops many SYNs of clients, should it go; `None` where there is none,
    /// or it drops none.
    fn instead_of(&self, now: Timestamp, entry: &Entry) -> Option<Instead> {
        let matcher = &entry.rule.matcher;
        // Where rules only count, clients are answered anyway.
        let enforced = self.mode == Mode::Enforce;
        // A few clients outweigh a hint of other hosts.
        if entry.rests_on_hint() && entry.hits_clients(now) {
            return Some(Instead::Nothing);
        }
        if entry.is_harmful(now) && (!enforced || self.is_answered(now, matcher)) {
            return Some(Instead::Cookies);
        }
        if !entry.hits_mostly_clients(now) {
            return None;
        }
        let span = COMPLETED_WINDOW;
        let served = |monitor: &ListenerMonitor| monitor.window.last(span).unanswered == 0;
        self.concerned(matcher).all(served).then_some(Instead::Nothing)
    }

    /// The listeners for which a rule is there.
    fn concerned<'a>(&'a self, matcher: &'a Matcher) -> impl Iterator<Item = &'a ListenerMonitor> {
        let rolled = self.rolled.as_ref().map(|rolled| &rolled.incident);
        self.monitors.values().filter(move |monitor| match matcher {
            Matcher::Signature { listener: ListenerId::HOST, .. } => monitor.shares_rules(),
            Matcher::Signature { listener, .. } => *listener == monitor.id,
            Matcher::Source(..) => {
                let incident =
                    if monitor.rolled.is_some() { rolled } else { monitor.incident.as_deref() };
                incident.is_some_and(|incident| incident.wants(matcher))
            }
        })
    }

    /// Returns whether cookies answer the SYNs that a signature rule drops.
    fn is_answered(&self, now: Timestamp, matcher: &Matcher) -> bool {
        if matches!(matcher, Matcher::Source(..)) {
            return false;
        }
        let mut concerned = self.concerned(matcher).peekable();
        concerned.peek().is_some() && concerned.all(|monitor| monitor.is_answered(now))
    }

    /// Counts the completed handshakes of retransmitted SYNs that signature rules or the SYN rate limit have let pass.
    pub(super) fn count_completing(&mut self, now: Timestamp) {
        // In the other modes nothing is dropped.
        let enforced = self.mode == Mode::Enforce;
        let monitors = self.monitors.values().filter(|_| enforced);
        let completing = monitors.filter_map(|monitor| {
            // For a rule for every listener it is not known at which of them they complete.
            let own = active_rules(monitor, &self.rule_table).filter(|entry| !entry.is_shared());
            // Where only a sample of the dropped SYNs is remembered, each that is counted stands for many.
            let all = monitor.completing_rate();
            let by_rules = own.map(|entry| entry.completing(now)).sum::<f64>().min(all);
            let rate = match monitor.ladder.has(Mitigation::Budget) {
                true => by_rules.max(all.min(monitor.free_slots(now).into())),
                false => by_rules,
            };
            (rate > 0.0).then_some((monitor.listener, rate))
        });
        self.completing = completing.collect();
    }

    /// Ends the requests of all incidents for this rule, for good.
    pub(super) fn refuse(&mut self, matcher: &Matcher, why: &RemovalReason) {
        if self.rule_table.disown(matcher) {
            self.removal_reasons.insert(*matcher, why.clone());
        }
        for incident in self.open_incidents_mut() {
            if incident.wants(matcher) {
                incident.refuse(matcher, why.clone());
            }
        }
    }

    /// Ends the requests of all incidents for this rule until `until`.
    pub(super) fn postpone(&mut self, matcher: &Matcher, until: Timestamp, why: &RemovalReason) {
        for incident in self.open_incidents_mut() {
            if incident.wants(matcher) {
                incident.forget(matcher, why.clone());
                incident.postpone(matcher, until);
            }
        }
    }

    fn note(&mut self, now: Timestamp, incident: u64, event: Event) {
        if let Some(incident) = self.open_incident(incident) {
            incident.note(now, event);
        }
    }

    fn open_incident(&mut self, id: u64) -> Option<&mut Incident> {
        self.open_incidents_mut().find(|open| open.id() == id)
    }

    /// The open incident with this number, as it is now.
    fn open_report(&self, id: u64) -> Option<IncidentReport> {
        if self.rolled.as_ref().is_some_and(|rolled| rolled.incident.id() == id) {
            return self.rolled_report(None);
        }
        let is_it = |monitor: &&ListenerMonitor| {
            monitor.incident.as_deref().is_some_and(|open| open.id() == id)
        };
        self.incident_report(self.monitors.values().find(is_it)?.id, None)
    }

    /// Reports an event about a rule, and the incident for which it was made.
    pub(super) fn alert_rule(&mut self, severity: Severity, event: Event, incident: Option<u64>) {
        if let Some(id) = incident
            && let Some(open) = self.open_incident(id)
        {
            open.note_actions_notified();
        }
        let incident = incident.and_then(|id| self.open_report(id));
        self.alert(severity, event, incident);
    }

    /// Tracks as many flows as can be tracked.
    pub(super) fn adapt_sampling(&mut self, now: Timestamp, syn_rate: f64, shift: u8) {
        if let Some(shift) = self.sampling.poll(now, syn_rate, shift) {
            self.command_once(Command::SetSampling { shift });
        }
    }

    /// Listeners from which rules keep SYNs away.
    pub(super) fn mitigated(&self) -> BTreeSet<ListenerId> {
        let inherited = |monitor: &ListenerMonitor| {
            self.rule_table.orphans().any(|entry| match entry.rule.matcher {
                Matcher::Source(..) => true,
                Matcher::Signature { listener: ListenerId::HOST, .. } => true,
                Matcher::Signature { listener, .. } => listener == monitor.id,
            })
        };
        let acting = |monitor: &&ListenerMonitor| {
            self.mode == Mode::Enforce
                && (active_rules(monitor, &self.rule_table).next().is_some()
                    || monitor.ladder.keeps_syns_away()
                    || inherited(monitor))
        };
        self.monitors.values().filter(acting).map(|monitor| monitor.id).collect()
    }

    /// Has the half-open entries removed that keep clients out of the queues of local listeners, for another
    /// minute: those that a flood left before a rule or a mitigation acted on it, and old ones in a queue that
    /// turns clients away.
    pub(super) fn clean_half_open(&mut self, now: Timestamp) {
        if self.mode != Mode::Enforce {
            return;
        }
        let mut waiting: Vec<(Timestamp, ListenerId)> = self
            .monitors
            .values()
            .filter(|monitor| self.is_to_be_cleaned(now, monitor))
            .map(|monitor| (monitor.cleaned, monitor.id))
            .collect();
        waiting.sort_unstable();
        for (_, listener) in waiting.into_iter().take(CLEANED_AT_ONCE) {
            let Some(monitor) = self.monitors.get_mut(&listener) else { continue };
            let (ruled, stepped) = acting_since(monitor, &self.rule_table);
            // A SYN that a rule has let pass since was let in on purpose, whatever mitigation is active.
            let acting = ruled.or(stepped).map(|since| since.max(self.enforced));
            let answered_before = acting.unwrap_or_default();
            // Under a budget the flood's few first SYNs would take half of the queue in the end.
            let scarce = monitor.turns_clients_away(now) || monitor.ladder.has(Mitigation::Budget);
            let all_before = match scarce {
                true => now,
                false => stepped.map_or(Timestamp::default(), |_| answered_before),
            };
            let rules = || active_rules(monitor, &self.rule_table);
            let sources = rules().filter_map(|entry| entry.rule.matcher.prefix());
            let clean_up = CleanUp {
                signatures: rules().filter_map(signature).collect(),
                sources: sources.collect(),
                answered_before,
                older_than: clean_age(monitor.rtt()),
                all_before,
            };
            let limit = CLEAN_LIMIT;
            self.commands.push_back(Command::CleanHalfOpen { listener, clean_up, limit });
            monitor.cleaned = now;
        }
    }

    /// Returns whether it is time to remove the entries that keep clients out of a listener's queue.
    fn is_to_be_cleaned(&self, now: Timestamp, monitor: &ListenerMonitor) -> bool {
        if !monitor.queues_here() {
            return false;
        }
        let (ruled, stepped) = acting_since(monitor, &self.rule_table);
        let Some(newest) = ruled.max(stepped).filter(|_| monitor.class().is_some()) else {
            return monitor.turns_clients_away(now) && due(now, monitor.cleaned, BUSY, POLL);
        };
        let since = newest.max(self.enforced);
        let empty = monitor.half_open().is_some_and(|(half_open, _)| half_open == 0)
            && monitor.counted > since;
        let pace = if now.since(since) < URGENT { POLL } else { BUSY };
        !empty && due(now, monitor.cleaned, pace, POLL)
    }

    /// Asks for the length of SYN queues.
    pub(super) fn ask_for_counts(&mut self, now: Timestamp) {
        let local = self.monitors.values().filter(|monitor| monitor.queues_here());
        let rests = due(now, self.counted, CALM, POLL)
            && self.monitors.any_rests(ListenerMonitor::queues_here);
        let resting = rests.then_some(CALM);
        let pace = |monitor: &ListenerMonitor| match monitor.asks_for_count() {
            true => BUSY.min(self.pace(now, monitor)),
            false => self.pace(now, monitor),
        };
        let Some(pace) = local.map(pace).chain(resting).min() else { return };
        let pace = if self.uncounted { POLL } else { pace };
        if due(now, self.counted, pace, POLL) {
            self.counted = now;
            self.command_once(Command::CountHalfOpen);
        }
    }

    /// Asks for the sampled flows.
    pub(super) fn ask_for_flows(&mut self, now: Timestamp) {
        let pace = |monitor: &ListenerMonitor| match monitor.asks_for_routes(now) {
            true => POLL,
            false => self.pace(now, monitor),
        };
        let resting = self.monitors.any_rests(|_| true).then_some(CALM);
        let paces = self.monitors.values().map(pace).chain(resting);
        let Some(pace) = paces.min() else { return };
        if due(now, self.inspected, pace, POLL) {
            self.inspected = now;
            self.command_once(Command::InspectFlows);
        }
    }

    /// Interval between inspections of a listener. A young incident is inspected at every poll.
    fn pace(&self, now: Timestamp, monitor: &ListenerMonitor) -> Duration {
        match monitor.alarmed() {
            Some(alarmed) if now.since(alarmed) < URGENT => POLL,
            Some(_) => BUSY,
            None if monitor.is_suspicious() => POLL,
            None if monitor.needs_rtt() || monitor.is_evaded() => BUSY,
            None if monitor.is_queue_full(now) => BUSY,
            None => CALM,
        }
    }
}

/// The rules that exist because of the incident in which a listener is reported. Those for every listener are among
/// them where they act against its flood.
pub(super) fn active_rules<'a>(
    monitor: &'a ListenerMonitor,
    rule_table: &'a RuleTable,
) -> impl Iterator<Item = &'a Entry> {
    let wanted = monitor.incident.as_deref().into_iter().flat_map(Incident::wanted);
    let own = wanted.filter_map(|wanted| rule_table.find(&wanted.matcher));
    // Of a time in which its incident was its own.
    let kept = monitor.rolled.map(|_| rule_table.signatures_of(monitor.id)).into_iter().flatten();
    let shared = monitor.shares_rules().then(|| rule_table.signatures_of(ListenerId::HOST));
    own.chain(kept).chain(shared.into_iter().flatten())
}

/// Returns the time since which the newest of a listener's rules has acted, and that since which the newest
/// of the mitigations that keep SYNs from its stack has been active.
pub(super) fn acting_since(
    monitor: &ListenerMonitor,
    rule_table: &RuleTable,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let mitigations = [Mitigation::Cookies, Mitigation::Budget];
    let stepped =
        mitigations.into_iter().filter_map(|mitigation| monitor.ladder.since(mitigation)).max();
    let ruled = active_rules(monitor, rule_table).map(|entry| entry.rule.created).max();
    (ruled, stepped)
}

/// Returns whether `pace` has passed since `last`, give or take half a poll.
pub(super) fn due(now: Timestamp, last: Timestamp, pace: Duration, poll: Duration) -> bool {
    now.since(last) + poll / 2 >= pace
}
