//! The effect of rules at listeners, and the means in place of rules.

use std::collections::BTreeSet;

use super::Listeners;
use crate::engine::mandate::{Mandate, why};
use crate::engine::monitor::{ListenerMonitor, Shared};
use crate::engine::outbox::Outbox;
use crate::engine::rule_book::RuleBook;
use crate::incident::{Event, Incident, Instead};
use crate::input::{Family, ListenerId, Matcher, Mitigation, POLL, Timestamp, Withheld};
use crate::output::Command;
use crate::rules::{
    COMPLETED_SHARE, COMPLETED_WINDOW, Entry, MOSTLY, RULE_TTL, RemovalReason, RuleTable,
};

impl Listeners {
    /// The incident of a listener under attack, or that of the host, takes over the signature rules of an earlier run.
    pub fn hand_over(&mut self, id: ListenerId, rules: &RuleBook) {
        let incident = match id {
            ListenerId::HOST => self.rolled.as_mut().map(|rolled| &mut rolled.incident),
            _ => self.monitors.get_mut(&id).and_then(|monitor| monitor.incident.as_deref_mut()),
        };
        let Some(incident) = incident.filter(|open| open.class().is_flood()) else { return };
        for entry in rules.table.orphans() {
            let matcher = entry.rule.matcher;
            let here = matches!(matcher, Matcher::Signature { listener, .. } if listener == id);
            if here && !incident.wants(&matcher) && !incident.has_refused(self.now, &matcher) {
                incident.want(matcher, entry.rule.reason.clone(), RULE_TTL);
            }
        }
    }

    /// Lets incidents ask for no rules where rules are held back or forbidden. A rule in the kernel drops, whatever
    /// the settings of the listener, and so it must not be there. Those for every listener exempt it
    /// ([`Self::exempt_listeners`]).
    pub fn hold_back(&mut self, mandate: &Mandate) {
        for monitor in self.monitors.values_mut() {
            let Some(incident) = &mut monitor.incident else { continue };
            let mode = mandate.mode_at(monitor.listener);
            if let Some(by) = why(mode, mandate.mode) {
                incident.release_rules(&RemovalReason::HeldBack { by });
            }
            for mitigation in [Mitigation::Source, Mitigation::Signature] {
                if monitor.ladder.bars(mitigation) {
                    incident.release_mitigation(mitigation, &RemovalReason::Forbidden);
                }
            }
        }
    }

    /// The listener at which clients show whether a rule of an incident keeps them out: its own, or the one
    /// with the most clients of those that are reported together.
    pub fn alerts_for(&self, incident: u64) -> Option<ListenerId> {
        let own = |monitor: &&ListenerMonitor| {
            monitor.incident.as_deref().is_some_and(|open| open.id() == incident)
        };
        if let Some(monitor) = self.monitors.values().find(own) {
            return Some(monitor.id);
        }
        let rolled = self.rolled.as_ref().filter(|rolled| rolled.incident.id() == incident)?;
        let baseline = |id: &ListenerId| {
            self.monitors.get(id).and_then(|monitor| monitor.baseline_completed()).unwrap_or(0.0)
        };
        rolled.failing().max_by(|one, other| baseline(one).total_cmp(&baseline(other)))
    }

    /// Has incidents ask again for rules that made way for clients, where nothing replaces them.
    pub fn reclaim_yielded(&mut self, now: Timestamp) {
        for monitor in self.monitors.values_mut() {
            if monitor.incident.is_none() || monitor.is_answered(now) {
                continue;
            }
            let unanswered = monitor.window.last(POLL).unanswered > 0;
            monitor.incident.iter_mut().for_each(|incident| incident.reclaim(unanswered));
        }
        let Some(rolled) = &mut self.rolled else { return };
        let failing: Vec<&ListenerMonitor> =
            rolled.failing().filter_map(|id| self.monitors.get(&id)).collect();
        if failing.iter().all(|monitor| monitor.is_answered(now)) {
            return;
        }
        let unanswered = failing.iter().any(|monitor| monitor.window.last(POLL).unanswered > 0);
        rolled.incident.reclaim(unanswered);
    }

