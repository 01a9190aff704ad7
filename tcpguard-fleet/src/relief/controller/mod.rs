//! The controller: it holds the routes that hosts ask for against its bounds and against the speaker's table, and
//! names the next change of the table.
//!
//! Two controllers of a site announce the same routes, and nothing is to be elected between them.

mod asking;
pub mod bounds;
mod session;

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::time::Clock;

use self::asking::Asking;
use self::bounds::{Refusal, Settings};
use self::session::Session;
use super::edge::{BLACKHOLES_PER_HOST, FLOWSPEC_PER_HOST};
use super::flowspec::Action;
use super::route::{Key, Route};
use crate::document::{AnnouncedRoute, HostId, Relief, ReliefRoute, RouteState};

/// Time between two changes of the table. Routers and route reflectors recompute their filters at each.
const PACE: Duration = Duration::from_secs(1);
/// Announcements of one route within [`FLAPPING_WINDOW`] that are taken as needed.
const ANNOUNCEMENTS: usize = 3;
/// Time over which the announcements of one route are counted.
const FLAPPING_WINDOW: Duration = Duration::from_secs(600);
/// Announcements for one host within [`MINUTE`]: all its routes, and each once more for a wider one. Every route that is
/// withdrawn was announced, so this bounds withdrawals too.
const ANNOUNCEMENTS_PER_HOST: usize = 2 * (FLOWSPEC_PER_HOST + BLACKHOLES_PER_HOST);
/// Time over which the announcements for one host are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// Time after which a change that did not show in the table is tried again; each further try waits for as long again.
const RETRY: Duration = Duration::from_secs(5);
/// Longest time between two tries.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Tries after which a route that is still in the table will not go: GoBGP had such (osrg/gobgp#1185, #1483).
const TRIES: u32 = 3;

/// A change of the speaker's table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Adds a route, or replaces the one with the same key.
    Announce(Route),
    /// Removes a route.
    Withdraw(Key),
}

/// A route in the speaker's table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Key of the route.
    pub key: Key,
    /// The route; `None` for one of a form that is not announced here.
    pub route: Option<Route>,
}

/// An event that is worth a line in the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// The BGP session is established.
    Established,
    /// The BGP session was lost, and its routes with it.
    SessionLost,
    /// The session was lost too often: nothing is announced for 10 minutes.
    HeldBack,
}

/// Numbers of documents and routes that were not used, since the start.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Refused {
    /// Documents of hosts that are not in the settings.
    pub unknown_hosts: u64,
    /// Routes that do not keep a bound, by host.
    pub routes: BTreeMap<HostId, u64>,
}

/// The controller of the routers of a site.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    asking: BTreeMap<HostId, Asking>,
    /// The speaker's table as it was last read; `None` until then.
    table: Option<BTreeMap<Key, Seen>>,
    session: Session,
    last_change: Option<Timestamp>,
    /// Changes that do not show in the table yet.
    tried: BTreeMap<Key, Tried>,
    /// Times at which routes were announced. The pace bounds their number.
    announcements: BTreeMap<Key, VecDeque<Timestamp>>,
    /// Times of the announcements of the last minute, by the host that asked for the route.
    of_hosts: BTreeMap<HostId, VecDeque<Timestamp>>,
    refused: Refused,
}

/// A route of the table, and the time since which it is there.
#[derive(Debug)]
struct Seen {
    route: Option<Route>,
    since: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    times: u32,
    next: Timestamp,
    is_withdrawal: bool,
}

/// A route that is to be in the table, and the host that asks for it.
#[derive(Debug)]
struct Claim {
    host: HostId,
    route: Route,
}

/// The decision about one route of one host.
struct Verdict {
    host: HostId,
    asked: ReliefRoute,
    first: Timestamp,
    outcome: Result<Route, Refusal>,
}

