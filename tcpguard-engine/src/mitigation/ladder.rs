//! The mitigations of a listener beside rules. For each of them it decides the start, the hold time and
//! the next attempt, and it follows the operators' orders.

use std::time::Duration;

use super::breaker::Breaker;
use super::budget::ORDERED_BUDGET;
use super::canary::Canary;
use super::cookie_completion::CookieCompletion;
use super::reason::{HeldBack, MitigationReason};
use super::report::{MitigationReport, MitigationState};
use crate::input::{Matcher, Mitigation, Order, POLL, Timestamp, Withheld, constants};

constants! {
    /// Time after which a mitigation that failed or did harm is tried again, doubled each time, at most
    /// 16 times as long.
    pub(crate) const MITIGATION_RETRY: Duration = 60 Seconds in 3..=3600,
        "Weighed against doing the same harm again soon, and against a flood that changes in the \
         meantime.";
}

/// The mitigations that are started here; rules do the others.
const OWN: [Mitigation; 3] = [Mitigation::OutOfState, Mitigation::Cookies, Mitigation::Budget];

/// The latest addition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Newest {
    Mitigation(Mitigation),
    Rule(Matcher),
}

/// A listener's mitigations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ladder {
    entries: [LadderEntry; Mitigation::ALL.len()],
    /// Test whether clients still get in since something was added last.
    pub breaker: Breaker<Newest>,
    /// Those who get no cookies, though others do.
    withheld: Vec<(Withheld, Refused)>,
    /// Test whether fewer clients get in since cookies are sent. Later additions are not judged before this test is
    /// over: if the SYN-ACKs do not arrive, nothing else is to blame.
    pub fewer: Breaker<Mitigation>,
    /// Test whether cookies reach the clients.
    pub canary: Canary,
    /// Test whether the host completes the handshakes of clients with valid cookies.
    pub cookie_completion: CookieCompletion,
}

#[derive(Clone, Debug, Default)]
struct LadderEntry {
    /// True if the configuration forbids it here.
    barred: bool,
    taken: Option<Taken>,
    refused: Option<Refused>,
    ordered: Option<Ordered>,
}

/// A mitigation that is in the kernel.
#[derive(Clone, Debug)]
struct Taken {
    since: Timestamp,
    /// Time at which it was last needed.
    needed: Timestamp,
    why: MitigationReason,
    /// SYNs a second that a budget leaves.
    rate: u32,
    /// Time for which it is held when it is no longer needed.
    hold: Duration,
    /// True if an earlier run started it, and this run has not yet seen a need for it.
    inherited: bool,
}

impl Taken {
    /// The reason why it ends, now that nothing calls for it; `None`: it is held for a while longer.
    fn ends(
        &self,
        now: Timestamp,
        mitigation: Mitigation,
        ended: Option<Timestamp>,
    ) -> Option<MitigationReason> {
        // Early in an incident the counts are too low to show the end of a flood that an earlier run has seen.
        let over = !self.inherited && ended.is_some_and(|ended| self.needed <= ended);
        if over && mitigation.keeps_syns_away() {
            return Some(MitigationReason::IncidentOver);
        }
        let idle = now.since(self.needed) >= self.hold;
        idle.then_some(MitigationReason::NotNeeded { for_s: self.hold.as_secs() })
    }
}

/// A mitigation that could not be started, or did harm.
#[derive(Clone, Debug)]
struct Refused {
    /// End of the refusal; `None`: it lasts until something has changed that may be the cause.
    until: Option<Timestamp>,
    why: MitigationReason,
    times: u32,
}

impl Refused {
    fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// An operator's order.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    on: bool,
    uid: u32,
    until: Timestamp,
}

/// Present need for a mitigation, with its reason.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub mitigation: Mitigation,
    pub why: MitigationReason,
    /// Rate for [`Mitigation::Budget`], in SYNs a second.
    pub rate: u32,
    /// Time for which it is held when it is no longer needed.
    pub hold: Duration,
}

/// A change to make in the kernel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Move {
    Take { mitigation: Mitigation, rate: u32, why: MitigationReason },
    Leave { mitigation: Mitigation, why: MitigationReason },
}

impl Ladder {
    /// Returns whether a mitigation is active.
    pub fn has(&self, mitigation: Mitigation) -> bool {
        self.entry(mitigation).taken.is_some()
    }

    /// Returns whether nothing is active, refused, ordered or tested, so that nothing changes by itself.
    pub fn is_idle(&self) -> bool {
        let idle = |entry: &LadderEntry| {
            entry.taken.is_none() && entry.refused.is_none() && entry.ordered.is_none()
        };
        self.entries.iter().all(idle)
            && self.withheld.is_empty()
            && !self.breaker.is_open()
            && !self.fewer.is_open()
    }

