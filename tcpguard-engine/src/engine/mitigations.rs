//! The mitigations beside rules: choosing those that the situation calls for, starting and stopping them, and
//! withdrawing those that keep clients out.

use std::time::Duration;

use super::Engine;
use super::held_back::idle;
use super::monitor::{ALERT_WINDOW, ListenerMonitor, PATIENCE};
use super::upkeep::{acting_since, active_rules};
use crate::evidence::{IncidentClass, Quantity, Restraint, RestraintReason, Severity};
use crate::input::{
    Listener, ListenerId, ListenerKind, Matcher, Mitigation, Mode, Order, Timestamp, User,
    constants, percent, short, span,
};
use crate::listener::Egress;
use crate::mitigation::{
    Harm, MITIGATION_RETRY, MitigationReport, MitigationState, Move, Need, Newest, budget,
};
use crate::output::{Command, ListenerReport, RequestError, Response};
use crate::policy::{RESIDUAL_FLOWS, RESIDUAL_SHARE};
use crate::rules::{Entry, RuleTable};
use crate::settings::{Limits, Settings};

constants! {
    /// Resets per second that a listener sends, from which segments that belong to no connection are
    /// looked for.
    pub(crate) const OUT_OF_STATE_RATE: f64 = 256.0 PerSecond in 1.0..=10_000_000.0,
        "64 in a poll, as fast_min. Weighed against servers that close with data unread, \
         which send resets of their own.";
}

/// A listener with less than this share of the average rate of flooded listeners does not saturate the host.
const OF_THE_MEAN: f64 = 0.5;
/// Share of the limit for retransmitted SYNs from which cookies answer them. Beyond the limit they are
/// dropped, those of clients too.
const USED: f64 = 0.5;
const SECOND: Duration = Duration::from_secs(1);
/// Mitigations started or stopped in a poll from which the other listeners of those that are reported together wait
/// for the next: for each, all others are asked whether it goes without saying, which at 4,096 is some 10 µs. The
/// agent says by itself when it has no time for more.
const AT_ONCE: usize = 32;

impl Engine {
    /// Starts and stops mitigations, and withdraws those that keep clients out.
    pub(super) fn poll_mitigations(&mut self, now: Timestamp, elapsed: Duration) {
        self.withdraw_harmful(now, elapsed);
        let overloading = self.overloading();
        let sharing =
            self.monitors.values().filter(|monitor| monitor.shares_rules()).count().max(1);
        let mut moves = Vec::new();
        let mut hints = Vec::new();
        for monitor in self.monitors.values_mut() {
            // Each start or stop is some work for the agent, and those of a carpet come all at once.
            if monitor.rolled.is_some() && moves.len() >= AT_ONCE {
                continue;
            }
            let ruled = ruled_since(monitor, &self.rule_table);
            let (newest, _) = acting_since(monitor, &self.rule_table);
            let situation = Situation { now, enforced: self.enforced, overloading, ruled, newest };
            let settings = &self.settings.common;
            let mode = self.settings.mode(monitor.listener, self.mode);
            let retransmitted = retransmitted(monitor, &self.rule_table, sharing, now);
            let mut needs = needs(monitor, &situation, retransmitted, settings);
            if mode != Mode::Enforce {
                hints.extend(needs.iter().map(|need| (monitor.id, would(need))));
            }
            if mode == Mode::Off {
                needs.clear();
            }
            let agent_mode = self.mode;
            let ended = monitor.failing_ended();
            let changes = monitor
                .ladder
                .poll(now, &needs, ended, |mitigation| idle(mitigation, mode, agent_mode));
            moves.extend(changes.into_iter().map(|change| (monitor.id, change)));
        }
        for (id, hint) in hints {
            if let Some((incident, hint)) = self.incident_at(id).zip(hint) {
                incident.note(now, hint);
            }
        }
        for (id, change) in moves {
            self.make(now, id, change);
        }
    }

    /// SYNs a second from which a listener saturates the host; `None` while the host is not saturated.
    pub(super) fn overloading(&self) -> Option<f64> {
        let flooded = || self.monitors.values().filter(|monitor| monitor.is_flooded());
        let all: f64 = flooded().map(ListenerMonitor::syn_rate).sum();
        let mean = all / flooded().count().max(1) as f64;
        self.saturated.then_some(OF_THE_MEAN * mean)
    }