impl Controller {
    /// A controller that knows of no request and no table.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            asking: BTreeMap::new(),
            table: None,
            session: Session::default(),
            last_change: None,
            tried: BTreeMap::new(),
            announcements: BTreeMap::new(),
            of_hosts: BTreeMap::new(),
            refused: Refused::default(),
        }
    }

    /// Takes the document of a host. Its sender is the host, for which the bus vouches.
    pub fn hear(&mut self, now: Timestamp, relief: &Relief) {
        let host = &relief.envelope.host;
        if !self.settings.hosts.contains_key(host) {
            self.refused.unknown_hosts += 1;
            return;
        }
        let refused = relief.wanted.iter().filter(|one| self.settings.admit(host, one).is_err());
        let refused = refused.count() as u64;
        if refused > 0 {
            *self.refused.routes.entry(host.clone()).or_default() += refused;
        }
        self.asking.entry(host.clone()).or_insert_with(|| Asking::new(now)).hear(now, relief);
    }

    /// Takes an operator's word that the routes of a host are wanted for another day.
    pub fn confirm(&mut self, now: Timestamp, host: &HostId) {
        if let Some(asking) = self.asking.get_mut(host) {
            asking.confirm(now);
        }
    }

    /// Takes the state of the BGP session.
    pub fn update_session(&mut self, now: Timestamp, is_established: bool) -> Option<Event> {
        self.session.update(now, is_established).map(|change| match change {
            session::Change::Established => Event::Established,
            session::Change::Lost => Event::SessionLost,
            session::Change::HeldBack => Event::HeldBack,
        })
    }

    /// Takes the speaker's table.
    pub fn read(&mut self, now: Timestamp, entries: Vec<Entry>) {
        let mut before = self.table.take().unwrap_or_default();
        let table: BTreeMap<Key, Seen> = entries
            .into_iter()
            .map(|Entry { key, route }| {
                let since = before.remove(&key).filter(|seen| seen.route == route);
                let since = since.map_or(now, |seen| seen.since);
                (key, Seen { route, since })
            })
            .collect();
        let wanted = self.wanted(now);
        self.tried.retain(|key, _| {
            let wanted = wanted.get(key).map(|wanted| Some(&wanted.route));
            table.get(key).map(|seen| seen.route.as_ref()) != wanted
        });
        self.table = Some(table);
    }

    /// Forgets the table, because the speaker is gone: its routes went with it.
    pub fn forget_table(&mut self) {
        self.table = None;
        self.tried.clear();
    }

    /// Returns the next change that brings the table nearer to the requests. Withdrawals come first, then an announcement
    /// for the host that has waited longest for its last one.
    pub fn next_change(&mut self, now: Timestamp) -> Option<Change> {
        let on_silence = self.settings.on_silence;
        self.asking.retain(|_, asking| !asking.is_over(now, on_silence));
        self.announcements
            .retain(|_, times| times.back().is_some_and(|last| now.since(*last) < FLAPPING_WINDOW));
        self.of_hosts.retain(|_, times| {
            times.retain(|time| now.since(*time) < MINUTE);
            !times.is_empty()
        });
        if self.last_change.is_some_and(|last| now.since(last) < PACE) {
            return None;
        }
        let table = self.table.as_ref()?;
        let wanted = self.wanted(now);
        let may_try = |key: &Key| self.tried.get(key).is_none_or(|tried| now >= tried.next);
        let mut withdrawals = table.keys().filter(|key| !wanted.contains_key(*key));
        if let Some(key) = withdrawals.find(|key| may_try(key)) {
            let key = key.clone();
            self.note(now, key.clone(), true);
            return Some(Change::Withdraw(key));
        }
        let announcements = wanted.into_iter().filter(|(key, Claim { host, route })| {
            let is_due = match table.get(key) {
                Some(seen) => seen.route.as_ref() != Some(route),
                None => !self.is_flapping(now, key),
            };
            is_due && may_try(key) && !self.is_busy(host)
        });
        let last = |host: &HostId| self.of_hosts.get(host).and_then(VecDeque::back).copied();
        let (key, Claim { host, route }) =
            announcements.min_by_key(|(_, wanted)| last(&wanted.host))?;
        self.of_hosts.entry(host).or_default().push_back(now);
        self.note(now, key, false);
        Some(Change::Announce(route))
    }

    /// Returns whether a route will not leave the table: only the end of the speaker withdraws it.
    pub fn is_stuck(&self) -> bool {
        self.tried.values().any(|tried| tried.is_withdrawal && tried.times >= TRIES)
    }

    /// Returns the hosts that ask for routes, and the state of each route.
    pub fn answers(&self, clock: Clock) -> BTreeMap<HostId, Vec<AnnouncedRoute>> {
        let mut answers: BTreeMap<HostId, Vec<AnnouncedRoute>> = BTreeMap::new();
        for Verdict { host, asked, first, outcome } in self.verdicts(clock.now) {
            let (state, since, reason) = match outcome {
                Err(refusal) => (RouteState::Refused, first, Some(refusal.to_string())),
                Ok(route) => self.state(clock.now, &host, &route, first),
            };
            let since = clock.time_at(since);
            answers.entry(host).or_default().push(AnnouncedRoute {
                route: asked,
                state,
                since,
                reason,
            });
        }
        answers
    }

    /// Returns the routes that the speaker holds now.
    pub fn table(&self) -> impl Iterator<Item = (&Key, Option<&Route>)> {
        self.table.iter().flatten().map(|(key, seen)| (key, seen.route.as_ref()))
    }

    /// Returns whether the BGP session is established.
    pub const fn is_established(&self) -> bool {
        self.session.is_established()
    }

    /// Returns the numbers of documents and routes that were not used.
    pub const fn refused(&self) -> &Refused {
        &self.refused
    }

    fn note(&mut self, now: Timestamp, key: Key, is_withdrawal: bool) {
        self.last_change = Some(now);
        let is_known = self.table.as_ref().is_some_and(|table| table.contains_key(&key));
        if !is_withdrawal && !is_known {
            let times = self.announcements.entry(key.clone()).or_default();
            times.push_back(now);
            if times.len() > ANNOUNCEMENTS {
                times.pop_front();
            }
        }
        let times = self.tried.get(&key).map_or(0, |tried| tried.times) + 1;
        let next = now + (RETRY * times).min(LONGEST_RETRY);
        self.tried.insert(key, Tried { times, next, is_withdrawal });
    }

    /// Returns whether a route came and went so often that it is not announced for now.
    fn is_flapping(&self, now: Timestamp, key: &Key) -> bool {
        let times = self.announcements.get(key).into_iter().flatten();
        times.filter(|time| now.since(**time) < FLAPPING_WINDOW).count() >= ANNOUNCEMENTS
    }

    /// Returns whether so much was announced for a host in the last minute that nothing is announced for it now.
    fn is_busy(&self, host: &HostId) -> bool {
        self.of_hosts.get(host).is_some_and(|times| times.len() >= ANNOUNCEMENTS_PER_HOST)
    }

    /// Routes that are to be in the table.
    fn wanted(&self, now: Timestamp) -> BTreeMap<Key, Claim> {
        if self.session.is_held_back(now) {
            return BTreeMap::new();
        }
        let mut wanted = BTreeMap::new();
        for Verdict { host, outcome, .. } in self.verdicts(now) {
            let Ok(route) = outcome else { continue };
            match wanted.entry(route.key()) {
                Slot::Vacant(slot) => {
                    slot.insert(Claim { host, route });
                }
                Slot::Occupied(mut slot) => {
                    if rate(&route) > rate(&slot.get().route) {
                        slot.insert(Claim { host, route });
                    }
                }
            }
        }
        wanted
    }

    /// Decisions about all routes that are asked for. The caps leave out those that were asked for last, so a new
    /// request never removes the route of another host.
    fn verdicts(&self, now: Timestamp) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = self
            .asking
            .iter()
            .flat_map(|(host, asking)| {
                let is_too_old = asking.is_too_old(now);
                let routes = asking.routes(now, self.settings.on_silence);
                routes.into_iter().map(move |(asked, first)| {
                    let outcome = match is_too_old {
                        true => Err(Refusal::TooOld),
                        false => self.settings.admit(host, &asked),
                    };
                    Verdict { host: host.clone(), asked, first, outcome }
                })
            })
            .collect();
        verdicts.sort_by_key(|verdict| verdict.first);
        let mut of_host: BTreeMap<(HostId, bool), usize> = BTreeMap::new();
        let mut of_all: BTreeMap<bool, usize> = BTreeMap::new();
        for verdict in &mut verdicts {
            let Ok(route) = &verdict.outcome else { continue };
            let is_blackhole = matches!(route, Route::Blackhole(_));
            let (most, most_of_all) = match is_blackhole {
                false => (FLOWSPEC_PER_HOST, self.settings.flowspec),
                true => (BLACKHOLES_PER_HOST, self.settings.blackholes),
            };
            let own = of_host.entry((verdict.host.clone(), is_blackhole)).or_default();
            let all = of_all.entry(is_blackhole).or_default();
            if *own >= most {
                verdict.outcome = Err(Refusal::HostFull);
            } else if *all >= most_of_all {
                verdict.outcome = Err(Refusal::Full);
            } else {
                *own += 1;
                *all += 1;
            }
        }
        verdicts
    }

    fn state(
        &self,
        now: Timestamp,
        host: &HostId,
        route: &Route,
        first: Timestamp,
    ) -> (RouteState, Timestamp, Option<String>) {
        let key = route.key();
        match self.table.as_ref().and_then(|table| table.get(&key)) {
            Some(seen) if seen.route.is_some() => {
                let state = match self.settings.dry_run {
                    true => RouteState::DryRun,
                    false => RouteState::Announced,
                };
                (state, seen.since, None)
            }
            _ => {
                let reason = if self.session.is_held_back(now) {
                    Some("the BGP session was lost too often")
                } else if self.is_flapping(now, &key) {
                    Some("it was announced too often")
                } else if self.is_busy(host) {
                    Some("too many routes of this host were announced in a minute")
                } else {
                    None
                };
                (RouteState::Pending, first, reason.map(str::to_owned))
            }
        }
    }
}

/// Rate that a route lets pass. Of two requests for one key the milder is announced.
const fn rate(route: &Route) -> u32 {
    match route {
        Route::FlowSpec(rule) => rule.terms().action.rate(),
        Route::Blackhole(_) => Action::Discard.rate(),
    }
}

#[cfg(test)]
mod tests;