    /// Returns the time for which a mitigation has been active.
    pub fn lasts(&self, mitigation: Mitigation, now: Timestamp) -> Option<Duration> {
        self.entry(mitigation).taken.as_ref().map(|taken| now.since(taken.since))
    }

    /// Returns the time since which a mitigation has been active.
    pub fn since(&self, mitigation: Mitigation) -> Option<Timestamp> {
        self.entry(mitigation).taken.as_ref().map(|taken| taken.since)
    }

    /// The reason for which a mitigation is active.
    pub fn reason(&self, mitigation: Mitigation) -> Option<&MitigationReason> {
        self.entry(mitigation).taken.as_ref().map(|taken| &taken.why)
    }

    /// Returns whether cookies are sent ahead of a flood, for no other reason than a hint.
    pub fn sends_ahead(&self) -> bool {
        self.reason(Mitigation::Cookies).is_some_and(MitigationReason::is_hint)
    }

    /// Returns whether any mitigation keeps SYNs from the stack.
    pub fn keeps_syns_away(&self) -> bool {
        OWN.into_iter().any(|mitigation| mitigation.keeps_syns_away() && self.has(mitigation))
    }

    /// Returns whether an operator or the configuration forbids rules of a kind.
    pub fn forbids_rules(&self, now: Timestamp, mitigation: Mitigation) -> bool {
        self.bars(mitigation) || self.forbidden(now, mitigation)
    }

    /// Returns whether an operator forbids it.
    pub fn forbidden(&self, now: Timestamp, mitigation: Mitigation) -> bool {
        self.entry(mitigation).ordered.is_some_and(|order| !order.on && now < order.until)
    }

    /// Returns whether it is forbidden, or was refused and is not tried again yet.
    pub fn refuses(&self, mitigation: Mitigation, now: Timestamp) -> bool {
        let refused = |refused: &Refused| refused.times > 0 && refused.holds(now);
        self.bars(mitigation)
            || self.forbidden(now, mitigation)
            || self.entry(mitigation).refused.as_ref().is_some_and(refused)
    }

    /// Returns whether it could not be taken and is not tried again yet, were it only for a moment.
    pub fn waits(&self, mitigation: Mitigation, now: Timestamp) -> bool {
        self.entry(mitigation).refused.as_ref().is_some_and(|refused| refused.holds(now))
    }

    /// Sets the mitigations that the configuration forbids from now on; it forbids no others. An operator's
    /// order overrides it until the order expires.
    pub fn bar(&mut self, barred: &[Mitigation]) {
        for mitigation in Mitigation::ALL {
            self.entries[place(mitigation)].barred = barred.contains(&mitigation);
        }
    }

    /// Returns whether the configuration forbids it.
    pub fn bars(&self, mitigation: Mitigation) -> bool {
        self.entry(mitigation).barred
    }

    /// Changes to make at `now`. `needs` are the mitigations that the situation calls for. A mitigation
    /// that is no longer called for is held for a while. One that keeps SYNs away is stopped at once when
    /// the incident that last called for it has `ended`. One for which there is a reason to be `idle` is
    /// not started, not even on an operator's order.
    pub fn poll(
        &mut self,
        now: Timestamp,
        needs: &[Need],
        ended: Option<Timestamp>,
        idle: impl Fn(Mitigation) -> Option<HeldBack>,
    ) -> Vec<Move> {
        OWN.into_iter()
            .filter_map(|mitigation| {
                if let Some(by) = idle(mitigation) {
                    let why = MitigationReason::HeldBack { by };
                    return self.entries[place(mitigation)].leave(mitigation, why);
                }
                let need = needs.iter().find(|need| need.mitigation == mitigation);
                self.entries[place(mitigation)].poll(now, mitigation, need, ended)
            })
            .collect()
    }

    /// Every active mitigation.
    pub fn taken(&self) -> impl Iterator<Item = Mitigation> {
        OWN.into_iter().filter(|mitigation| self.has(*mitigation))
    }

    /// Takes over a mitigation of an earlier run that is in the kernel.
    pub fn adopt(&mut self, now: Timestamp, mitigation: Mitigation, rate: u32, hold: Duration) {
        let why = MitigationReason::Inherited;
        let taken = Taken { since: now, needed: now, why, rate, hold, inherited: true };
        self.entries[place(mitigation)].taken = Some(taken);
    }

    /// Refuses a mitigation that could not be started, or did harm. It is not tried again for a while,
    /// longer each time. Returns whether it was active.
    pub fn refuse(
        &mut self,
        now: Timestamp,
        mitigation: Mitigation,
        why: MitigationReason,
    ) -> bool {
        let until = now + self.pause(mitigation);
        self.give_up(mitigation, Some(until), why)
    }

