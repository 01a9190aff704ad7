//! Requests of operators.
//!
//! A rule that was made for an attack and that an operator removes is not made again at once, or it could not be
//! removed; but an operator's word never ends the defence against an attack. A list of rules is never replaced by half.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use super::Engine;
use super::monitor::ALERT_WINDOW;
use super::rule_book::ALERTED_SINGLY;
use crate::evidence::IncidentClass;
use crate::incident::{Event, IncidentReport, NamedRule, RuleTerms, Target};
use crate::input::{
    ClientsWithin, FleetName, Force, Listener, ListenerId, Matcher, Mitigation, Mode, Order,
    Origin, Request, Rule, RuleId, RuleReason, RuleToImport, Timestamp, Which, Whose,
};
use crate::mitigation::HeldBack;
use crate::output::{Command, ImportReport, RequestError, Response};
use crate::rules::{AllowReport, Entry, RemovalReason, RuleReport, Terms};
use crate::settings::Limits;

impl Engine {
    /// Carries out a change that the operator with user id `uid` asked for.
    ///
    /// # Errors
    /// When it would do harm or nothing; see [`RequestError`].
    pub fn handle_request(
        &mut self,
        now: Timestamp,
        uid: u32,
        request: Request,
    ) -> Result<Response, RequestError> {
        match request {
            Request::Block { net, ports, lifetime, reason, force, clients } => {
                let rule = RuleToImport {
                    net: net.trunc(),
                    ports,
                    lifetime: Some(lifetime),
                    reason: Some(reason),
                };
                self.block(now, rule, uid, force, clients)
            }
            Request::Unblock { which, whose } => self.unblock(now, which, whose),
            Request::ImportRules { rules, merge, force } => {
                self.import(now, &rules, merge, uid, force)
            }
            Request::ConfirmRules { net } => self.confirm(now, net, uid),
            Request::Allow { net, lifetime, reason, force } => {
                if !force {
                    check_allowed_width(net)?;
                }
                self.allow(now, net.trunc(), lifetime, reason, uid)
            }
            Request::Disallow { net } => {
                self.rules.disallow(now, net.trunc(), uid, &mut self.outbox)
            }
            Request::OrderMitigation { listener, mitigation, order, lifetime } => {
                self.order_mitigation(now, listener, mitigation, (order, lifetime), uid)
            }
            Request::SetMode { mode } => Ok(self.set_mode(now, mode, uid)),
        }
    }

    fn block(
        &mut self,
        now: Timestamp,
        rule: RuleToImport,
        uid: u32,
        force: Force,
        clients: ClientsWithin,
    ) -> Result<Response, RequestError> {
        let RuleToImport { net, ports, .. } = rule;
        let matcher = Matcher::Source(net, ports);
        // A source that is blocked already is not cut off by a longer block.
        let again = self.rules.table.find(&matcher).is_some_and(|entry| {
            entry.is_operators() && entry.rule.confirmation.is_none() && entry.rule.expires > now
        });
        // A scanner completes handshakes where it finds an open port.
        let scans = |scan: IncidentReport| {
            let scanner = scan.evidence.top_sources.first();
            scan.class == IncidentClass::Scan
                && scanner.is_some_and(|top| IpNet::from(top.addr) == net)
        };
        let cuts_off = clients.validated > 0 && !again && !self.host_reports().any(scans);
        if force == Force::No {
            self.rules.check_harmless(net)?;
            if cuts_off {
                return Err(RequestError::Clients { net, clients });
            }
        }
        let Terms { forced, expires, confirmation } =
            self.rules.terms(now, &rule, force, self.rules.table.operators_over(&net), cuts_off);
        let reason = RuleReason::Given { text: rule.reason.unwrap_or_default() };
        let left_s = expires.since(now).as_secs();
        let replaced = self.rules.table.for_other_ports(&matcher);
        let replaces = replaced.map(|entry| Box::new(self.listeners.rule_report(now, entry)));
        let confirmed = confirmation.as_ref().map(|it| it.until.since(now).as_secs());
        let terms = RuleTerms {
            lifetime_s: confirmed.unwrap_or(left_s),
            confirm_s: confirmed.map(|_| left_s),
            replaces: replaces.as_ref().map(|rule| rule.id),
        };
        let of_fleet = self.rules.table.of_fleet().map(|(entry, _)| &entry.rule);
        let outranked = of_fleet.filter(|rule| rule.matcher.prefix() == Some(net));
        let old: Vec<RuleId> = outranked.map(|rule| rule.id).chain(terms.replaces).collect();
        let made = Rule {
            // It gets its number with its slot.
            id: RuleId(0),
            matcher,
            origin: Origin::Operator { uid },
            forced,
            reason,
            created: now,
            expires,
            confirmation,
        };
        let installed = self.install_given(now, made, terms, &old);
        let entry = installed.and_then(|_| self.rules.table.find(&matcher));
        let report = entry.map(|entry| self.listeners.rule_report(now, entry));
        report
            .map(|rule| Response::Blocked { rule, replaces, clients })
            .ok_or(RequestError::Full { limit: self.rules.table.room() })
    }

