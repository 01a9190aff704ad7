//! The use of hints beside rules: SYNs with a hinted signature are counted, and cookies are sent ahead of a flood that
//! other hosts report.
//!
//! Any host of the fleet may send hints, also one that an attacker holds. So cookies are sent ahead at a few listeners
//! at a time, and at each for a fifth of the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Engine;
use super::monitor::ListenerMonitor;
use crate::incident::Event;
use crate::input::{
    Flows, Hint, ListenerId, ListenerKind, Mitigation, Mode, SharedSignature, Timestamp, constants,
};
use crate::listener::Egress;
use crate::mitigation::{MitigationReason, Need};
use crate::output::{Command, FleetRefusal, HintReport};

constants! {
    /// Listeners at which cookies are sent ahead at a time.
    const AHEAD_LISTENERS: usize = 16 Count in 1..=4096,
        "An edge host has a few listeners that a flood would choose. Weighed against hints about \
         every port, which must not change how every listener is answered.";

    /// Time for which cookies are sent ahead at a listener.
    const AHEAD: Duration = 120 Seconds in 10..=600,
        "Reports of a flood reach other hosts within seconds, and a flood that goes from host to \
         host within two minutes.";

    /// Time from the start of cookies ahead after which they may be sent ahead there again.
    const AHEAD_AGAIN: Duration = 600 Seconds in 120..=86_400,
        "Five times AHEAD: a host of the fleet that an attacker holds buys cookies for a fifth of \
         the time.";
}

impl Engine {
    pub(super) fn take_hint(&mut self, now: Timestamp, hint: &Hint) -> Result<(), FleetRefusal> {
        let signature = hint.signature.parsed().filter(|_| hint.port != 0 && hint.reporters > 0);
        let signature = signature.ok_or(FleetRefusal::Malformed)?;
        let ttl = Duration::from_secs(hint.ttl_s.into());
        match self.hints.take(now, hint.port, signature, hint.reporters, ttl) {
            true => Ok(()),
            false => Err(FleetRefusal::HintsFull),
        }
    }

    /// Chooses the listeners at which cookies are sent ahead, and forgets the hints that were not repeated.
    pub(super) fn follow_hints(&mut self, now: Timestamp) {
        self.hints.expire(now);
        let monitors = &self.monitors;
        self.ahead
            .retain(|id, began| now.since(*began) < AHEAD_AGAIN && monitors.get(id).is_some());
        if self.hints.is_empty() {
            return;
        }
        let mut free = AHEAD_LISTENERS
            .saturating_sub(self.ahead.values().filter(|began| now.since(**began) < AHEAD).count());
        for monitor in self.monitors.all() {
            if free > 0
                && !self.ahead.contains_key(&monitor.id)
                && self.may_answer(monitor)
                && self.hints.at(monitor.listener.port).is_some()
            {
                self.ahead.insert(monitor.id, now);
                free -= 1;
            }
        }
    }

    /// The listeners at which cookies are sent ahead now, each with the number of hosts that report a flood of its
    /// port.
    pub(super) fn cookies_ahead(&self, now: Timestamp) -> BTreeMap<ListenerId, u16> {
        let began = self.ahead.iter().filter(|(_, began)| now.since(**began) < AHEAD);
        let hinted = |(id, _): (&ListenerId, &Timestamp)| {
            let monitor = self.monitors.get(id).filter(|monitor| self.may_answer(monitor))?;
            Some((*id, self.hints.at(monitor.listener.port)?))
        };
        began.filter_map(hinted).collect()
    }

    /// Lets SYNs beyond the limits of replies pass where this agent sends cookies without an incident, and nowhere else: a
    /// flash crowd exceeds the limits, too. Cookies that an operator orders, or that an earlier agent sent, are there for
    /// a flood that may be no incident yet. Reports cookies for which this host has a reason of its own from now on.
    pub(super) fn pass_excess(&mut self, now: Timestamp) {
        let mut called_for = Vec::new();
        for monitor in self.monitors.values_mut() {
            let by_itself = monitor.ladder.reason(Mitigation::Cookies).is_some_and(|why| {
                !matches!(why, MitigationReason::Ordered { .. } | MitigationReason::Inherited)
            });
            let ahead = monitor.ladder.sends_ahead();
            let pass = ahead || by_itself && monitor.class().is_none();
            if pass != std::mem::replace(&mut monitor.passes_excess, pass) {
                self.commands.push_back(Command::PassExcess { listener: monitor.id, pass });
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
            let alert = (!self.goes_without_saying(id, Mitigation::Cookies)).then_some(event);
            self.record_start(now, id, Mitigation::Cookies, alert);
        }
    }

    /// Returns whether cookies can be sent ahead: how a listener answers is learned from its answers.
    fn may_answer(&self, monitor: &ListenerMonitor) -> bool {
        self.settings.mode(monitor.listener, self.mode) == Mode::Enforce
            && monitor.kind == ListenerKind::Local
            && monitor.egress() != Egress::Unseen
    }

    /// Counts the SYNs with a hinted signature among all flows since the last survey.
    pub(super) fn count_hinted(&mut self, now: Timestamp, flows: &Flows) {
        let since = std::mem::replace(&mut self.hints_counted, now);
        if self.hints.is_empty() {
            return;
        }
        for monitor in self.monitors.values() {
            self.hints.count(monitor.listener.port, since, monitor.flows(flows));
        }
    }

    /// The hints of other hosts that hold, with their effect here.
    pub fn hints(&self) -> impl Iterator<Item = HintReport> {
        // As they are in force: they may be refused or forbidden where a hint calls for them.
        let is_ahead = |monitor: &&ListenerMonitor| {
            let mut taken = monitor.ladder.report(self.now);
            taken.any(|report| report.why.is_hint())
        };
        let answering = self.monitors.values().filter(is_ahead);
        let ports: BTreeSet<u16> = answering.map(|monitor| monitor.listener.port).collect();
        self.hints.iter().map(move |(&(port, mask, print), held)| HintReport {
            port,
            signature: SharedSignature::of(mask, &print),
            reporters: held.reporters,
            syns: held.syns,
            cookies_ahead: ports.contains(&port),
        })
    }
}

/// The need for cookies ahead of a flood that so many hosts report. It ends with the hint.
pub(super) const fn ahead(hosts: u16) -> Need {
    Need {
        mitigation: Mitigation::Cookies,
        why: MitigationReason::Hinted { hosts },
        rate: 0,
        hold: Duration::ZERO,
    }
}