    /// Refuses a mitigation that does harm whenever it is active. It is not tried again before
    /// [`Self::reconsider`], or before an operator orders it or leaves it to the agent. Returns whether it
    /// was active.
    pub fn withhold(&mut self, mitigation: Mitigation, why: MitigationReason) -> bool {
        self.give_up(mitigation, None, why)
    }

    fn give_up(
        &mut self,
        mitigation: Mitigation,
        until: Option<Timestamp>,
        why: MitigationReason,
    ) -> bool {
        self.breaker.forget(&Newest::Mitigation(mitigation));
        self.fewer.forget(&mitigation);
        let entry = &mut self.entries[place(mitigation)];
        let times = entry.refused.as_ref().map_or(0, |refused| refused.times) + 1;
        entry.refused = Some(Refused { until, why, times });
        entry.taken.take().is_some()
    }

    /// Withholds cookies from those to whom they did harm, longer each time. Returns for how long.
    pub fn withhold_from(
        &mut self,
        now: Timestamp,
        whom: Withheld,
        why: MitigationReason,
    ) -> Duration {
        let before = self.withheld.extract_if(.., |(of, _)| *of == whom).next();
        let before = before.map(|(_, refused)| refused);
        let pause = pause(before.as_ref());
        let times = before.map_or(0, |refused| refused.times) + 1;
        self.withheld.push((whom, Refused { until: Some(now + pause), why, times }));
        pause
    }

    /// Those who get no cookies, though others do.
    pub fn withheld(&self, now: Timestamp) -> impl Iterator<Item = Withheld> {
        let holds = move |(_, refused): &&(Withheld, Refused)| refused.holds(now);
        self.withheld.iter().filter(holds).map(|(whom, _)| *whom)
    }

    /// Lifts the refusals that have an end, because that flood is over.
    pub fn forgive(&mut self) {
        self.withheld = Vec::new();
        for entry in &mut self.entries {
            entry.refused.take_if(|refused| refused.until.is_some());
        }
    }

    /// Reconsiders a refused mitigation, because the cause of the refusal has changed. Where that is
    /// `certain` the mitigation may be tried again at once. Otherwise only a refusal without an end gets
    /// one. The first time it ends at once, and each later time after a longer pause. The reason is that an
    /// attempt may keep clients out, and that other programs may change such things as often as they like.
    pub fn reconsider(&mut self, now: Timestamp, mitigation: Mitigation, certain: bool) {
        let entry = &mut self.entries[place(mitigation)];
        let pause = pause(entry.refused.as_ref());
        let Some(refused) = &mut entry.refused else { return };
        if certain {
            refused.until = Some(now);
        } else if refused.until.is_none() {
            let first = refused.times < 2;
            refused.until = Some(if first { now } else { now + pause });
        }
    }

    /// Defers a mitigation that could not be started, for a reason that may be gone in a moment.
    pub fn defer(&mut self, now: Timestamp, mitigation: Mitigation, why: MitigationReason) {
        let entry = &mut self.entries[place(mitigation)];
        let times = entry.refused.as_ref().map_or(0, |refused| refused.times);
        let until = now + POLL * 4;
        entry.refused = Some(Refused { until: Some(until), why, times });
        entry.taken = None;
    }

    /// Returns the time for which a mitigation would be refused now.
    pub fn pause(&self, mitigation: Mitigation) -> Duration {
        pause(self.entry(mitigation).refused.as_ref())
    }

    /// Takes an operator's order, which counts until `until`.
    pub fn order(&mut self, mitigation: Mitigation, order: Order, uid: u32, until: Timestamp) {
        let entry = &mut self.entries[place(mitigation)];
        entry.ordered = match order {
            Order::Auto => None,
            Order::On | Order::Off => Some(Ordered { on: order == Order::On, uid, until }),
        };
        if order != Order::Off {
            entry.refused = None;
            if mitigation == Mitigation::Cookies {
                self.withheld = Vec::new();
            }
        }
    }

    /// The mitigations, their states and the reasons for these.
    pub fn report(&self, now: Timestamp) -> impl Iterator<Item = MitigationReport> {
        let active = self.has(Mitigation::Cookies);
        let holds = move |(_, refused): &&(Withheld, Refused)| active && refused.holds(now);
        let withheld = self.withheld.iter().filter(holds).map(|(whom, refused)| {
            let (family, address) = match *whom {
                Withheld::Family(family) => (Some(family), None),
                Withheld::Address(address) => (None, Some(address)),
            };
            MitigationReport {
                mitigation: Mitigation::Cookies,
                family,
                address,
                state: MitigationState::Refused,
                since: None,
                until: refused.until,
                why: refused.why.clone(),
            }
        });
        Mitigation::ALL
            .into_iter()
            .filter_map(move |mitigation| self.entry(mitigation).report(now, mitigation))
            .chain(withheld)
    }