    fn make(&mut self, now: Timestamp, id: ListenerId, change: Move) {
        let (Move::Take { mitigation, .. } | Move::Leave { mitigation, .. }) = &change;
        let is_alerted = self.goes_without_saying(id, *mitigation);
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        // The drop of out-of-state segments beside a flood changes nothing for any client.
        let matters = match &change {
            Move::Take { mitigation, .. } => {
                mitigation.keeps_syns_away() || monitor.class().is_none()
            }
            Move::Leave { mitigation, .. } => mitigation.keeps_syns_away(),
        };
        let listener = match monitor.rolled {
            Some(_) => format!("{} and others that are told together", monitor.listener),
            None => monitor.listener.to_string(),
        };
        let (command, event, text) = match change {
            Move::Take { mitigation, rate, why } => {
                if mitigation.keeps_syns_away() && monitor.ladder.since(mitigation) == Some(now) {
                    monitor.try_out(now, Newest::Mitigation(mitigation));
                }
                if let Some(incident) = self.incident_at(id) {
                    incident.record_mitigation(mitigation);
                }
                let limit = match mitigation {
                    Mitigation::Budget => format!(" to {} a second", short(f64::from(rate))),
                    _ => String::new(),
                };
                let text = format!("{listener}: the guard {}{limit}: {why}", mitigation.in_words());
                (
                    Command::StartMitigation { listener: id, mitigation, rate },
                    "mitigation_started",
                    text,
                )
            }
            Move::Leave { mitigation, why } => {
                monitor.ladder.breaker.forget(&Newest::Mitigation(mitigation));
                monitor.ladder.canary.forget(&mitigation);
                let text =
                    format!("{listener}: the guard no longer {}: {why}", mitigation.in_words());
                (Command::StopMitigation { listener: id, mitigation }, "mitigation_stopped", text)
            }
        };
        self.commands.push_back(command);
        if matters && !is_alerted {
            self.alert_mitigation(now, id, Severity::Notice, event, text);
        }
    }

    /// Withdraws the newest rule or mitigation where fewer clients get in since.
    fn withdraw_harmful(&mut self, now: Timestamp, elapsed: Duration) {
        let harmful: Vec<(ListenerId, Newest, Harm)> = self
            .monitors
            .values_mut()
            .filter_map(|monitor| {
                let (newest, harm) = monitor.judge_newest(now, elapsed)?;
                Some((monitor.id, newest, harm))
            })
            .collect();
        for (id, newest, harm) in harmful {
            match newest {
                Newest::Mitigation(mitigation) => {
                    self.withdraw_mitigation(now, id, mitigation, &harm)
                }
                Newest::Rule(matcher) => self.withdraw_rule(now, id, &matcher, &harm.to_string()),
            }
        }
    }

    fn withdraw_mitigation(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        harm: &Harm,
    ) {
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let listener = monitor.listener;
        let again = match harm.is_lasting() {
            true => format!(
                "it is not tried again until the firewall or the configuration changes, or: tcpguard \
                 step {listener} {} auto",
                mitigation.name()
            ),
            false => {
                format!("it is tried again in {}", span(monitor.ladder.pause(mitigation)))
            }
        };
        let why = harm.to_string();
        let text =
            format!("{listener}: the guard no longer {}: {why}; {again}", mitigation.in_words());
        let taken = match harm.is_lasting() {
            true => monitor.ladder.withhold(mitigation, &why),
            false => monitor.ladder.refuse(now, mitigation, &why),
        };
        if taken {
            self.commands.push_back(Command::StopMitigation { listener: id, mitigation });
            self.alert_mitigation(now, id, Severity::Warning, "mitigation_withdrawn", text);
        }
    }

    fn withdraw_rule(&mut self, now: Timestamp, id: ListenerId, matcher: &Matcher, why: &str) {
        let Some(rule) = self.rule_table.find(matcher).map(|entry| entry.rule.id) else { return };
        let retry = MITIGATION_RETRY;
        self.postpone(matcher, now + retry, why);
        let pause = span(retry);
        let text = format!("rule {} withdrawn: {why}; it may come again in {pause}", rule.0);
        self.note_at(now, id, text.clone());
        let incident = self.incident_at(id).map(|incident| incident.id());
        self.alert_rule(Severity::Warning, "rule_withdrawn", text, matcher.prefix(), incident);
    }