    /// Puts a rule of operators, here or of the fleet, in the place of others. Returns its number, or `None` when all
    /// are taken.
    pub(super) fn install_given(
        &mut self,
        now: Timestamp,
        made: Rule,
        terms: RuleTerms,
        old: &[RuleId],
    ) -> Option<RuleId> {
        let Rule { matcher, origin, reason, .. } = made.clone();
        let id = self.rules.install_operators(now, made, &mut self.outbox)?;
        // The new one is in the kernel before the old ones go.
        for old in old.iter().filter(|old| **old != id) {
            self.remove_rule(now, *old, RemovalReason::Replaced { by: id });
        }
        if let Origin::Operator { .. } = origin {
            self.rules.yield_exemptions(matcher.prefix().into_iter(), &mut self.outbox);
        }
        let rule = NamedRule { id, target: Target::of(&matcher) };
        let (mode, terms) = (self.mandate.mode, Some(terms));
        self.outbox.alert(Event::RuleInstalled { rule, origin, reason, mode, terms }, None);
        Some(id)
    }

    fn allow(
        &mut self,
        now: Timestamp,
        net: IpNet,
        lifetime: Duration,
        reason: String,
        uid: u32,
    ) -> Result<Response, RequestError> {
        let expires = now + lifetime.min(Limits::MAX_ALLOW);
        let entry = AllowReport { net, reason, uid, fleet: None, created: now, expires };
        match self.exempt(now, entry.clone()) {
            true => Ok(Response::Allowed(entry)),
            false => Err(RequestError::AllowlistFull { limit: Limits::ALLOWED }),
        }
    }

    /// Exempts a prefix. Returns false where the allowlist has no room for it.
    pub(super) fn exempt(&mut self, now: Timestamp, entry: AllowReport) -> bool {
        let AllowReport { net, uid, fleet, reason, .. } = entry.clone();
        let lifetime_s = entry.expires.since(now).as_secs();
        if !self.rules.exempt.allow(entry) {
            return false;
        }
        self.rules.hand_out_allowed(&mut self.outbox);
        self.release_exempt(now);
        self.release_fleet(now, &[net]);
        self.outbox.alert(Event::AllowAdded { net, uid, fleet, lifetime_s, reason }, None);
        true
    }

    pub(super) fn unblock(
        &mut self,
        now: Timestamp,
        which: Which,
        whose: Whose,
    ) -> Result<Response, RequestError> {
        let asked = |entry: &Entry| which.includes(entry) && whose.includes(entry);
        let removed: Vec<(Matcher, RuleReport)> = self
            .rules
            .table
            .iter()
            .filter(|entry| asked(entry))
            .map(|entry| (entry.rule.matcher, self.listeners.rule_report(now, entry)))
            .collect();
        if removed.is_empty() {
            return Err(self.rules.not_found(which, whose));
        }
        for (matcher, report) in &removed {
            self.give_up(now, report.id, matcher);
        }
        // The fleet repeats its rules.
        let of_fleet = self.rules.table.of_fleet().filter(|(entry, _)| asked(entry));
        let names: Vec<FleetName> = of_fleet.map(|(_, name)| name.clone()).collect();
        for name in names {
            self.rules.fleet.overrule(now, name, now + Limits::MAX_ALLOW);
        }
        if which == Which::All {
            let staying = self.rules.table.only(|entry| !whose.includes(entry));
            self.replace_rules(now, staying, RemovalReason::Operator);
        } else {
            for (_, report) in &removed {
                self.remove_rule(now, report.id, RemovalReason::Operator);
            }
        }
        if removed.len() > ALERTED_SINGLY {
            let (rules, why) = (removed.len() as u64, RemovalReason::Operator);
            let event = Event::RuleRemoved { rules, rule: None, why };
            self.outbox.alert(event, None);
        } else {
            for (matcher, report) in &removed {
                let rule = Some(NamedRule { id: report.id, target: Target::of(matcher) });
                let event = Event::RuleRemoved { rules: 1, rule, why: RemovalReason::Operator };
                self.alert_rule(event, report.incident);
            }
        }
        Ok(Response::Unblocked(removed.into_iter().map(|(_, report)| report).collect()))
    }

