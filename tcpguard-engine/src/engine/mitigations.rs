//! The mitigations beside rules: choosing those that the situation calls for, starting and stopping them, and
//! withdrawing those that keep clients out.

use std::time::Duration;

use super::Engine;
use super::held_back::idle;
use super::hints::ahead;
use super::monitor::{ALERT_WINDOW, Harmful, ListenerMonitor, PATIENCE};
use super::upkeep::{acting_since, active_rules};
use crate::evidence::{IncidentClass, Quantity, Severity};
use crate::incident::{Event, Fallback, NamedRule, Restraint, RestraintReason, Target};
use crate::input::{
    Family, Listener, ListenerId, ListenerKind, Matcher, Mitigation, Mode, Order, Timestamp,
    constants, rate as rounded_rate, share,
};
use crate::listener::Egress;
use crate::mitigation::{
    Harm, HeldBack, MITIGATION_RETRY, MitigationReason, MitigationReport, MitigationState, Move,
    Need, Newest, Setback, budget,
};
use crate::output::{Command, ListenerReport, RequestError, Response};
use crate::policy::{RESIDUAL_FLOWS, RESIDUAL_SHARE};
use crate::rules::{Entry, RemovalReason, RuleTable};
use crate::settings::{Limits, Settings};

constants! {
    /// Resets per second that a listener sends, from which tcpguard looks for out-of-state segments.
    pub(crate) const OUT_OF_STATE_RATE: f64 = 256.0 PerSecond in 1.0..=10_000_000.0,
        "64 in a poll, as fast_min. Weighed against servers that close with data unread, \
         which send resets of their own.";
}

/// Share of the limit for retransmitted SYNs from which cookies answer them. Beyond the limit they are
/// dropped, those of clients too.
const USED: f64 = 0.5;
const SECOND: Duration = Duration::from_secs(1);
/// Mitigations started or stopped in a poll from which the other listeners of those that are reported together wait
/// for the next: for each, all others are asked whether it goes without saying, which at 4,096 is some 10 µs. The
/// agent says by itself when it has no time for more.
const AT_ONCE: usize = 32;

/// The starts of mitigations that are not reported yet: each may still fail.
#[derive(Clone, Debug, Default)]
pub(super) struct Starts {
    waiting: Vec<Start>,
    /// The start that the last command was about.
    pub(super) executing: Option<(ListenerId, Mitigation)>,
}

/// A start of a mitigation, and its alert if it has one.
#[derive(Clone, Debug)]
struct Start {
    at: Timestamp,
    listener: ListenerId,
    mitigation: Mitigation,
    alert: Option<Event>,
}

impl Starts {
    fn take(&mut self, listener: ListenerId, mitigation: Mitigation) -> Option<Start> {
        let is_it = |start: &Start| start.listener == listener && start.mitigation == mitigation;
        self.waiting.iter().position(is_it).map(|place| self.waiting.remove(place))
    }
}