    /// Says that a mitigation could not be started and that nothing of it is in the kernel. It is tried again
    /// after a minute, later each time, or when an operator asks. Where the reason may be gone `soon`, it is
    /// tried again after a second, without an alert.
    pub fn mitigation_failed(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        why: &str,
        soon: bool,
    ) {
        let is_alerted = self.failed_before(now, id, mitigation, soon);
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        if soon {
            monitor.ladder.defer(now, mitigation, why);
            let text = format!("{}: no {} yet: {why}", monitor.listener, mitigation.name());
            if !is_alerted {
                self.note_at(now, id, text);
            }
            return;
        }
        let pause = span(monitor.ladder.pause(mitigation));
        monitor.ladder.refuse(now, mitigation, why);
        let text = format!(
            "{}: no {}: {why}; it is tried again in {pause}",
            monitor.listener,
            mitigation.name()
        );
        if !is_alerted {
            self.alert_mitigation(now, id, Severity::Warning, "mitigation_failed", text);
        }
    }

    /// Returns whether a mitigation is refused anywhere: then a change of the possible reasons for a refusal matters.
    pub fn refuses_mitigation(&self, now: Timestamp, mitigation: Mitigation) -> bool {
        let is_refused = |report: MitigationReport| {
            report.mitigation == mitigation && report.state == MitigationState::Refused
        };
        self.monitors.values().any(|monitor| monitor.ladder.report(now).any(is_refused))
    }

    /// Notes that a cause for which a mitigation can be refused has changed on the host. Where the mitigation was
    /// withheld until something changes, it may be tried again: the first time at once, and later each time after a
    /// longer pause. At the `freed` listeners the obstacle is gone: it is tried at once.
    pub fn reconsider_mitigation(
        &mut self,
        now: Timestamp,
        mitigation: Mitigation,
        freed: &[ListenerId],
    ) {
        for monitor in self.monitors.values_mut() {
            let freed = freed.contains(&monitor.id);
            monitor.ladder.reconsider(now, mitigation, freed);
        }
    }

    /// Takes over a mitigation that an earlier run left in the kernel, so that a restart under attack opens no gap.
    /// Called after the first sample's listeners are known.
    pub fn adopt_mitigation(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        rate: u32,
    ) {
        self.inherited.push((now, id, mitigation, rate));
    }

    /// Gives the mitigations of an earlier run to their listeners.
    pub(super) fn resume_mitigations(&mut self) {
        for (at, id, mitigation, rate) in std::mem::take(&mut self.inherited) {
            match self.monitors.get_mut(&id) {
                Some(monitor) => {
                    monitor.ladder.adopt(at, mitigation, rate, self.settings.common.quiet)
                }
                None => {
                    self.commands.push_back(Command::StopMitigation { listener: id, mitigation })
                }
            }
        }
    }

    /// An operator orders a mitigation, forbids it, or leaves it to the agent again.
    pub(super) fn order_mitigation(
        &mut self,
        now: Timestamp,
        listener: Listener,
        mitigation: Mitigation,
        order: Order,
        lifetime: Duration,
        uid: u32,
    ) -> Result<Response, RequestError> {
        if mitigation.is_done_by_rules() && order == Order::On {
            return Err(RequestError::DoneByRules { mitigation });
        }
        let found = self.monitors.values_mut().find(|monitor| monitor.listener == listener);
        let monitor = found.ok_or(RequestError::NoListener { listener })?;
        let id = monitor.id;
        let lifetime = lifetime.min(Limits::MAX_ORDER);
        monitor.ladder.order(mitigation, order, uid, now + lifetime);
        let user = User(uid);
        let text = match order {
            Order::On => format!("{user} takes {} for {}", mitigation.name(), span(lifetime)),
            Order::Off => format!("{user} forbids {} for {}", mitigation.name(), span(lifetime)),
            Order::Auto => format!("{user} leaves {} to the guard", mitigation.name()),
        };
        if order == Order::Auto {
            monitor.take_up(now + ALERT_WINDOW, Some(mitigation));
        }
        let text = format!("{listener}: {text}");
        self.alert_mitigation(now, id, Severity::Notice, "mitigation_ordered", text);
        if order == Order::Off && mitigation.is_done_by_rules() {
            self.release_forbidden(now, id, mitigation);
        }
        self.poll_mitigations(now, Duration::ZERO);
        let report = self.report_of(id).ok_or(RequestError::NoListener { listener })?;
        Ok(Response::MitigationOrdered(Box::new(report)))
    }

    /// One listener, as [`Engine::report`] says it.
    pub fn listener(&self, listener: &Listener) -> Option<ListenerReport> {
        let id = self.monitors.values().find(|monitor| monitor.listener == *listener)?.id;
        self.report_of(id)
    }