    /// Lets rules stay that wait for an operator's word.
    fn confirm(
        &mut self,
        now: Timestamp,
        net: Option<IpNet>,
        uid: u32,
    ) -> Result<Response, RequestError> {
        let waits = |entry: &&Entry| {
            let asked = net.is_none_or(|net| Which::Within(net).includes(entry));
            entry.rule.confirmation.is_some() && entry.rule.expires > now && asked
        };
        let waiting: Vec<RuleId> =
            self.rules.table.iter().filter(waits).map(|entry| entry.rule.id).collect();
        if waiting.is_empty() {
            return Err(RequestError::NotPending { net });
        }
        for id in &waiting {
            let confirmation =
                self.rules.table.entry_mut(*id).and_then(|entry| entry.rule.confirmation.take());
            if let Some(confirmation) = confirmation {
                self.rules.renew(*id, confirmation.until, &mut self.outbox);
            }
        }
        let stays = |entry: &&Entry| waiting.binary_search(&entry.rule.id).is_ok();
        let staying = || self.rules.table.iter().filter(stays);
        let reports: Vec<RuleReport> =
            staying().map(|entry| self.listeners.rule_report(now, entry)).collect();
        let event = |rules, rule, left_s| Event::RuleConfirmed { uid, rules, rule, left_s };
        let events: Vec<Event> = match reports.len() {
            rules if rules > ALERTED_SINGLY => vec![event(rules as u64, None, None)],
            _ => staying()
                .map(|Entry { rule, .. }| {
                    let left_s = rule.expires.since(now).as_secs();
                    let rule = NamedRule { id: rule.id, target: Target::of(&rule.matcher) };
                    event(1, Some(rule), Some(left_s))
                })
                .collect(),
        };
        for event in events {
            self.outbox.alert(event, None);
        }
        Ok(Response::Confirmed(reports))
    }

    /// Replaces the operators' rules by `rules`, or with `merge` adds `rules` to them.
    pub(super) fn import(
        &mut self,
        now: Timestamp,
        rules: &[RuleToImport],
        merge: bool,
        uid: u32,
        force: Force,
    ) -> Result<Response, RequestError> {
        let refused = self.rules.refused(rules, force != Force::No);
        if !refused.is_empty() {
            return Err(RequestError::Import { refused });
        }
        let named: BTreeSet<IpNet> = rules.iter().map(|rule| rule.net.trunc()).collect();
        let is_named =
            |entry: &Entry| entry.rule.matcher.prefix().is_some_and(|net| named.contains(&net));
        let staying = |entry: &Entry| match entry.rule.origin {
            Origin::Operator { .. } => merge,
            Origin::Fleet(_) => !is_named(entry),
            Origin::Incident(_) => true,
        };
        let terms = |rule: &RuleToImport, before: Option<&Rule>| {
            self.rules.terms(now, rule, force, before, false)
        };
        let rule_table = self.rules.table.with_rules_of(now, uid, rules, terms, staying);
        let rule_table = rule_table.ok_or(RequestError::Full { limit: self.rules.table.room() })?;
        let added = rule_table.missing_before(&self.rules.table);
        let waits = |entry: &&Entry| entry.rule.confirmation.is_some() && is_named(entry);
        let report = ImportReport {
            added,
            kept: rules.len() as u32 - added,
            removed: rule_table.missing_of(&self.rules.table).len() as u32,
            total: rule_table.len() as u32,
            pending_confirmation: rule_table.iter().filter(waits).count() as u32,
        };
        let ImportReport { added, kept, removed, total, pending_confirmation: pending } = report;
        let confirm_s = match force {
            Force::PendingConfirmation { within, .. } if pending > 0 => Some(within.as_secs()),
            _ => None,
        };
        self.replace_rules(now, rule_table, RemovalReason::NotImported { uid });
        self.rules.yield_exemptions(named.into_iter(), &mut self.outbox);
        let event = Event::RulesImported { uid, added, kept, removed, total, pending, confirm_s };
        self.outbox.alert(event, None);
        Ok(Response::Imported(report))
    }

    /// Says that the kernel did not take the last [`Command::ReplaceRules`], and that its rules are
    /// as they were before. So the engine restores them, and the pending alerts about their end are
    /// dropped.
    pub fn replacement_failed(&mut self, error: &str) {
        let Some(rule_table) = self.rules.replaced.take() else { return };
        self.rules.table = rule_table;
        self.outbox.forget_replacement();
        let event = Event::RuleFailed { rule: None, error: error.to_owned(), retry_s: None };
        self.outbox.alert(event, None);
    }