impl Engine {
    /// Starts and stops mitigations, and withdraws those that keep clients out.
    pub(super) fn poll_mitigations(&mut self, now: Timestamp, elapsed: Duration) {
        self.withdraw_harmful(now, elapsed);
        let sharing =
            self.monitors.values().filter(|monitor| monitor.shares_rules()).count().max(1);
        let mut moves = Vec::new();
        let mut advice = Vec::new();
        let hinted = self.cookies_ahead(now);
        for id in hinted.keys() {
            self.monitors.get_mut(id);
        }
        for monitor in self.monitors.values_mut() {
            // Each start or stop is some work for the agent, and those of a carpet come all at once.
            if monitor.rolled.is_some() && moves.len() >= AT_ONCE {
                continue;
            }
            let ruled = ruled_since(monitor, &self.rule_table);
            let (newest, _) = acting_since(monitor, &self.rule_table);
            let newest = newest.max(monitor.ladder.since(Mitigation::Cookies)).unwrap_or_default();
            let situation = Situation { now, enforced: self.enforced, ruled, newest };
            let settings = &self.settings.common;
            let mode = self.settings.mode(monitor.listener, self.mode);
            let retransmitted = retransmitted(monitor, &self.rule_table, sharing, now);
            let mut needs = needs(monitor, &situation, retransmitted, settings);
            if mode != Mode::Enforce {
                advice.extend(needs.iter().map(|need| (monitor.id, would(need))));
            }
            if mode == Mode::Off {
                needs.clear();
            }
            let is_answered = needs.iter().any(|need| need.mitigation == Mitigation::Cookies);
            needs.extend(hinted.get(&monitor.id).filter(|_| !is_answered).copied().map(ahead));
            let agent_mode = self.mode;
            let ended = monitor.failing_ended();
            let full = monitor.accepts_no_connection();
            let changes = monitor.ladder.poll(now, &needs, ended, |mitigation| {
                let full = full.filter(|_| mitigation == Mitigation::Cookies);
                idle(mitigation, mode, agent_mode).or(full)
            });
            moves.extend(changes.into_iter().map(|change| (monitor.id, change)));
        }
        for (id, advised) in advice {
            if let Some((incident, advised)) = self.incident_at(id).zip(advised) {
                incident.note(now, advised);
            }
        }
        for (id, change) in moves {
            self.make(now, id, change);
        }
        self.pass_excess(now);
        self.withhold_cookies(now);
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
        let (listener, with_others) = (monitor.listener, monitor.rolled.is_some());
        let alerted = matters && !is_alerted;
        match change {
            Move::Take { mitigation, rate, why } => {
                if mitigation.keeps_syns_away() && monitor.ladder.since(mitigation) == Some(now) {
                    monitor.try_out(now, Newest::Mitigation(mitigation));
                }
                self.commands.push_back(Command::StartMitigation {
                    listener: id,
                    mitigation,
                    rate,
                });
                let rate = (mitigation == Mitigation::Budget).then_some(rate);
                let event =
                    Event::MitigationStarted { listener, with_others, mitigation, rate, why };
                let alert = alerted.then_some(event);
                self.starts.waiting.push(Start { at: now, listener: id, mitigation, alert });
            }
            Move::Leave { mitigation, why } => {
                monitor.ladder.breaker.forget(&Newest::Mitigation(mitigation));
                monitor.ladder.fewer.forget(&mitigation);
                self.commands.push_back(Command::StopMitigation { listener: id, mitigation });
                if alerted {
                    let event = Event::MitigationStopped { listener, with_others, mitigation, why };
                    self.alert_at(now, id, Severity::Notice, event);
                }
            }
        }
    }

    /// Reports the mitigation that the last command started.
    pub(super) fn report_start(&mut self) {
        let Some((listener, mitigation)) = self.starts.executing.take() else { return };
        let Some(start) = self.starts.take(listener, mitigation) else { return };
        self.record_start(start.at, listener, mitigation, start.alert);
    }

    /// Notes a mitigation of an incident, and raises its alert if it has one.
    pub(super) fn record_start(
        &mut self,
        at: Timestamp,
        listener: ListenerId,
        mitigation: Mitigation,
        alert: Option<Event>,
    ) {
        if let Some(incident) = self.incident_at(listener) {
            incident.record_mitigation(mitigation);
        }
        if let Some(event) = alert {
            self.alert_at(at, listener, Severity::Notice, event);
        }
    }

    /// Withdraws the newest rule or mitigation where fewer clients get in since.
    fn withdraw_harmful(&mut self, now: Timestamp, elapsed: Duration) {
        let harmful: Vec<(ListenerId, Harmful)> = self
            .monitors
            .values_mut()
            .filter_map(|monitor| Some((monitor.id, monitor.judge_newest(now, elapsed)?)))
            .collect();
        for (id, Harmful { newest, harm, family }) in harmful {
            let other_works = |family: &Family| {
                self.monitors.get(&id).is_some_and(|monitor| monitor.has_cookies(family.other()))
            };
            match (newest, family.filter(other_works)) {
                (Newest::Mitigation(_), Some(family)) => self.withhold_from(now, id, family, harm),
                (Newest::Mitigation(mitigation), None) => {
                    self.withdraw_mitigation(now, id, mitigation, harm)
                }
                (Newest::Rule(matcher), _) => self.withdraw_rule(now, id, &matcher, harm),
            }
        }
    }

    fn withdraw_mitigation(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        harm: Harm,
    ) {
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let listener = monitor.listener;
        let pause = monitor.ladder.pause(mitigation).as_secs();
        let why = MitigationReason::Harmful { harm };
        let (retry_s, taken) = match harm.is_lasting() {
            true => (None, monitor.ladder.withhold(mitigation, why)),
            false => (Some(pause), monitor.ladder.refuse(now, mitigation, why)),
        };
        if taken {
            self.commands.push_back(Command::StopMitigation { listener: id, mitigation });
            let (family, addresses) = (None, Vec::new());
            let event = Event::MitigationWithdrawn {
                listener,
                mitigation,
                family,
                addresses,
                harm,
                retry_s,
            };
            self.alert_at(now, id, Severity::Warning, event);
        }
    }