    /// The replacement for a rule that drops many SYNs of clients, should it go; `None` where there is none,
    /// or it drops none.
    pub fn instead_of(&self, now: Timestamp, entry: &Entry, mandate: &Mandate) -> Option<Instead> {
        let matcher = &entry.rule.matcher;
        // Where rules only count, clients are answered anyway.
        let enforced = mandate.enforces();
        // A few clients outweigh a hint of other hosts.
        if entry.rests_on_hint() && entry.hits_clients(now) {
            return Some(Instead::Nothing);
        }
        if entry.is_harmful(now) && (!enforced || self.is_answered(now, matcher)) {
            return Some(Instead::Cookies);
        }
        if !entry.hits_mostly_clients(now) {
            return None;
        }
        let span = COMPLETED_WINDOW;
        let served = |monitor: &ListenerMonitor| monitor.window.last(span).unanswered == 0;
        self.concerned(matcher).all(served).then_some(Instead::Nothing)
    }

    /// The listeners for which a rule is there.
    pub fn concerned<'a>(
        &'a self,
        matcher: &'a Matcher,
    ) -> impl Iterator<Item = &'a ListenerMonitor> {
        let rolled = self.rolled.as_ref().map(|rolled| &rolled.incident);
        self.monitors.values().filter(move |monitor| match matcher {
            Matcher::Signature { listener: ListenerId::HOST, .. } => monitor.shares_rules(),
            Matcher::Signature { listener, .. } => *listener == monitor.id,
            Matcher::Source(..) => {
                let incident =
                    if monitor.rolled.is_some() { rolled } else { monitor.incident.as_deref() };
                incident.is_some_and(|incident| incident.wants(matcher))
            }
        })
    }

    /// Returns whether cookies answer the SYNs that a signature rule drops.
    pub fn is_answered(&self, now: Timestamp, matcher: &Matcher) -> bool {
        if matches!(matcher, Matcher::Source(..)) {
            return false;
        }
        let mut concerned = self.concerned(matcher).peekable();
        concerned.peek().is_some() && concerned.all(|monitor| monitor.is_answered(now))
    }

    /// Counts the completed handshakes of retransmitted SYNs that signature rules or the SYN rate limit have let pass.
    pub fn count_completing(&mut self, now: Timestamp, rules: &RuleBook, mandate: &Mandate) {
        // In the other modes nothing is dropped.
        let enforced = mandate.enforces();
        let monitors = self.monitors.values().filter(|_| enforced);
        let completing = monitors.filter_map(|monitor| {
            // For a rule for every listener it is not known at which of them they complete.
            let own = active_rules(monitor, &rules.table).filter(|entry| !entry.is_shared());
            // Where only a sample of the dropped SYNs is remembered, each that is counted stands for many.
            let all = monitor.completing_rate();
            let by_rules = own.map(|entry| entry.completing(now)).sum::<f64>().min(all);
            let rate = match monitor.ladder.has(Mitigation::Budget) {
                true => by_rules.max(all.min(monitor.free_slots(now).into())),
                false => by_rules,
            };
            (rate > 0.0).then_some((monitor.listener, rate))
        });
        self.completing = completing.collect();
    }

    /// Listeners from which rules keep SYNs away.
    pub fn mitigated(&self, rules: &RuleBook, mandate: &Mandate) -> BTreeSet<ListenerId> {
        let inherited = |monitor: &ListenerMonitor| {
            rules.table.orphans().any(|entry| match entry.rule.matcher {
                Matcher::Source(..) => true,
                Matcher::Signature { listener: ListenerId::HOST, .. } => true,
                Matcher::Signature { listener, .. } => listener == monitor.id,
            })
        };
        let acting = |monitor: &&ListenerMonitor| {
            mandate.enforces()
                && (active_rules(monitor, &rules.table).next().is_some()
                    || monitor.ladder.keeps_syns_away()
                    || inherited(monitor))
        };
        self.monitors.values().filter(acting).map(|monitor| monitor.id).collect()
    }

    /// Exempts the listeners of which the rules for every listener hit clients, and ends the exemption where
    /// handshakes fail and no cookies answer.
    ///
    /// Such a rule also applies to listeners without any trouble, and their clients may have the fingerprint that
    /// it drops. New clients that complete a handshake after their SYN was dropped are the evidence, listener by
    /// listener. At such a listener cookies are to answer. The listener is exempt as soon as they do, or if
    /// hardly any SYNs but those of clients are dropped there. The rule goes on everywhere else, whether or not
    /// others can have cookies.
    pub fn exempt_listeners(&mut self, rules: &RuleBook, mandate: &Mandate, outbox: &mut Outbox) {
        let now = self.now;
        let enforced = mandate.enforces();
        let mut shared =
            rules.table.signatures_of(ListenerId::HOST).filter(|_| enforced).peekable();
        let acts = shared.peek().is_some();
        let hits_clients = shared.any(|entry| entry.hits_clients(now));
        let mut changed = Vec::new();
        for monitor in self.monitors.values_mut() {
            // A listener's own rule shows by itself which clients it hits.
            let is_harmful = || {
                hits_clients
                    && rules.table.signatures_of(monitor.id).next().is_none()
                    && monitor.loses_clients(COMPLETED_SHARE)
            };
            let is_answered = || monitor.is_answered(now);
            let shared = match monitor.shared {
                // Before there is such a rule.
                _ if monitor.ladder.bars(Mitigation::Signature)
                    || mandate.held_back(monitor.listener).is_some() =>
                {
                    Shared::Barred
                }
                _ if !acts => Shared::Alike,
                Shared::Exempting if is_answered() || !monitor.handshakes_failed() => {
                    Shared::Exempting
                }
                _ if !is_harmful() => Shared::Alike,
                _ if is_answered() || monitor.loses_clients(MOSTLY) => Shared::Exempting,
                _ => Shared::Harmful,
            };
            let exempt = shared.is_exempt();
            if exempt != monitor.shared.is_exempt() {
                changed.push((monitor.id, monitor.listener, exempt));
            }
            monitor.shared = shared;
        }
        for (id, listener, exempt) in changed {
            outbox.push(Command::ExemptListener { listener: id, exempt });
            if let Some(rolled) = self.rolled.as_mut().filter(|_| exempt) {
                rolled.incident.note(now, Event::ListenerExempted { listener });
            }
        }
    }

    /// Withholds cookies from those to whom they did harm, and tries them again later.
    pub fn withhold_cookies(&mut self, now: Timestamp, outbox: &mut Outbox) {
        for monitor in self.monitors.values_mut() {
            let withheld: Vec<Withheld> = monitor.ladder.withheld(now).collect();
            let before = std::mem::replace(&mut monitor.withheld, withheld);
            if before == monitor.withheld {
                continue;
            }
            for family in Family::ALL {
                if before.contains(&Withheld::Family(family)) {
                    monitor.judge_anew(now, family);
                }
            }
            let (listener, from) = (monitor.id, monitor.withheld.clone());
            outbox.push(Command::WithholdCookies { listener, from });
        }
    }
}

