//! Requests of operators.

use std::time::Duration;

use ipnet::IpNet;

use super::Engine;
use super::fleet::check_width;
use crate::evidence::Severity;
use crate::incident::{Event, NamedRule, RuleTerms, Target};
use crate::input::{
    ClientsWithin, Force, Matcher, Mode, Origin, Request, Rule, RuleId, RuleReason, RuleToImport,
    Timestamp,
};
use crate::mitigation::HeldBack;
use crate::output::{Command, RequestError, Response};
use crate::rules::{AllowReport, RemovalReason, Terms};
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
                self.allow(now, net.trunc(), lifetime, reason, uid, force)
            }
            Request::Disallow { net } => self.disallow(now, net.trunc(), uid),
            Request::OrderMitigation { listener, mitigation, order, lifetime } => {
                self.order_mitigation(now, listener, mitigation, order, lifetime, uid)
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
        let again = self.rule_table.find(&matcher).is_some_and(|entry| {
            entry.is_operators() && entry.rule.confirmation.is_none() && entry.rule.expires > now
        });
        let cuts_off = clients.validated > 0 && !again;
        if force == Force::No {
            self.check_harmless(net)?;
            if cuts_off {
                return Err(RequestError::Clients { net, clients });
            }
        }
        let Terms { forced, expires, confirmation } =
            self.terms(now, &rule, force, self.rule_table.operators_over(&net), cuts_off);
        let reason = RuleReason::Given { text: rule.reason.unwrap_or_default() };
        let left_s = expires.since(now).as_secs();
        let confirmed = confirmation.as_ref().map(|it| it.until.since(now).as_secs());
        let terms = RuleTerms {
            lifetime_s: confirmed.unwrap_or(left_s),
            confirm_s: confirmed.map(|_| left_s),
            replaces: self.rule_table.for_other_ports(&matcher).map(|entry| entry.rule.id),
        };
        let origin = Origin::Operator { uid };
        let made = Rule {
            // It gets its number with its slot.
            id: RuleId(0),
            matcher,
            origin: origin.clone(),
            forced,
            reason: reason.clone(),
            created: now,
            expires,
            confirmation,
        };
        let full = RequestError::Full { limit: self.rule_table.room() };
        let id = self.install_operators(now, made).ok_or(full)?;
        // The new one is in the kernel before the old ones go.
        let of_fleet = self.rule_table.of_fleet().map(|(entry, _)| &entry.rule);
        let outranked = of_fleet.filter(|rule| rule.matcher.prefix() == Some(net));
        let old: Vec<RuleId> = outranked.map(|rule| rule.id).chain(terms.replaces).collect();
        for old in old {
            self.remove_rule(now, old, RemovalReason::Replaced { by: id });
        }
        self.yield_exemptions([net].into_iter());
        let rule = NamedRule { id, target: Target::of(&matcher) };
        let (mode, terms) = (self.mode, Some(terms));
        let event = Event::RuleInstalled { rule, origin, reason, mode, terms };
        self.alert(Severity::Notice, event, None);
        let report = self.rule_table.find(&matcher).map(|entry| self.rule_report(entry));
        report
            .map(|rule| Response::Blocked { rule, clients })
            .ok_or(RequestError::Full { limit: self.rule_table.room() })
    }

    pub(super) fn check_harmless(&self, net: IpNet) -> Result<(), RequestError> {
        check_width(net)?;
        match self.exempt.touched_by_own(&net) {
            Some((covers, what)) => Err(RequestError::Protected { net, covers, what }),
            None => Ok(()),
        }
    }

    fn allow(
        &mut self,
        now: Timestamp,
        net: IpNet,
        lifetime: Duration,
        reason: String,
        uid: u32,
        force: bool,
    ) -> Result<Response, RequestError> {
        let shortest = match net {
            IpNet::V4(_) => Limits::MIN_ALLOW_V4,
            IpNet::V6(_) => Limits::MIN_ALLOW_V6,
        };
        if net.prefix_len() < shortest && !force {
            return Err(RequestError::TooWide { net, shortest });
        }
        let lifetime = lifetime.min(Limits::MAX_ALLOW);
        let lifetime_s = lifetime.as_secs();
        let event = Event::AllowAdded { net, uid, fleet: None, lifetime_s, reason: reason.clone() };
        let expires = now + lifetime;
        let entry = AllowReport { net, reason, uid, fleet: None, created: now, expires };
        if !self.exempt.allow(entry.clone()) {
            return Err(RequestError::AllowlistFull { limit: Limits::ALLOWED });
        }
        self.hand_out_allowed();
        self.release_exempt(now);
        self.release_fleet(now, &[net]);
        self.alert(Severity::Notice, event, None);
        Ok(Response::Allowed(entry))
    }

    fn disallow(&mut self, now: Timestamp, net: IpNet, uid: u32) -> Result<Response, RequestError> {
        let removed = self.exempt.disallow(&net);
        if removed.is_empty() {
            return Err(RequestError::NotAllowed { net });
        }
        self.hand_out_allowed();
        for entry in &removed {
            if let Some(name) = &entry.fleet {
                self.fleet.overrule(now, name.clone(), now + Limits::MAX_ALLOW);
            }
            let (net, fleet) = (entry.net, entry.fleet.clone());
            let event = Event::AllowRemoved { net, uid: Some(uid), fleet };
            self.alert(Severity::Notice, event, None);
        }
        Ok(Response::Disallowed(removed))
    }

    /// Takes exemptions off the list when their time is over. The kernel ends them by itself.
    pub(super) fn expire_allowed(&mut self, now: Timestamp) {
        let ended = self.exempt.expire(now);
        if ended.is_empty() {
            return;
        }
        self.hand_out_allowed();
        for entry in ended {
            let event = Event::AllowRemoved { net: entry.net, uid: None, fleet: None };
            self.alert(Severity::Notice, event, None);
        }
    }

    pub(super) fn hand_out_allowed(&mut self) {
        let allowed = self.exempt.allowed().map(|entry| (entry.net, entry.expires)).collect();
        self.commands.push_back(Command::SetAllowed(allowed));
    }

    fn set_mode(&mut self, now: Timestamp, mode: Mode, uid: u32) -> Response {
        self.take_up_removed(now);
        Response::ModeSet { was: self.enter_mode(now, mode, Some(uid)) }
    }

    /// Changes the action on a rule match, and returns the mode before. Reporting the change is
    /// left to the caller.
    pub fn change_mode(&mut self, now: Timestamp, mode: Mode) -> Mode {
        self.enter_mode(now, mode, None)
    }

    fn enter_mode(&mut self, now: Timestamp, mode: Mode, uid: Option<u32>) -> Mode {
        let was = std::mem::replace(&mut self.mode, mode);
        if was == mode {
            return was;
        }
        self.enforced = now;
        let event = Event::ModeChanged { uid, from: was, to: mode };
        for incident in self.open_incidents_mut() {
            incident.mark(now, event.clone());
        }
        self.take_up_removed(now);
        self.commands.push_back(Command::SetMode(mode));
        if uid.is_some() {
            self.alert(Severity::Notice, event, None);
        }
        let off = RemovalReason::HeldBack { by: HeldBack::AgentOff };
        if mode == Mode::Off {
            let automatic = self.rule_table.iter().filter(|entry| entry.incident().is_some());
            let gone = automatic.map(|entry| (entry.rule.matcher, off.clone()));
            self.removal_reasons.extend(gone);
        }
        if mode == Mode::Off || was == Mode::Off {
            // Earlier findings may no longer hold. The next inspection, at once, decides.
            for incident in self.open_incidents_mut() {
                incident.release_rules(&off);
            }
            self.inspected = Timestamp::default();
        }
        self.carry_out_plan(now);
        was
    }
}