    /// An operator orders a mitigation, forbids it, or leaves it to the agent again.
    pub(super) fn order_mitigation(
        &mut self,
        now: Timestamp,
        listener: Listener,
        mitigation: Mitigation,
        (order, lifetime): (Order, Duration),
        uid: u32,
    ) -> Result<Response, RequestError> {
        if mitigation.is_done_by_rules() && order == Order::On {
            return Err(RequestError::DoneByRules { mitigation });
        }
        let found = self.listeners.monitors.all().find(|monitor| monitor.listener == listener);
        let id = found.map(|monitor| monitor.id);
        let found = id.and_then(|id| self.listeners.monitors.get_mut(&id));
        let monitor = found.ok_or(RequestError::NoListener { listener })?;
        let id = monitor.id;
        let lifetime = lifetime.min(Limits::MAX_ORDER);
        monitor.ladder.order(mitigation, order, uid, now + lifetime);
        if order == Order::Auto {
            monitor.take_up(now + ALERT_WINDOW, Some(mitigation));
        }
        let lifetime_s = lifetime.as_secs();
        let event = Event::MitigationOrdered { listener, mitigation, order, uid, lifetime_s };
        self.alert_at(now, id, event);
        if order == Order::Off && mitigation.is_done_by_rules() {
            self.release_forbidden(now, id, mitigation);
        }
        self.poll_mitigations(now, Duration::ZERO);
        let report = self.listener(&listener).ok_or(RequestError::NoListener { listener })?;
        Ok(Response::MitigationOrdered(Box::new(report)))
    }

    /// Withdraws the automatic rules of a kind that an operator forbids at a listener.
    fn release_forbidden(&mut self, now: Timestamp, id: ListenerId, mitigation: Mitigation) {
        let own = self
            .listeners
            .monitors
            .get_mut(&id)
            .and_then(|monitor| monitor.incident.as_deref_mut());
        // A rule for every listener is one for this, too.
        let all = self.listeners.rolled.as_mut().map(|rolled| &mut rolled.incident);
        for incident in own.into_iter().chain(all) {
            incident.release_mitigation(mitigation, &RemovalReason::Forbidden);
        }
        self.carry_out_plan(now);
    }

    fn set_mode(&mut self, now: Timestamp, mode: Mode, uid: u32) -> Response {
        self.listeners.take_up_removed(now);
        Response::ModeSet { was: self.enter_mode(now, mode, Some(uid)) }
    }

    /// Changes the action on a rule match, and returns the mode before. Reporting the change is
    /// left to the caller.
    pub fn change_mode(&mut self, now: Timestamp, mode: Mode) -> Mode {
        self.enter_mode(now, mode, None)
    }

    fn enter_mode(&mut self, now: Timestamp, mode: Mode, uid: Option<u32>) -> Mode {
        let was = std::mem::replace(&mut self.mandate.mode, mode);
        if was == mode {
            return was;
        }
        self.mandate.enforced = now;
        let event = Event::ModeChanged { uid, from: was, to: mode };
        for incident in self.listeners.open_incidents_mut() {
            incident.mark(now, event.clone());
        }
        self.listeners.take_up_removed(now);
        self.outbox.push(Command::SetMode(mode));
        if uid.is_some() {
            self.outbox.alert(event, None);
        }
        let off = RemovalReason::HeldBack { by: HeldBack::AgentOff };
        if mode == Mode::Off {
            let automatic = self.rules.table.iter().filter(|entry| entry.incident().is_some());
            let gone = automatic.map(|entry| (entry.rule.matcher, off.clone()));
            self.rules.removal_reasons.extend(gone);
        }
        if mode == Mode::Off || was == Mode::Off {
            // Earlier findings may no longer hold. The next inspection, at once, decides.
            for incident in self.listeners.open_incidents_mut() {
                incident.release_rules(&off);
            }
            self.questions.inspected = Timestamp::default();
        }
        self.carry_out_plan(now);
        was
    }
}

/// Refuses a prefix that is wider than may be allowed without force.
fn check_allowed_width(net: IpNet) -> Result<(), RequestError> {
    let shortest = match net {
        IpNet::V4(_) => Limits::MIN_ALLOW_V4,
        IpNet::V6(_) => Limits::MIN_ALLOW_V6,
    };
    match net.prefix_len() < shortest {
        true => Err(RequestError::TooWide { net: net.trunc(), shortest }),
        false => Ok(()),
    }
}
