//! What is done at every poll whatever happens: rules kept as planned, samples of the right size,
//! the flood's leavings cleaned up, and questions asked as often as the situation needs.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use super::Engine;
use crate::incident::{Incident, Instead};
use crate::ladder::Newest;
use crate::policy::{COOKIES_LEFT, clean_age, in_words};
use crate::rules::{Book, Change, Entry, Life, Wanted, plan};
use crate::watch::Watch;
use crate::{
    CleanUp, Command, ListenerId, ListenerKind, Matcher, Mode, Origin, RuleId, Severity, Step,
    Timestamp,
};

/// Questions in calm: often enough to learn and to see a queue fill, rare enough to cost nothing.
pub(super) const CALM: Duration = Duration::from_secs(5);
/// Questions during an incident.
const BUSY: Duration = Duration::from_secs(1);
/// For this long after an alarm or a new rule every poll counts.
const URGENT: Duration = Duration::from_secs(5);
/// Half-open entries removed at a time: each costs a message to the kernel.
const CLEAN_LIMIT: u32 = 4096;

impl Engine {
    /// Brings the kernel's rules to what is wanted.
    pub(super) fn carry_out_plan(&mut self, now: Timestamp) {
        self.forget_expired(now);
        self.hold_back();
        for watch in self.watches.values_mut() {
            if let Some(incident) = &mut watch.incident {
                self.farewells.append(&mut incident.farewells);
            }
        }
        self.settle_orphans();
        for change in plan(now, &self.wanted(), &self.farewells, &self.book) {
            match change {
                Change::Remove(id, why) => self.remove_rule(now, id, why),
                Change::Install(wanted) => self.install_rule(now, wanted),
                Change::Renew(id, expires) => self.renew_rule(id, expires),
                Change::RollBack(id) => self.roll_back(now, id),
            }
        }
        self.farewells.clear();
    }

    /// Rules that incidents want, by incident.
    fn wanted(&self) -> Vec<Wanted> {
        if self.mode == Mode::Off {
            return Vec::new();
        }
        let mut incidents: Vec<&Incident> =
            self.watches.values().filter_map(|watch| watch.incident.as_deref()).collect();
        incidents.sort_by_key(|incident| incident.id());
        incidents.into_iter().flat_map(Incident::wanted).cloned().collect()
    }

    /// A rule that nothing hits any more is not wanted by the evidence that made it.
    fn forget_expired(&mut self, now: Timestamp) {
        let over = |entry: &&Entry| entry.ttl.is_some() && entry.rule.expires <= now;
        let expired: Vec<Matcher> =
            self.book.iter().filter(over).map(|entry| entry.rule.matcher).collect();
        for matcher in &expired {
            for incident in
                self.watches.values_mut().filter_map(|watch| watch.incident.as_deref_mut())
            {
                incident.forget(matcher, "nothing hits it any more");
            }
        }
    }

    fn install_rule(&mut self, now: Timestamp, wanted: Wanted) {
        let origin = Origin::Incident(wanted.incident);
        let life = Life::WhileNeeded(wanted.ttl);
        let words = in_words(&wanted.matcher);
        let entry = self.book.add(now, wanted.matcher, origin, wanted.reason.clone(), life);
        if self.mode == Mode::Enforce && entry.is_some() {
            let with_it = |watch: &&mut Watch| {
                watch.incident.as_deref().is_some_and(|open| open.id() == wanted.incident)
            };
            if let Some(watch) = self.watches.values_mut().find(with_it) {
                let settings = self.settings.of(watch.listener);
                watch.try_out(now, Newest::Rule(wanted.matcher), settings);
            }
        }
        let Some(rule) = entry.map(|entry| entry.rule.clone()) else {
            self.note(now, wanted.incident, "no rule: all rule slots are taken".to_owned());
            return;
        };
        let does = match self.mode {
            Mode::Enforce => "drops",
            Mode::Observe | Mode::Off => "would drop",
        };
        let text = format!("rule {} {does} {words}: {}", rule.id.0, wanted.reason);
        self.commands.push_back(Command::InstallRule(rule));
        self.note(now, wanted.incident, text.clone());
        let (prefix, incident) = (wanted.matcher.prefix(), Some(wanted.incident));
        self.tell_of_rule(Severity::Notice, "rule_installed", text, prefix, incident);
    }