    fn entry(&self, mitigation: Mitigation) -> &LadderEntry {
        &self.entries[place(mitigation)]
    }
}

impl LadderEntry {
    fn poll(
        &mut self,
        now: Timestamp,
        mitigation: Mitigation,
        need: Option<&Need>,
        ended: Option<Timestamp>,
    ) -> Option<Move> {
        self.ordered.take_if(|order| now >= order.until);
        let ordered = self.ordered.map(|order| (order.on, order.uid));
        let refused = self.refused.as_ref().is_some_and(|refused| refused.holds(now));
        let wanted = match (ordered, need) {
            (Some((true, uid)), need) => {
                let rate = need.map_or(ORDERED_BUDGET, |need| need.rate);
                Some((MitigationReason::Ordered { uid }, rate, Duration::ZERO))
            }
            (Some((false, uid)), _) => {
                return self.leave(mitigation, MitigationReason::Forbidden { uid });
            }
            (None, _) if self.barred => return self.leave(mitigation, MitigationReason::Barred),
            (None, Some(need)) => Some((need.why.clone(), need.rate, need.hold)),
            (None, None) => None,
        };
        match (&mut self.taken, wanted) {
            // A hint does not prolong the time for which a mitigation is held, only the mitigation.
            (Some(taken), Some((why, ..))) if why.is_hint() && !taken.why.is_hint() => {
                if taken.ends(now, mitigation, ended).is_some() {
                    (taken.needed, taken.hold, taken.why) = (now, Duration::ZERO, why);
                }
                None
            }
            (Some(taken), Some((why, rate, hold))) => {
                (taken.needed, taken.hold, taken.inherited) = (now, hold, false);
                let changed = mitigation == Mitigation::Budget && rate != taken.rate;
                if !changed {
                    // The flood has come that other hosts had reported.
                    if taken.why.is_hint() {
                        taken.why = why;
                    }
                    return None;
                }
                (taken.rate, taken.why) = (rate, why.clone());
                Some(Move::Take { mitigation, rate, why })
            }
            (Some(taken), None) => {
                let why = taken.ends(now, mitigation, ended)?;
                self.leave(mitigation, why)
            }
            (None, Some(_)) if refused => None,
            (None, Some((why, rate, hold))) => {
                let (since, needed, inherited) = (now, now, false);
                self.taken = Some(Taken { since, needed, why: why.clone(), rate, hold, inherited });
                Some(Move::Take { mitigation, rate, why })
            }
            (None, None) => None,
        }
    }

    fn leave(&mut self, mitigation: Mitigation, why: MitigationReason) -> Option<Move> {
        self.taken.take()?;
        Some(Move::Leave { mitigation, why })
    }

    fn report(&self, now: Timestamp, mitigation: Mitigation) -> Option<MitigationReport> {
        let ordered = self.ordered.filter(|order| now < order.until);
        let refused = self.refused.as_ref().filter(|refused| refused.holds(now));
        let (state, since, why) = match (&self.taken, ordered, refused) {
            (Some(taken), ..) => (MitigationState::Active, Some(taken.since), taken.why.clone()),
            (None, Some(order), _) if !order.on => {
                let why = MitigationReason::Forbidden { uid: order.uid };
                (MitigationState::Forbidden, None, why)
            }
            (None, None, _) if self.barred => {
                (MitigationState::Forbidden, None, MitigationReason::Barred)
            }
            (None, _, Some(refused)) => (MitigationState::Refused, None, refused.why.clone()),
            (None, Some(order), None) => {
                let why = MitigationReason::Ordered { uid: order.uid };
                (MitigationState::Waiting, None, why)
            }
            (None, None, None) => return None,
        };
        let until = ordered.map(|order| order.until).or(match state {
            MitigationState::Refused => refused.and_then(|refused| refused.until),
            _ => None,
        });
        Some(MitigationReport { mitigation, family: None, address: None, state, since, until, why })
    }
}

/// The time for which something is refused now that was refused as often before.
fn pause(refused: Option<&Refused>) -> Duration {
    let times = refused.map_or(0, |refused| refused.times);
    MITIGATION_RETRY * 2u32.pow(times.min(4))
}

/// Position of a mitigation in the list.
const fn place(mitigation: Mitigation) -> usize {
    match mitigation {
        Mitigation::OutOfState => 0,
        Mitigation::Source => 1,
        Mitigation::Signature => 2,
        Mitigation::Cookies => 3,
        Mitigation::Budget => 4,
    }
}

#[cfg(test)]
mod tests;