    fn withdraw_rule(&mut self, now: Timestamp, id: ListenerId, matcher: &Matcher, harm: Harm) {
        let Some(rule) = self.rule_table.find(matcher).map(|entry| entry.rule.id) else { return };
        let retry = MITIGATION_RETRY;
        let why = RemovalReason::Harmful { harm };
        self.postpone(matcher, now + retry, &why);
        let rule = NamedRule { id: rule, target: Target::of(matcher) };
        let then = Fallback::Retry { after_s: retry.as_secs() };
        let event = Event::RuleWithdrawn { rule, why, then };
        self.note_at(now, id, event.clone());
        let incident = self.incident_at(id).map(|incident| incident.id());
        self.alert_rule(Severity::Warning, event, incident);
    }

    /// Says that a mitigation could not be started and that nothing of it is in the kernel. It is tried again
    /// after a minute, later each time, or when an operator asks. Where the reason may be gone `soon`, it is
    /// tried again after a second, without an alert.
    pub fn mitigation_failed(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        setback: Setback,
    ) {
        let Setback { error, remedy, soon } = setback;
        self.starts.take(id, mitigation);
        let is_alerted = self.failed_before(now, id, mitigation, soon);
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let listener = monitor.listener;
        let why = MitigationReason::Failed {
            error: error.as_str().into(),
            remedy: remedy.as_deref().map(Into::into),
        };
        let retry_s = (!soon).then(|| monitor.ladder.pause(mitigation).as_secs());
        match soon {
            true => monitor.ladder.defer(now, mitigation, why),
            false => _ = monitor.ladder.refuse(now, mitigation, why),
        }
        let event = Event::MitigationFailed { listener, mitigation, error, remedy, retry_s };
        match (is_alerted, soon) {
            (true, _) => {}
            (false, true) => self.note_at(now, id, event),
            (false, false) => self.alert_at(now, id, Severity::Warning, event),
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
        let found = self.monitors.all().find(|monitor| monitor.listener == listener);
        let id = found.map(|monitor| monitor.id);
        let found = id.and_then(|id| self.monitors.get_mut(&id));
        let monitor = found.ok_or(RequestError::NoListener { listener })?;
        let id = monitor.id;
        let lifetime = lifetime.min(Limits::MAX_ORDER);
        monitor.ladder.order(mitigation, order, uid, now + lifetime);
        if order == Order::Auto {
            monitor.take_up(now + ALERT_WINDOW, Some(mitigation));
        }
        let lifetime_s = lifetime.as_secs();
        let event = Event::MitigationOrdered { listener, mitigation, order, uid, lifetime_s };
        self.alert_at(now, id, Severity::Notice, event);
        if order == Order::Off && mitigation.is_done_by_rules() {
            self.release_forbidden(now, id, mitigation);
        }
        self.poll_mitigations(now, Duration::ZERO);
        let report = self.report_of(id).ok_or(RequestError::NoListener { listener })?;
        Ok(Response::MitigationOrdered(Box::new(report)))
    }

    /// One listener, as [`Engine::report`] says it.
    pub fn listener(&self, listener: &Listener) -> Option<ListenerReport> {
        let id = self.monitors.all().find(|monitor| monitor.listener == *listener)?.id;
        self.report_of(id)
    }

    /// Withdraws the automatic rules of a kind that an operator forbids at a listener.
    fn release_forbidden(&mut self, now: Timestamp, id: ListenerId, mitigation: Mitigation) {
        let own = self.monitors.get_mut(&id).and_then(|monitor| monitor.incident.as_deref_mut());
        // A rule for every listener is one for this, too.
        let all = self.rolled.as_mut().map(|rolled| &mut rolled.incident);
        for incident in own.into_iter().chain(all) {
            incident.release_mitigation(mitigation, &RemovalReason::Forbidden);
        }
        self.carry_out_plan(now);
    }

    fn note_at(&mut self, now: Timestamp, id: ListenerId, event: Event) {
        if let Some(incident) = self.incident_at(id) {
            incident.note(now, event);
            incident.note_actions_notified();
        }
    }

    /// Raises an alert about a listener, and notes it at its incident.
    pub(super) fn alert_at(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        severity: Severity,
        event: Event,
    ) {
        self.note_at(now, id, event.clone());
        let incident = self.report_at(id);
        self.alert(severity, event, incident);
    }
}

/// Conditions of mitigations beside the listener.
struct Situation {
    now: Timestamp,
    /// Time since which the agent may act.
    enforced: Timestamp,
    /// Time since which the listener's rules have acted.
    ruled: Option<Timestamp>,
    /// Time since which the newest of these rules, or of cookies, has acted.
    newest: Timestamp,
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
) -> Option<MitigationReason> {
    if active_rules(monitor, rule_table).any(|entry| entry.hits_clients(now)) {
        return Some(MitigationReason::ClientsMatchRule);
    }
    let retransmitting = |entry: &Entry| match entry.is_shared() {
        true => entry.meter.retransmitting(now) / sharing as f64,
        false => entry.meter.retransmitting(now),
    };
    let passed: f64 = active_rules(monitor, rule_table).map(retransmitting).sum();
    let backlog = monitor.queues.map_or(0, |queues| queues.backlog);
    let many = passed >= USED * f64::from(budget(backlog));
    many.then_some(MitigationReason::Retransmitted)
}

/// Returns the mitigations that a listener's situation calls for. `retransmitted` is the reason that SYNs
/// that a rule matches call for cookies when they are retransmitted.
fn needs(
    monitor: &ListenerMonitor,
    around: &Situation,
    retransmitted: Option<MitigationReason>,
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
            Some(_) => MitigationReason::Flood,
            None => MitigationReason::Resets { per_second: rounded_rate(resets) },
        };
        needs.push(Need { mitigation: Mitigation::OutOfState, why, rate: 0, hold });
    }
    let rest = monitor.residual.filter(|rest| rest.matters());
    let uncovered = rest.map(|rest| MitigationReason::Uncovered { share: share(rest.share) });
    let why = uncovered.or(retransmitted).filter(|_| flood.is_some());
    let why = why.or_else(|| monitor.resembles_the_flood());
    let pressed = monitor.pressed(now, around.ruled);
    let why = why.or(pressed.clone());
    // How a listener answers is learned from its answers.
    let is_known = monitor.kind == ListenerKind::Local && monitor.egress() != Egress::Unseen;
    if let Some(why) = why.filter(|_| is_known) {
        needs.push(Need { mitigation: Mitigation::Cookies, why, rate: 0, hold });
    }
    if !monitor.handshakes_failed() {
        return needs;
    }
    // A mitigation that keeps clients waiting starts against a flood only, for the SYNs that the newest rule and
    // cookies leave. It stops when the queue has free slots again, or rules drop the SYNs that filled it. A verdict
    // that changes meanwhile does not stop it.
    let begins = flood.is_some_and(|alarmed| {
        let patient = now.since(alarmed.max(around.enforced)) >= PATIENCE;
        patient && (rest.is_some() || pressed.is_some())
    });
    let rate = budget(monitor.queues.map_or(0, |queues| queues.backlog));
    let goes_on = || {
        let fails = monitor.quiet(now) < PATIENCE && monitor.still_fails(now, around.newest);
        monitor.is_nearly_full(now) || fails && monitor.takes_budget(rate)
    };
    let is_needed = match monitor.ladder.has(Mitigation::Budget) {
        true => goes_on(),
        false => begins && monitor.is_unanswered(now, around.newest),
    };
    if is_needed {
        let why = MitigationReason::QueueStillFull;
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
    idle: Option<HeldBack>,
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
    if let Some(by) = idle.or(monitor.accepts_no_connection()) {
        return Some(RestraintReason::HeldBack { by }.into());
    }
    if monitor.kind != ListenerKind::Local {
        return Some(RestraintReason::NotLocal.into());
    }
    let mut refused =
        monitor.ladder.report(now).filter(|report| report.mitigation.keeps_syns_away());
    refused.next().map(|report| {
        RestraintReason::Refused { mitigation: report.mitigation, why: report.why }.into()
    })
}

/// The effect in enforce mode, for the list of actions.
fn would(need: &Need) -> Option<Event> {
    let Need { mitigation, why, .. } = need;
    let event = Event::MitigationAdvised { mitigation: *mitigation, why: why.clone() };
    mitigation.keeps_syns_away().then_some(event)
}