    pub(super) fn remove_rule(&mut self, now: Timestamp, id: RuleId, why: String) {
        let Some(entry) = self.book.remove(id) else { return };
        for watch in self.watches.values_mut() {
            watch.ladder.breaker.forget(&Newest::Rule(entry.rule.matcher));
        }
        self.note_end(now, &entry, &why);
        self.commands.push_back(Command::RemoveRule { rule: entry.rule, why });
    }

    /// Remembers that a rule has ended, where that matters later.
    pub(super) fn note_end(&mut self, now: Timestamp, entry: &Entry, why: &str) {
        if let (Matcher::Source(net, _), Some(ttl)) = (entry.rule.matcher, entry.ttl) {
            self.recurrence.ended(now, net, ttl);
        }
        if let Some(incident) = entry.incident() {
            self.note(now, incident, format!("rule {} removed: {why}", entry.rule.id.0));
            let report = self.rule_report(entry);
            if let Some(open) = self.open_incident(incident) {
                open.keep_rule(now, report);
            }
        }
    }

    pub(super) fn renew_rule(&mut self, id: RuleId, expires: Timestamp) {
        if let Some(entry) = self.book.entry_mut(id) {
            entry.rule.expires = expires;
            self.commands.push_back(Command::RenewRule { id, expires });
        }
    }

    /// Withdraws rules that drop the SYNs of clients in number, where there is something in their
    /// place. Where there is not, such clients get in with their first retransmission, and the rule
    /// stays or is restored: without it no client would connect.
    pub(super) fn withdraw_hurting(&mut self, now: Timestamp) {
        let enforced = self.mode == Mode::Enforce;
        if enforced {
            self.reclaim_yielded(now);
        }
        let hurting = self.book.iter().filter_map(|entry| {
            let instead = self.instead_of(now, entry)?;
            Some((entry.clone(), instead))
        });
        let hurting: Vec<(Entry, Instead)> = hurting.collect();
        for (entry, instead) in hurting {
            let (completed, hits) = (entry.meter.completed(), entry.meter.hits());
            let why = match enforced {
                true => format!(
                    "of {} SYNs that passed when they were retransmitted, {completed} completed a \
                     handshake, as clients' do (it hit {hits})",
                    entry.meter.returned()
                ),
                false => format!(
                    "{completed} clients completed a handshake whose SYN it would have dropped (it hit \
                     {hits})"
                ),
            };
            if self.book.disown(&entry.rule.matcher) {
                self.farewells.insert(entry.rule.matcher, why.clone());
            }
            for incident in
                self.watches.values_mut().filter_map(|watch| watch.incident.as_deref_mut())
            {
                if incident.wants(&entry.rule.matcher) {
                    match instead {
                        Instead::Cookies if !enforced => incident.refuse(&entry.rule.matcher, &why),
                        _ => incident.yield_to(instead, &entry.rule.matcher, &why),
                    }
                }
            }
            let left = match instead {
                Instead::Cookies => COOKIES_LEFT,
                Instead::Nothing => "hardly anything else hits it now",
            };
            let text = format!("rule {} withdrawn: {why}; {left}", entry.rule.id.0);
            if let Some(incident) = entry.incident() {
                self.note(now, incident, text.clone());
            }
            let prefix = entry.rule.matcher.prefix();
            self.tell_of_rule(Severity::Warning, "rule_withdrawn", text, prefix, entry.incident());
        }
    }

    /// Has incidents ask again for rules that made way for clients, where nothing replaces them.
    fn reclaim_yielded(&mut self, now: Timestamp) {
        for watch in self.watches.values_mut() {
            let settings = self.settings.of(watch.listener);
            if watch.incident.is_none() || watch.is_answered(now, self.saturated, settings) {
                continue;
            }
            let unanswered = watch.window.last(settings.poll).unanswered > 0;
            watch.incident.iter_mut().for_each(|incident| incident.reclaim(unanswered));
        }
    }

    /// What there is in the place of a rule that drops the SYNs of clients in number, should it go;
    /// `None` where there is nothing, or it drops none.
    fn instead_of(&self, now: Timestamp, entry: &Entry) -> Option<Instead> {
        let (settings, matcher) = (&self.settings.common, &entry.rule.matcher);
        // Where rules only count, clients are answered anyway.
        let enforced = self.mode == Mode::Enforce;
        if entry.hurts(now, settings) && (!enforced || self.is_answered(now, matcher)) {
            return Some(Instead::Cookies);
        }
        if !entry.hits_mostly_clients(now, settings) {
            return None;
        }
        let span = settings.completed_window;
        let served = |watch: &Watch| watch.window.last(span).unanswered == 0;
        self.concerned(matcher).all(served).then_some(Instead::Nothing)
    }

