//! The mitigations beside rules: choosing those that the situation calls for, starting and stopping them, and
//! withdrawing those that keep clients out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Engine;
use super::hints::ahead;
use super::listeners::acting_since;
use super::mandate::idle;
use super::monitor::{Harmful, ListenerMonitor};
use super::needs::{Situation, needs, retransmitted, ruled_since, would};
use super::outbox::Start;
use crate::incident::{Event, Fallback, NamedRule, Target};
use crate::input::{Family, ListenerId, Matcher, Mitigation, Mode, Timestamp, Withheld};
use crate::mitigation::{
    AddressReplies, Harm, MITIGATION_RETRY, MitigationReason, MitigationReport, MitigationState,
    Move, Newest, Setback,
};
use crate::output::Command;
use crate::rules::RemovalReason;

/// Mitigations started or stopped in a poll from which the other listeners of those that are reported together wait
/// for the next: for each, all others are asked whether it goes without saying, which at 4,096 is some 10 µs. The
/// agent says by itself when it has no time for more.
const AT_ONCE: usize = 32;

impl Engine {
    /// Starts and stops mitigations, and withdraws those that keep clients out.
    pub(super) fn poll_mitigations(&mut self, now: Timestamp, elapsed: Duration) {
        self.withdraw_harmful(now, elapsed);
        let sharing = self
            .listeners
            .monitors
            .values()
            .filter(|monitor| monitor.shares_rules())
            .count()
            .max(1);
        let mut moves = Vec::new();
        let mut advice = Vec::new();
        let hinted = self.hinted.ahead(now, &self.listeners, &self.mandate);
        for id in hinted.keys() {
            self.listeners.monitors.get_mut(id);
        }
        for monitor in self.listeners.monitors.values_mut() {
            // Each start or stop is some work for the agent, and those of a carpet come all at once.
            if monitor.rolled.is_some() && moves.len() >= AT_ONCE {
                continue;
            }
            let ruled = ruled_since(monitor, &self.rules.table);
            let (newest, _) = acting_since(monitor, &self.rules.table);
            let newest = newest.max(monitor.ladder.since(Mitigation::Cookies)).unwrap_or_default();
            let situation = Situation { now, enforced: self.mandate.enforced, ruled, newest };
            let settings = &self.mandate.settings.common;
            let mode = self.mandate.mode_at(monitor.listener);
            let retransmitted = retransmitted(monitor, &self.rules.table, sharing, now);
            let mut needs = needs(monitor, &situation, retransmitted, settings);
            if mode != Mode::Enforce {
                advice.extend(needs.iter().map(|need| (monitor.id, would(need))));
            }
            if mode == Mode::Off {
                needs.clear();
            }
            let is_answered = needs.iter().any(|need| need.mitigation == Mitigation::Cookies);
            needs.extend(hinted.get(&monitor.id).filter(|_| !is_answered).copied().map(ahead));
            let agent_mode = self.mandate.mode;
            let ended = monitor.failing_ended();
            let full = monitor.accepts_no_connection();
            let changes = monitor.ladder.poll(now, &needs, ended, |mitigation| {
                let full = full.filter(|_| mitigation == Mitigation::Cookies);
                idle(mitigation, mode, agent_mode).or(full)
            });
            moves.extend(changes.into_iter().map(|change| (monitor.id, change)));
        }
        for (id, advised) in advice {
            if let Some((incident, advised)) = self.listeners.incident_at(id).zip(advised) {
                incident.note(now, advised);
            }
        }
        for (id, change) in moves {
            self.make(now, id, change);
        }
        self.pass_excess(now);
        self.listeners.withhold_cookies(now, &mut self.outbox);
    }

