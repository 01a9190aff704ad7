//! The mitigations that a listener's situation calls for.

use std::time::Duration;

use super::listeners::active_rules;
use super::monitor::{ListenerMonitor, PATIENCE};
use crate::evidence::{IncidentClass, Quantity};
use crate::incident::{Event, Restraint, RestraintReason};
use crate::input::{ListenerKind, Mitigation, Timestamp, constants, rate as rounded_rate, share};
use crate::listener::Egress;
use crate::mitigation::{HeldBack, MitigationReason, Need, budget};
use crate::policy::{RESIDUAL_FLOWS, RESIDUAL_SHARE};
use crate::rules::{Entry, RuleTable};
use crate::settings::Settings;

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

/// Conditions of mitigations beside the listener.
pub(super) struct Situation {
    pub now: Timestamp,
    /// Time since which the agent may act.
    pub enforced: Timestamp,
    /// Time since which the listener's rules have acted.
    pub ruled: Option<Timestamp>,
    /// Time since which the newest of these rules, or of cookies, has acted.
    pub newest: Timestamp,
}

/// Returns the time since which rules have acted for a listener. The oldest one counts, since the next one is
/// no reason to wait anew.
pub(super) fn ruled_since(monitor: &ListenerMonitor, rule_table: &RuleTable) -> Option<Timestamp> {
    active_rules(monitor, rule_table).map(|entry| entry.rule.created).min()
}

/// Returns the reason that cookies should answer the retransmitted SYNs that a listener's rules let pass: new
/// clients are among them, or they are so many that the stack takes only a part. An attacker can retransmit
/// at will, but cookies harm no client. The rules for every listener are shared by `sharing` listeners.
pub(super) fn retransmitted(
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
pub(super) fn needs(
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
pub(super) fn would(need: &Need) -> Option<Event> {
    let Need { mitigation, why, .. } = need;
    let event = Event::MitigationAdvised { mitigation: *mitigation, why: why.clone() };
    mitigation.keeps_syns_away().then_some(event)
}