    /// The listeners for which a rule is there.
    fn concerned<'a>(&'a self, matcher: &'a Matcher) -> impl Iterator<Item = &'a Watch> {
        self.watches.values().filter(move |watch| match matcher {
            Matcher::Signature { listener, .. } => *listener == watch.id,
            Matcher::Source(..) => {
                watch.incident.as_deref().is_some_and(|incident| incident.wants(matcher))
            }
        })
    }

    /// Whether cookies answer what a signature rule drops, and can answer all of it.
    fn is_answered(&self, now: Timestamp, matcher: &Matcher) -> bool {
        let Matcher::Signature { listener, .. } = matcher else { return false };
        self.watches.get(listener).is_some_and(|watch| {
            watch.is_answered(now, self.saturated, self.settings.of(watch.listener))
        })
    }

    /// Counts the completed handshakes whose retransmitted SYNs signature rules have let pass.
    pub(super) fn count_completing(&mut self, now: Timestamp) {
        // In the other modes rules drop nothing. Where more arrive than can be answered, each that is counted may
        // stand for many.
        let enforced = self.mode == Mode::Enforce && !self.saturated;
        let watches = self.watches.values().filter(|_| enforced);
        let completing = watches.filter_map(|watch| {
            let rate: f64 =
                active_rules(watch, &self.book).map(|entry| entry.completing(now)).sum();
            (rate > 0.0).then_some((watch.listener, rate))
        });
        self.completing = completing.collect();
    }

    /// No incident asks for this rule any more, nor will.
    pub(super) fn refuse(&mut self, matcher: &Matcher, why: &str) {
        if self.book.disown(matcher) {
            self.farewells.insert(*matcher, why.to_owned());
        }
        for incident in self.watches.values_mut().filter_map(|watch| watch.incident.as_deref_mut())
        {
            if incident.wants(matcher) {
                incident.refuse(matcher, why);
            }
        }
    }

    /// No incident asks for this rule before `until`.
    pub(super) fn postpone(&mut self, matcher: &Matcher, until: Timestamp, why: &str) {
        for incident in self.watches.values_mut().filter_map(|watch| watch.incident.as_deref_mut())
        {
            if incident.wants(matcher) {
                incident.forget(matcher, why);
                incident.postpone(matcher, until);
            }
        }
    }

    fn note(&mut self, now: Timestamp, incident: u64, text: String) {
        if let Some(incident) = self.open_incident(incident) {
            incident.note(now, text);
        }
    }

    fn open_incident(&mut self, id: u64) -> Option<&mut Incident> {
        let mut open = self.watches.values_mut().filter_map(|watch| watch.incident.as_deref_mut());
        open.find(|open| open.id() == id)
    }

    pub(super) fn tell_of_rule(
        &mut self,
        severity: Severity,
        event: &'static str,
        message: String,
        prefix: Option<IpNet>,
        incident: Option<u64>,
    ) {
        let open = |watch: &&Watch| {
            watch.incident.as_deref().is_some_and(|open| Some(open.id()) == incident)
        };
        let listener = self.watches.values().find(open).map(|watch| watch.id);
        if let Some(incident) = listener
            .and_then(|id| self.watches.get_mut(&id))
            .and_then(|watch| watch.incident.as_deref_mut())
        {
            incident.actions_told();
        }
        let incident = listener.and_then(|id| self.incident_report(id, None)).map(Box::new);
        self.commands.push_back(Command::Alert { severity, event, message, prefix, incident });
    }

    /// Follows as many flows as can be followed.
    pub(super) fn adapt_sampling(&mut self, now: Timestamp, syn_rate: f64, shift: u8) {
        if let Some(shift) = self.sampling.poll(now, syn_rate, shift, &self.settings.common) {
            self.command_once(Command::SetSampling { shift });
        }
    }