    /// Withdraws the automatic rules of a kind that an operator forbids at a listener.
    fn release_forbidden(&mut self, now: Timestamp, id: ListenerId, mitigation: Mitigation) {
        let own = self.monitors.get_mut(&id).and_then(|monitor| monitor.incident.as_deref_mut());
        // A rule for every listener is one for this, too.
        let all = self.rolled.as_mut().map(|rolled| &mut rolled.incident);
        for incident in own.into_iter().chain(all) {
            incident.release_mitigation(mitigation, "an operator forbids it");
        }
        self.carry_out_plan(now);
    }

    fn note_at(&mut self, now: Timestamp, id: ListenerId, text: String) {
        if let Some(incident) = self.incident_at(id) {
            incident.note(now, text);
            incident.note_actions_notified();
        }
    }

    fn alert_mitigation(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        severity: Severity,
        event: &'static str,
        message: String,
    ) {
        self.note_at(now, id, message.clone());
        let incident = self.report_at(id).map(Box::new);
        self.commands.push_back(Command::Alert {
            severity,
            event,
            message,
            prefix: None,
            incident,
        });
    }
}

/// Conditions of mitigations beside the listener.
struct Situation {
    now: Timestamp,
    /// Time since which the agent may act.
    enforced: Timestamp,
    /// SYNs a second from which a listener saturates the host, while more arrive than it can answer.
    overloading: Option<f64>,
    /// Time since which the listener's rules have acted.
    ruled: Option<Timestamp>,
    /// Time since which the newest of these rules has acted.
    newest: Option<Timestamp>,
}

/// Returns the time since which rules have acted for a listener. The oldest one counts, since the next one is
/// no reason to wait anew.
pub(super) fn ruled_since(monitor: &ListenerMonitor, rule_table: &RuleTable) -> Option<Timestamp> {
    active_rules(monitor, rule_table).map(|entry| entry.rule.created).min()
}

/// Returns the reason that cookies should answer the retransmitted SYNs that a listener's rules let pass: new
/// clients are among them, or they are so many that the stack takes only a part. An attacker can retransmit
/// at will, but cookies harm no client. The rules for every listener are shared by `sharing` listeners.
fn retransmitted(
    monitor: &ListenerMonitor,
    rule_table: &RuleTable,
    sharing: usize,
    now: Timestamp,
) -> Option<&'static str> {
    if active_rules(monitor, rule_table).any(|entry| entry.hits_clients(now)) {
        return Some("clients look like the SYNs that a rule drops");
    }
    let retransmitting = |entry: &Entry| match entry.is_shared() {
        true => entry.meter.retransmitting(now) / sharing as f64,
        false => entry.meter.retransmitting(now),
    };
    let passed: f64 = active_rules(monitor, rule_table).map(retransmitting).sum();
    let backlog = monitor.queues.map_or(0, |queues| queues.backlog);
    let many = passed >= USED * f64::from(budget(backlog));
    many.then_some("many SYNs are retransmitted, and the SYN queue takes only a part of them")
}