/// The rules that exist because of the incident in which a listener is reported. Those for every listener are among
/// them where they act against its flood.
pub fn active_rules<'a>(
    monitor: &'a ListenerMonitor,
    rule_table: &'a RuleTable,
) -> impl Iterator<Item = &'a Entry> {
    let wanted = monitor.incident.as_deref().into_iter().flat_map(Incident::wanted);
    let own = wanted.filter_map(|wanted| rule_table.find(&wanted.matcher));
    // Of a time in which its incident was its own.
    let kept = monitor.rolled.map(|_| rule_table.signatures_of(monitor.id)).into_iter().flatten();
    let shared = monitor.shares_rules().then(|| rule_table.signatures_of(ListenerId::HOST));
    own.chain(kept).chain(shared.into_iter().flatten())
}

/// Returns the time since which the newest of a listener's rules has acted, and that since which the newest
/// of the mitigations that keep SYNs from its stack has been active.
pub fn acting_since(
    monitor: &ListenerMonitor,
    rule_table: &RuleTable,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let mitigations = [Mitigation::Cookies, Mitigation::Budget];
    let stepped =
        mitigations.into_iter().filter_map(|mitigation| monitor.ladder.since(mitigation)).max();
    let ruled = active_rules(monitor, rule_table).map(|entry| entry.rule.created).max();
    (ruled, stepped)
}