    /// Listeners from which rules keep SYNs away.
    pub(super) fn mitigated(&self) -> BTreeSet<ListenerId> {
        let inherited = |watch: &Watch| {
            self.book.orphans().any(|entry| match entry.rule.matcher {
                Matcher::Source(..) => true,
                Matcher::Signature { listener, .. } => listener == watch.id,
            })
        };
        let acting = |watch: &&Watch| {
            self.mode == Mode::Enforce
                && (active_rules(watch, &self.book).next().is_some()
                    || watch.ladder.keeps_syns_away()
                    || inherited(watch))
        };
        self.watches.values().filter(acting).map(|watch| watch.id).collect()
    }

    /// Has the half-open entries removed that a flood left in the queues of local listeners: they
    /// would keep clients out for another minute.
    pub(super) fn clean_half_open(&mut self, now: Timestamp) {
        if self.mode != Mode::Enforce {
            return;
        }
        for watch in self.watches.values_mut() {
            let Some(incident) = &watch.incident else { continue };
            let steps = [Step::Cookies, Step::Overload, Step::Budget];
            let steps = steps.into_iter().filter_map(|step| watch.ladder.since(step)).max();
            let ruled = active_rules(watch, &self.book).map(|entry| entry.rule.created).max();
            let Some(newest) = ruled.max(steps) else { continue };
            let since = newest.max(self.enforced);
            let empty = watch.half_open().is_some_and(|(half_open, _)| half_open == 0)
                && watch.counted > since;
            let settings = self.settings.of(watch.listener);
            let pace = if now.since(since) < URGENT { settings.poll } else { BUSY };
            if watch.kind != ListenerKind::Local
                || empty
                || !due(now, watch.cleaned, pace, settings.poll)
            {
                continue;
            }
            let sources =
                active_rules(watch, &self.book).filter_map(|entry| match entry.rule.matcher {
                    Matcher::Source(net, _) => Some(net),
                    Matcher::Signature { .. } => None,
                });
            let clean_up = CleanUp {
                signatures: incident.signatures().collect(),
                sources: sources.collect(),
                // What a rule let pass since was let in on purpose, whatever step is taken.
                answered_before: ruled.unwrap_or(newest).max(self.enforced),
                older_than: clean_age(watch.rtt(settings)),
                everybody: steps.is_some(),
            };
            let (listener, limit) = (watch.id, CLEAN_LIMIT);
            self.commands.push_back(Command::CleanHalfOpen { listener, clean_up, limit });
            watch.cleaned = now;
        }
    }

    /// Asks for the length of SYN queues.
    pub(super) fn ask_for_counts(&mut self, now: Timestamp) {
        let local = self.watches.values().filter(|watch| watch.kind == ListenerKind::Local);
        let pace = |watch: &Watch| match watch.asks_for_count() {
            true => BUSY.min(self.pace(now, watch)),
            false => self.pace(now, watch),
        };
        let Some(pace) = local.map(pace).min() else { return };
        let poll = self.settings.common.poll;
        let pace = if self.uncounted { poll } else { pace };
        if due(now, self.counted, pace, poll) {
            self.counted = now;
            self.command_once(Command::CountHalfOpen);
        }
    }

    /// Asks for the sampled flows.
    pub(super) fn ask_for_flows(&mut self, now: Timestamp) {
        let watches = self.watches.values();
        let Some(pace) = watches.map(|watch| self.pace(now, watch)).min() else { return };
        if due(now, self.inspected, pace, self.settings.common.poll) {
            self.inspected = now;
            self.command_once(Command::InspectFlows);
        }
    }

    /// How often a listener's situation needs another look. A young incident does at every poll.
    fn pace(&self, now: Timestamp, watch: &Watch) -> Duration {
        let settings = self.settings.of(watch.listener);
        match &watch.incident {
            Some(incident) if now.since(incident.detected()) < URGENT => settings.poll,
            Some(_) => BUSY,
            None if watch.is_suspicious() => settings.poll,
            None if watch.is_strange(settings) => BUSY,
            None => CALM,
        }
    }
}

/// The rules that exist because of a listener's incident.
pub(super) fn active_rules<'a>(
    watch: &'a Watch,
    book: &'a Book,
) -> impl Iterator<Item = &'a Entry> {
    let wanted = watch.incident.as_deref().into_iter().flat_map(Incident::wanted);
    wanted.filter_map(|wanted| book.find(&wanted.matcher))
}

/// Whether `pace` has passed since `last`, give or take half a poll.
pub(super) fn due(now: Timestamp, last: Timestamp, pace: Duration, poll: Duration) -> bool {
    now.since(last) + poll / 2 >= pace
}