/// Returns the mitigations that a listener's situation calls for. `retransmitted` is the reason that SYNs
/// that a rule matches call for cookies when they are retransmitted.
fn needs(
    monitor: &ListenerMonitor,
    around: &Situation,
    retransmitted: Option<&'static str>,
    settings: &Settings,
) -> Vec<Need> {
    let now = around.now;
    let hold = settings.quiet;
    let mut needs = Vec::new();
    let flood = monitor.alarmed().filter(|_| monitor.is_flooded());
    let last = monitor.window.last(SECOND);
    let resets = last.per_second(last.resets);
    if monitor.kind == ListenerKind::Local && (flood.is_some() || resets >= OUT_OF_STATE_RATE) {
        let why = match flood {
            Some(_) => "an attack may bring them".to_owned(),
            None => format!("{} resets a second answer such segments", short(resets)),
        };
        needs.push(Need { mitigation: Mitigation::OutOfState, why, rate: 0, hold });
    }
    let rest = monitor.residual.filter(|rest| rest.matters());
    let uncovered =
        rest.map(|rest| format!("no rule covers {} of the failing SYNs", percent(rest.share)));
    let why = uncovered.or(retransmitted.map(str::to_owned)).filter(|_| flood.is_some());
    let why = why.or_else(|| monitor.resembles_the_flood().map(str::to_owned));
    let pressed = monitor.pressed(now, around.ruled);
    let why = why.or(pressed.map(str::to_owned));
    // How a listener answers is learned from its answers.
    let is_known = monitor.kind == ListenerKind::Local && monitor.egress() != Egress::Unseen;
    if let Some(why) = why.filter(|_| is_known) {
        needs.push(Need { mitigation: Mitigation::Cookies, why, rate: 0, hold });
    }
    if !monitor.handshakes_failed() {
        return needs;
    }
    // A mitigation that keeps clients waiting starts against a flood only, for the SYNs that the newest rule
    // leaves. It stops when the queue has free slots again, or rules drop the SYNs that filled it. A verdict
    // that changes meanwhile does not stop it.
    let has = |mitigation| monitor.ladder.has(mitigation);
    let newest = around.newest.unwrap_or_default();
    // A flood that retransmits passes the first-SYN drop. None of its first SYNs is left unanswered then.
    let passes = has(Mitigation::Overload) && monitor.is_nearly_full(now);
    let full = (monitor.is_unanswered(now, newest) || passes) && !has(Mitigation::Cookies);
    let begins = flood.is_some_and(|alarmed| {
        let patient = now.since(alarmed.max(around.enforced)) >= PATIENCE;
        patient && (rest.is_some() || pressed.is_some())
    });
    let fails = monitor.quiet(now) < PATIENCE && monitor.still_fails(now, newest);
    let goes_on = |mitigation| has(mitigation) && !has(Mitigation::Cookies);
    let saturates = around.overloading.is_some_and(|least| monitor.syn_rate() >= least);
    if saturates && flood.is_some() && rest.is_some() {
        let why = "more SYNs arrive than can be answered".to_owned();
        // That has a hold of its own, and every new client waits for a second meanwhile.
        needs.push(Need { mitigation: Mitigation::Overload, why, rate: 0, hold: Duration::ZERO });
    } else if full && begins
        || goes_on(Mitigation::Overload) && (fails || monitor.is_half_full(now))
    {
        let why = "the SYN queue is full, and cookies are not to be had".to_owned();
        needs.push(Need { mitigation: Mitigation::Overload, why, rate: 0, hold: PATIENCE });
    }
    // There is no use in waiting for a barred mitigation.
    let tried = match monitor.ladder.bars(Mitigation::Overload) {
        true => needs.iter().any(|need| need.mitigation == Mitigation::Overload),
        false => {
            monitor.ladder.lasts(Mitigation::Overload, now).is_some_and(|lasts| lasts >= PATIENCE)
        }
    };
    let rate = budget(monitor.queues.map_or(0, |queues| queues.backlog));
    let is_of_use = fails && monitor.takes_budget(rate) || monitor.is_nearly_full(now);
    if tried && full || goes_on(Mitigation::Budget) && is_of_use {
        let why = "the SYN queue still fills".to_owned();
        needs.push(Need { mitigation: Mitigation::Budget, why, rate, hold: PATIENCE });
    }
    needs
}

/// Returns the reason that no mitigation that keeps SYNs away is started against an incident of this class,
/// where one can be given. Rules have acted since `ruled`. `idle` is the reason that the agent starts no
/// mitigation there at all.
pub(super) fn without_mitigation(
    class: IncidentClass,
    monitor: &ListenerMonitor,
    now: Timestamp,
    ruled: Option<Timestamp>,
    idle: Option<RestraintReason>,
) -> Option<Restraint> {
    if monitor.ladder.keeps_syns_away() {
        return None;
    }
    let rest = monitor.residual?;
    if monitor.pressed(now, ruled).is_none() {
        if !class.is_flood() {
            return None;
        }
        if !rest.matters() {
            return Some(RestraintReason::RulesSuffice.with(vec![
                Quantity::UncoveredFlows.counts(rest.flows).at_least(RESIDUAL_FLOWS as f64),
                Quantity::UncoveredShare.is(rest.share).at_least(RESIDUAL_SHARE),
            ]));
        }
    }
    let not_local = || (monitor.kind != ListenerKind::Local).then_some(RestraintReason::NotLocal);
    if let Some(reason) = idle.or_else(not_local) {
        return Some(reason.into());
    }
    let mut refused =
        monitor.ladder.report(now).filter(|report| report.mitigation.keeps_syns_away());
    refused.next().map(|report| {
        RestraintReason::Refused { mitigation: report.mitigation, why: report.why }.into()
    })
}

/// The effect in enforce mode, for the list of actions.
fn would(need: &Need) -> Option<String> {
    let would = match need.mitigation {
        Mitigation::Cookies => "answer SYNs with cookies",
        Mitigation::Overload => "let only validated clients and repeated SYNs through",
        Mitigation::Budget => "limit the SYNs of clients that are not validated",
        Mitigation::OutOfState | Mitigation::Source | Mitigation::Signature => return None,
    };
    Some(format!("in enforce mode the guard would {would}: {}", need.why))
}
