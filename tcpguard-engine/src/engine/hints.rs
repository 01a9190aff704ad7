//! The use of hints beside rules: SYNs with a hinted signature are counted, and cookies are sent ahead of a flood that
//! other hosts report.
//!
//! Any host of the fleet may send hints, also one that an attacker holds. So cookies are sent ahead at a few listeners
//! at a time, and at each for a fifth of the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::listeners::Listeners;
use super::mandate::Mandate;
use super::monitor::ListenerMonitor;
use crate::evidence::Hints;
use crate::input::{Flows, Hint, ListenerId, Mitigation, SharedSignature, Timestamp, constants};
use crate::mitigation::{MitigationReason, Need};
use crate::output::{FleetRefusal, HintReport};

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

/// Hints and their use.
#[derive(Clone, Debug, Default)]
pub(super) struct Hinted {
    /// Signatures of floods that other hosts of the fleet report.
    pub hints: Hints,
    /// Time up to which SYNs with these signatures are counted.
    counted: Timestamp,
    /// Listeners at which cookies were sent ahead of a flood a short while ago, and the time at which that began.
    ahead: BTreeMap<ListenerId, Timestamp>,
}

impl Hinted {
    pub fn take(&mut self, now: Timestamp, hint: &Hint) -> Result<(), FleetRefusal> {
        let signature = hint.signature.parsed().filter(|_| hint.port != 0 && hint.reporters > 0);
        let signature = signature.ok_or(FleetRefusal::Malformed)?;
        let ttl = Duration::from_secs(hint.ttl_s.into());
        match self.hints.take(now, hint.port, signature, hint.reporters, ttl) {
            true => Ok(()),
            false => Err(FleetRefusal::HintsFull),
        }
    }

    /// Chooses the listeners at which cookies are sent ahead, and forgets the hints that were not repeated.
    pub fn follow(&mut self, now: Timestamp, listeners: &Listeners, mandate: &Mandate) {
        self.hints.expire(now);
        let monitors = &listeners.monitors;
        self.ahead
            .retain(|id, began| now.since(*began) < AHEAD_AGAIN && monitors.get(id).is_some());
        if self.hints.is_empty() {
            return;
        }
        let mut free = AHEAD_LISTENERS
            .saturating_sub(self.ahead.values().filter(|began| now.since(**began) < AHEAD).count());
        for monitor in listeners.monitors.all() {
            if free > 0
                && !self.ahead.contains_key(&monitor.id)
                && mandate.may_answer(monitor)
                && self.hints.at(monitor.listener.port).is_some()
            {
                self.ahead.insert(monitor.id, now);
                free -= 1;
            }
        }
    }

    /// The listeners at which cookies are sent ahead now, each with the number of hosts that report a flood of its
    /// port.
    pub fn ahead(
        &self,
        now: Timestamp,
        listeners: &Listeners,
        mandate: &Mandate,
    ) -> BTreeMap<ListenerId, u16> {
        let began = self.ahead.iter().filter(|(_, began)| now.since(**began) < AHEAD);
        let hinted = |(id, _): (&ListenerId, &Timestamp)| {
            let monitor =
                listeners.monitors.get(id).filter(|monitor| mandate.may_answer(monitor))?;
            Some((*id, self.hints.at(monitor.listener.port)?))
        };
        began.filter_map(hinted).collect()
    }

    /// Counts the SYNs with a hinted signature among all flows since the last survey.
    pub fn count(&mut self, now: Timestamp, flows: &Flows, listeners: &Listeners) {
        let since = std::mem::replace(&mut self.counted, now);
        if self.hints.is_empty() {
            return;
        }
        for monitor in listeners.monitors.values() {
            self.hints.count(monitor.listener.port, since, monitor.flows(flows));
        }
    }

    /// The hints of other hosts that hold, with their effect here.
    pub fn report(&self, listeners: &Listeners) -> impl Iterator<Item = HintReport> {
        // As they are in force: they may be refused or forbidden where a hint calls for them.
        let is_ahead = |monitor: &&ListenerMonitor| {
            let mut taken = monitor.ladder.report(listeners.now);
            taken.any(|report| report.why.is_hint())
        };
        let answering = listeners.monitors.values().filter(is_ahead);
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
