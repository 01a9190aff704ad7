//! Requests of operators.

use std::time::Duration;

use ipnet::IpNet;

use super::Engine;
use crate::evidence::Severity;
use crate::input::{
    ClientsWithin, Force, Matcher, Mode, Origin, Request, Rule, RuleId, RuleToImport, Timestamp,
    User, span,
};
use crate::output::{Command, RequestError, Response};
use crate::rules::{AllowReport, Terms};
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
            Request::Disallow { net } => self.disallow(net.trunc(), uid),
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
        let cuts_off = clients.known > 0 && !again;
        if force == Force::No {
            self.check_harmless(net)?;
            if cuts_off {
                return Err(RequestError::Clients { net, clients });
            }
        }
        let Terms { forced, expires, confirmation } =
            self.terms(now, &rule, force, self.rule_table.operators_over(&net), cuts_off);
        let reason = rule.reason.unwrap_or_default();
        let lasts = match &confirmation {
            Some(confirmation) => format!(
                "{}, if that is confirmed within {}",
                span(confirmation.until.since(now)),
                span(expires.since(now))
            ),
            None => span(expires.since(now)),
        };
        let mut text = format!("{} blocks {net}{ports} for {lasts}: {reason}", User(uid));
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
        let full = RequestError::Full { limit: self.rule_table.room() };
        let id = self.install_operators(now, made).ok_or(full)?;
        text.insert_str(0, &format!("rule {}: ", id.0));
        // The new one is in the kernel before the old one goes.
        if let Some(old) = self.rule_table.for_other_ports(&matcher).map(|entry| entry.rule.id) {
            self.remove_rule(now, old, format!("rule {} takes its place", id.0));
            text.push_str(&format!("; it takes the place of rule {}", old.0));
        }
        self.alert_rule(Severity::Notice, "rule_installed", text, Some(net), None);
        let report = self.rule_table.find(&matcher).map(|entry| self.rule_report(entry));
        report
            .map(|rule| Response::Blocked { rule, clients })
            .ok_or(RequestError::Full { limit: self.rule_table.room() })
    }

    pub(super) fn check_harmless(&self, net: IpNet) -> Result<(), RequestError> {
        let shortest = match net {
            IpNet::V4(_) => Limits::MIN_PREFIX_V4,
            IpNet::V6(_) => Limits::MIN_PREFIX_V6,
        };
        if net.prefix_len() < shortest {
            return Err(RequestError::TooWide { net });
        }
        match self.exempt.touched_by(&net) {
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
            return Err(RequestError::TooWide { net });
        }
        let lifetime = lifetime.min(Limits::MAX_ALLOW);
        let text = format!("{} allows {net} for {}: {reason}", User(uid), span(lifetime));
        let entry = AllowReport { net, reason, uid, created: now, expires: now + lifetime };
        if !self.exempt.allow(entry.clone()) {
            return Err(RequestError::AllowlistFull { limit: Limits::ALLOWED });
        }
        self.hand_out_allowed();
        self.release_exempt(now);
        self.alert_rule(Severity::Notice, "allow_added", text, Some(entry.net), None);
        Ok(Response::Allowed(entry))
    }

    fn disallow(&mut self, net: IpNet, uid: u32) -> Result<Response, RequestError> {
        let removed = self.exempt.disallow(&net);
        if removed.is_empty() {
            return Err(RequestError::NotAllowed { net });
        }
        self.hand_out_allowed();
        for entry in &removed {
            let text = format!("{} no longer allows {}", User(uid), entry.net);
            self.alert_rule(Severity::Notice, "allow_removed", text, Some(entry.net), None);
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
            let text = format!("{} is no longer allowed: its time is over", entry.net);
            self.alert_rule(Severity::Notice, "allow_removed", text, Some(entry.net), None);
        }
    }

    fn hand_out_allowed(&mut self) {
        let allowed = self.exempt.allowed().map(|entry| (entry.net, entry.expires)).collect();
        self.commands.push_back(Command::SetAllowed(allowed));
    }

    fn set_mode(&mut self, now: Timestamp, mode: Mode, uid: u32) -> Response {
        let name = |mode| match mode {
            Mode::Off => "off",
            Mode::Observe => "observe",
            Mode::Enforce => "enforce",
        };
        let (from, to) = (name(self.mode), name(mode));
        let text = format!("{} changed the mode from {from} to {to}", User(uid));
        self.take_up_removed(now);
        Response::ModeSet { was: self.enter_mode(now, mode, Some(text)) }
    }

    /// Changes the action on a rule match, and returns the mode before. Reporting the change is
    /// left to the caller.
    pub fn change_mode(&mut self, now: Timestamp, mode: Mode) -> Mode {
        self.enter_mode(now, mode, None)
    }

    fn enter_mode(&mut self, now: Timestamp, mode: Mode, text: Option<String>) -> Mode {
        let was = std::mem::replace(&mut self.mode, mode);
        if was == mode {
            return was;
        }
        self.enforced = now;
        let so = match mode {
            Mode::Enforce => "mode enforce from now on: rules drop and steps are taken",
            Mode::Observe => "mode observe from now on: rules only count",
            Mode::Off => "mode off from now on: nothing is matched",
        };
        for incident in self.open_incidents_mut() {
            incident.mark(now, so.to_owned());
        }
        self.take_up_removed(now);
        self.commands.push_back(Command::SetMode(mode));
        if let Some(text) = text {
            self.alert_rule(Severity::Notice, "mode_changed", text, None, None);
        }
        if mode == Mode::Off {
            let automatic = self.rule_table.iter().filter(|entry| entry.incident().is_some());
            let gone = automatic.map(|entry| (entry.rule.matcher, "the guard is off".to_owned()));
            self.removal_reasons.extend(gone);
        }
        if mode == Mode::Off || was == Mode::Off {
            // Earlier findings may no longer hold. The next inspection, at once, decides.
            for incident in self.open_incidents_mut() {
                incident.release_rules("the guard is off");
            }
            self.inspected = Timestamp::default();
        }
        self.carry_out_plan(now);
        was
    }
}