    fn make(&mut self, now: Timestamp, id: ListenerId, change: Move) {
        let (Move::Take { mitigation, .. } | Move::Leave { mitigation, .. }) = &change;
        let is_alerted = self.listeners.goes_without_saying(id, *mitigation);
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
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
                let limit = (mitigation == Mitigation::Budget).then_some(rate);
                let alert = alerted.then_some(Event::MitigationStarted {
                    listener,
                    with_others,
                    mitigation,
                    rate: limit,
                    why,
                });
                self.outbox.start(Start { at: now, listener: id, mitigation, alert }, rate);
            }
            Move::Leave { mitigation, why } => {
                monitor.ladder.breaker.forget(&Newest::Mitigation(mitigation));
                monitor.ladder.fewer.forget(&mitigation);
                self.outbox.push(Command::StopMitigation { listener: id, mitigation });
                if alerted {
                    let event = Event::MitigationStopped { listener, with_others, mitigation, why };
                    self.alert_at(now, id, event);
                }
            }
        }
    }

    /// Notes a mitigation of an incident, and raises its alert if it has one.
    pub(super) fn record_start(
        &mut self,
        at: Timestamp,
        listener: ListenerId,
        mitigation: Mitigation,
        alert: Option<Event>,
    ) {
        if let Some(incident) = self.listeners.incident_at(listener) {
            incident.record_mitigation(mitigation);
        }
        if let Some(event) = alert {
            self.alert_at(at, listener, event);
        }
    }

    /// Withdraws the newest rule or mitigation where fewer clients get in since.
    fn withdraw_harmful(&mut self, now: Timestamp, elapsed: Duration) {
        let mut reached: BTreeMap<IpAddr, Vec<Family>> = BTreeMap::new();
        for monitor in
            self.listeners.monitors.values().filter(|it| it.ladder.has(Mitigation::Cookies))
        {
            let families = Family::ALL.into_iter().filter(|of| monitor.ladder.canary.reaches(*of));
            reached.entry(monitor.listener.addr).or_default().extend(families);
        }
        let judge = |monitor: &mut ListenerMonitor| {
            let elsewhere = reached.get(&monitor.listener.addr).map_or(&[][..], Vec::as_slice);
            Some((monitor.id, monitor.judge_newest(now, elapsed, elsewhere)?))
        };
        let harmful: Vec<(ListenerId, Harmful)> =
            self.listeners.monitors.values_mut().filter_map(judge).collect();
        for (id, Harmful { newest, harm, family }) in harmful {
            let other_works = |family: &Family| {
                self.listeners
                    .monitors
                    .get(&id)
                    .is_some_and(|monitor| monitor.has_cookies(family.other()))
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
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
        let listener = monitor.listener;
        let pause = monitor.ladder.pause(mitigation).as_secs();
        let why = MitigationReason::Harmful { harm };
        let (retry_s, taken) = match harm.is_lasting() {
            true => (None, monitor.ladder.withhold(mitigation, why)),
            false => (Some(pause), monitor.ladder.refuse(now, mitigation, why)),
        };
        if taken {
            self.outbox.push(Command::StopMitigation { listener: id, mitigation });
            let (family, addresses) = (None, Vec::new());
            let event = Event::MitigationWithdrawn {
                listener,
                mitigation,
                family,
                addresses,
                harm,
                retry_s,
            };
            self.alert_at(now, id, event);
        }
    }

    fn withdraw_rule(&mut self, now: Timestamp, id: ListenerId, matcher: &Matcher, harm: Harm) {
        let Some(rule) = self.rules.table.find(matcher).map(|entry| entry.rule.id) else { return };
        let retry = MITIGATION_RETRY;
        let why = RemovalReason::Harmful { harm };
        self.listeners.postpone(matcher, now + retry, &why);
        let rule = NamedRule { id: rule, target: Target::of(matcher) };
        let then = Fallback::Retry { after_s: retry.as_secs() };
        let event = Event::RuleWithdrawn { rule, why, then };
        self.listeners.note_at(now, id, event.clone());
        let incident = self.listeners.incident_at(id).map(|incident| incident.id());
        self.alert_rule(event, incident);
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
        self.outbox.take_start(id, mitigation);
        let is_alerted = self.listeners.failed_before(now, id, mitigation, soon);
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
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
            (false, true) => self.listeners.note_at(now, id, event),
            (false, false) => self.alert_at(now, id, event),
        }
    }

    /// Returns whether a mitigation is refused anywhere: then a change of the possible reasons for a refusal matters.
    pub fn refuses_mitigation(&self, now: Timestamp, mitigation: Mitigation) -> bool {
        let is_refused = |report: MitigationReport| {
            report.mitigation == mitigation && report.state == MitigationState::Refused
        };
        self.listeners.monitors.values().any(|monitor| monitor.ladder.report(now).any(is_refused))
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
        for monitor in self.listeners.monitors.values_mut() {
            let freed = freed.contains(&monitor.id);
            monitor.ladder.reconsider(now, mitigation, freed);
        }
    }

    /// Lets SYNs beyond the limits of replies pass where this agent sends cookies without an incident, and nowhere else: a
    /// flash crowd exceeds the limits, too. Cookies that an operator orders, or that an earlier agent sent, are there for
    /// a flood that may be no incident yet. Reports cookies for which this host has a reason of its own from now on.
    pub(super) fn pass_excess(&mut self, now: Timestamp) {
        let mut called_for = Vec::new();
        for monitor in self.listeners.monitors.values_mut() {
            let by_itself = monitor.ladder.reason(Mitigation::Cookies).is_some_and(|why| {
                !matches!(why, MitigationReason::Ordered { .. } | MitigationReason::Inherited)
            });
            let ahead = monitor.ladder.sends_ahead();
            let pass = ahead || by_itself && monitor.class().is_none();
            if pass != std::mem::replace(&mut monitor.passes_excess, pass) {
                self.outbox.push(Command::PassExcess { listener: monitor.id, pass });
            }
            let was_ahead = std::mem::replace(&mut monitor.sends_ahead, ahead);
            if was_ahead
                && !ahead
                && let Some(why) = monitor.ladder.reason(Mitigation::Cookies).cloned()
            {
                let (listener, with_others) = (monitor.listener, monitor.rolled.is_some());
                let mitigation = Mitigation::Cookies;
                let event =
                    Event::MitigationStarted { listener, with_others, mitigation, rate: None, why };
                called_for.push((monitor.id, event));
            }
        }
        for (id, event) in called_for {
            let alert =
                (!self.listeners.goes_without_saying(id, Mitigation::Cookies)).then_some(event);
            self.record_start(now, id, Mitigation::Cookies, alert);
        }
    }

    /// Withholds cookies from the clients of those addresses of a listener to which none is returned, while cookies of
    /// its other addresses are.
    pub fn judge_addresses(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        addresses: &[AddressReplies],
    ) {
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
        // Connections that the application does not accept are no fault of a mitigation.
        if !monitor.ladder.has(Mitigation::Cookies) || monitor.overloaded() {
            return;
        }
        let mut harmed = monitor.ladder.canary.poll_addresses(now, addresses);
        harmed.retain(|(addr, _)| {
            monitor.ladder.withheld(now).all(|whom| whom != Withheld::Address(*addr))
        });
        let Some(&(_, harm)) = harmed.first() else { return };
        let mut retry_s = None;
        for &(addr, harm) in &harmed {
            let (whom, why) = (Withheld::Address(addr), MitigationReason::Harmful { harm });
            retry_s = retry_s.max(Some(monitor.ladder.withhold_from(now, whom, why).as_secs()));
        }
        let event = Event::MitigationWithdrawn {
            listener: monitor.listener,
            mitigation: Mitigation::Cookies,
            family: None,
            addresses: harmed.into_iter().map(|(addr, _)| addr).collect(),
            harm,
            retry_s,
        };
        self.alert_at(now, id, event);
    }

    /// Withholds cookies from the clients of one family, where those of the other connect with them.
    pub(super) fn withhold_from(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        family: Family,
        harm: Harm,
    ) {
        let Some(monitor) = self.listeners.monitors.get_mut(&id) else { return };
        let (listener, mitigation) = (monitor.listener, Mitigation::Cookies);
        let why = MitigationReason::Harmful { harm };
        let retry_s =
            Some(monitor.ladder.withhold_from(now, Withheld::Family(family), why).as_secs());
        monitor.judge_anew(now, family);
        let (family, addresses) = (Some(family), Vec::new());
        let event =
            Event::MitigationWithdrawn { listener, mitigation, family, addresses, harm, retry_s };
        self.alert_at(now, id, event);
    }
}
