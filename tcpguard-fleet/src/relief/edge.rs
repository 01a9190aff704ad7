//! The relief of one host from its own side: when it asks for routes, for how long, and when it tries without.
//!
//! `quiet → pressed → asked → announced → held → probing → quiet`. A route that drops everything hides the flood
//! from the host, so its end can only be tried. Each try that fails doubles the time until the next one.

use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use tcpguard_engine::Timestamp;

use super::choice::{self, Breadth, Flood, Policy};
use super::wanted::Wanted;

/// Time for which the load has to last: bursts of a second are traffic.
const PRESSED: Duration = Duration::from_secs(3);
/// Time without load, or with a trickle only, after which a flood is taken as over.
const CALM: Duration = Duration::from_secs(60);
/// Shortest time from the announcement of a route to its withdrawal. Routers that damp flapping routes suppress
/// one that changes more often for many minutes (RFC 2439).
const HOLD: Duration = Duration::from_secs(300);
/// Longest time, see [`HOLD`].
const LONGEST_HOLD: Duration = Duration::from_secs(3600);
/// Time after relief within which the flood counts as the same.
const AGAIN: Duration = Duration::from_secs(600);
/// Time from an announcement within which the load has to fall: a router needs some seconds to program its filters,
/// and a reading covers one second.
const EFFECT: Duration = Duration::from_secs(15);
/// Share of the load before relief that is left where relief has an effect.
const FALLEN: f64 = 0.8;
/// Time between two withdrawals.
const PROBE: Duration = Duration::from_secs(10);
/// Time without an announcement by any controller after which a route is taken as gone: documents of controllers
/// are repeated every 10 s.
const LOST: Duration = Duration::from_secs(30);
/// Most FlowSpec rules that a host asks for, and most blackholes.
pub const FLOWSPEC_PER_HOST: usize = 8;
/// Most blackholes, see [`FLOWSPEC_PER_HOST`].
pub const BLACKHOLES_PER_HOST: usize = 2;

/// Load from which a host asks for relief, and the routes that it may ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Share of the link's speed that is received, 0 to 1.
    pub link_share: f64,
    /// Share of the packets that are dropped before XDP, 0 to 1.
    pub loss_share: f64,
    /// Packets received per second; `None`: no limit.
    pub pps: Option<f64>,
    /// Failed SYNs per second at one service, below which a flood is over. It is well below the trickle that a rate
    /// limit lets pass.
    pub clear_syn_pps: f64,
    /// True if routes without an effect are replaced by wider ones, once.
    pub may_widen: bool,
    /// Routes that may be asked for.
    pub policy: Policy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            link_share: 0.9,
            loss_share: 0.01,
            pps: None,
            clear_syn_pps: 150.0,
            may_widen: false,
            policy: Policy::default(),
        }
    }
}

/// Load of the host over the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Share of the link's speed that is received, 0 to 1; `None` where the speed is not known.
    pub link_share: Option<f64>,
    /// Share of the packets that are dropped before XDP, 0 to 1.
    pub loss_share: f64,
    /// Packets received per second.
    pub pps: f64,
}

/// State of the host and of the routers before it.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Load over the last second.
    pub load: Load,
    /// Open floods, the largest first.
    pub floods: &'a [Flood],
    /// Routes for this host that a controller announces now. A dry run announces none.
    pub announced: &'a [Wanted],
}

/// State of a host's relief.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// No relief is needed.
    Quiet,
    /// The load is high, for a short time so far, or no route would help.
    Pressed,
    /// Routes are asked for, and none is announced.
    Asked,
    /// Routes are announced, and the load has not fallen yet.
    Announced,
    /// The load has fallen.
    Held,
    /// Routes are withdrawn one by one.
    Probing,
}

/// A change that is worth a line in the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// The load needs relief, and the policy allows no route.
    NoRoute,
    /// Routes are asked for.
    Asked {
        /// Number of routes.
        routes: usize,
        /// Time for which they will stay at least.
        hold: Duration,
    },
    /// A controller announces them.
    Announced,
    /// The load has fallen.
    Effective,
    /// The load has not fallen: the router may refuse the routes, which BGP does not report.
    WithoutEffect {
        /// True if wider routes are asked for; otherwise nothing is asked for any longer.
        widened: bool,
    },
    /// No controller announces them any longer.
    Lost,
    /// One route is no longer asked for.
    Released(Wanted),
    /// No route is asked for any longer.
    Ended,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Quiet,
    Pressed {
        since: Timestamp,
        is_reported: bool,
    },
    Asked {
        calm_since: Option<Timestamp>,
    },
    Announced {
        since: Timestamp,
        /// Most routes that were announced at once, and the time of the last one.
        routes: usize,
        last: Timestamp,
    },
    Held {
        since: Timestamp,
        calm_since: Option<Timestamp>,
        lost_since: Option<Timestamp>,
    },
    Probing {
        next: Timestamp,
    },
}

/// The relief of one host.
#[derive(Debug)]
pub struct Edge {
    settings: Settings,
    state: State,
    /// Routes that are asked for.
    routes: Vec<Wanted>,
    /// Routes that were given up while probing. They are asked for again if the flood is still there.
    released: Vec<Wanted>,
    breadth: Breadth,
    /// Highest load while routes were asked for and not announced.
    before: Load,
    hold: Duration,
    /// End of the last relief.
    ended: Option<Timestamp>,
    /// Time until which nothing is asked for, since it had no effect.
    pause: Option<Timestamp>,
}

impl Edge {
    /// A host without relief.
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Quiet,
            routes: Vec::new(),
            released: Vec::new(),
            breadth: Breadth::Narrow,
            before: Load { link_share: None, loss_share: 0.0, pps: 0.0 },
            hold: HOLD,
            ended: None,
            pause: None,
        }
    }

    /// Returns the state.
    pub const fn phase(&self) -> Phase {
        match self.state {
            State::Quiet => Phase::Quiet,
            State::Pressed { .. } => Phase::Pressed,
            State::Asked { .. } => Phase::Asked,
            State::Announced { .. } => Phase::Announced,
            State::Held { .. } => Phase::Held,
            State::Probing { .. } => Phase::Probing,
        }
    }

    /// Returns whether the load needs relief, and the policy allows no route.
    pub const fn lacks_route(&self) -> bool {
        matches!(self.state, State::Pressed { is_reported: true, .. })
    }

    /// Returns the routes that are asked for now; empty: none.
    pub fn routes(&self) -> &[Wanted] {
        &self.routes
    }

    /// Takes over the routes that a controller announces for this host at the start of the process: they are those of
    /// the process before it, and the flood that they keep away does not show. Routes for which this host would not ask
    /// are left out.
    pub fn adopt(&mut self, now: Timestamp, announced: &[Wanted]) {
        if !matches!(self.state, State::Quiet) {
            return;
        }
        let policy = self.settings.policy;
        announced.iter().filter(|route| policy.allows(route)).for_each(|route| self.add(*route));
        if !self.routes.is_empty() {
            self.state = State::Held { since: now, calm_since: None, lost_since: None };
        }
    }

    /// Takes the reading of one second.
    pub fn step(&mut self, now: Timestamp, reading: &Reading<'_>) -> Option<Event> {
        let is_pressed = self.is_pressed(reading);
        let own = self.routes.iter().filter(|route| reading.announced.contains(route)).count();
        let is_announced = own > 0;
        match self.state {
            State::Quiet => {
                let is_paused = self.pause.is_some_and(|until| now < until);
                if is_pressed && !is_paused {
                    self.state = State::Pressed { since: now, is_reported: false };
                }
                None
            }
            State::Pressed { since, is_reported } => match is_pressed {
                false => {
                    self.state = State::Quiet;
                    None
                }
                true if now.since(since) < PRESSED => None,
                true => self.ask(now, since, is_reported, reading),
            },
            State::Asked { .. } if is_announced => {
                self.state = State::Announced { since: now, routes: own, last: now };
                Some(Event::Announced)
            }
            State::Asked { calm_since } => {
                self.before = self.before.max(reading.load);
                self.cover(reading.floods);
                let calm_since = (!is_pressed).then(|| calm_since.unwrap_or(now));
                if calm_since.is_some_and(|since| now.since(since) >= CALM) {
                    return Some(self.end());
                }
                self.state = State::Asked { calm_since };
                None
            }
            State::Announced { since, routes, last } => {
                if self.before.has_fallen_to(reading.load) {
                    self.state = State::Held { since, calm_since: None, lost_since: None };
                    return Some(Event::Effective);
                }
                if !is_announced {
                    self.state = State::Asked { calm_since: None };
                    return Some(Event::Lost);
                }
                self.cover(reading.floods);
                // A controller announces one route a second, for several hosts in turn.
                if own > routes {
                    self.state = State::Announced { since, routes: own, last: now };
                    return None;
                }
                (now.since(last) >= EFFECT).then(|| self.widen(now, reading.floods))
            }
            State::Held { since, calm_since, lost_since } => {
                let lost_since = (!is_announced).then(|| lost_since.unwrap_or(now));
                if lost_since.is_some_and(|since| now.since(since) >= LOST) {
                    self.before = reading.load;
                    self.state = State::Asked { calm_since: None };
                    return Some(Event::Lost);
                }
                if is_pressed {
                    self.cover(reading.floods);
                }
                let is_calm =
                    !is_pressed && self.trickle(reading.floods) < self.settings.clear_syn_pps;
                let calm_since = is_calm.then(|| calm_since.unwrap_or(now));
                let is_over = calm_since.is_some_and(|since| now.since(since) >= CALM);
                self.state = match is_over && now.since(since) >= self.hold {
                    true => State::Probing { next: now },
                    false => State::Held { since, calm_since, lost_since },
                };
                None
            }
            State::Probing { next } => self.probe(now, next, is_pressed, reading),
        }
    }

    fn is_pressed(&self, reading: &Reading<'_>) -> bool {
        let Settings { link_share, loss_share, pps, .. } = self.settings;
        let load = reading.load;
        let is_loaded = load.link_share.is_some_and(|share| share >= link_share)
            || load.loss_share >= loss_share
            || pps.is_some_and(|limit| load.pps >= limit);
        is_loaded && !reading.floods.is_empty()
    }

    fn ask(
        &mut self,
        now: Timestamp,
        since: Timestamp,
        is_reported: bool,
        reading: &Reading<'_>,
    ) -> Option<Event> {
        self.breadth = Breadth::Narrow;
        self.cover(reading.floods);
        if self.routes.is_empty() {
            self.state = State::Pressed { since, is_reported: true };
            return (!is_reported).then_some(Event::NoRoute);
        }
        self.hold = match self.ended.is_some_and(|ended| now.since(ended) < AGAIN) {
            true => (self.hold * 2).min(LONGEST_HOLD),
            false => HOLD,
        };
        self.before = reading.load;
        self.state = State::Asked { calm_since: None };
        Some(Event::Asked { routes: self.routes.len(), hold: self.hold })
    }

    /// Asks for routes against floods that no route covers, as far as there may be more.
    fn cover(&mut self, floods: &[Flood]) {
        for flood in floods {
            if self.covers(flood.destination, flood.port) {
                continue;
            }
            for route in choice::choose(flood, &self.settings.policy, self.breadth) {
                self.add(route);
            }
        }
    }

    /// Asks for a route, as far as there may be more of its kind.
    fn add(&mut self, route: Wanted) {
        let is_same = |one: &&Wanted| {
            matches!(one, Wanted::Blackhole(_)) == matches!(route, Wanted::Blackhole(_))
        };
        let most = match route {
            Wanted::FlowSpec(_) => FLOWSPEC_PER_HOST,
            Wanted::Blackhole(_) => BLACKHOLES_PER_HOST,
        };
        if self.routes.iter().filter(is_same).count() < most {
            self.routes.push(route);
        }
    }

    /// Replaces routes without an effect by wider ones, or gives up for a while.
    fn widen(&mut self, now: Timestamp, floods: &[Flood]) -> Event {
        let narrow = std::mem::take(&mut self.routes);
        if self.settings.may_widen && self.breadth == Breadth::Narrow {
            self.breadth = Breadth::Wide;
            self.cover(floods);
        }
        let widened = !self.routes.is_empty() && self.routes != narrow;
        if widened {
            self.state = State::Asked { calm_since: None };
        } else {
            self.end();
            self.pause = Some(now + AGAIN);
        }
        Event::WithoutEffect { widened }
    }

    fn probe(
        &mut self,
        now: Timestamp,
        next: Timestamp,
        is_pressed: bool,
        reading: &Reading<'_>,
    ) -> Option<Event> {
        if is_pressed || self.trickle(reading.floods) >= self.settings.clear_syn_pps {
            self.routes.append(&mut self.released);
            self.hold = (self.hold * 2).min(LONGEST_HOLD);
            self.before = reading.load;
            self.state = State::Asked { calm_since: None };
            return Some(Event::Asked { routes: self.routes.len(), hold: self.hold });
        }
        if now < next {
            return None;
        }
        let Some(place) = self.narrowest() else {
            self.ended = Some(now);
            return Some(self.end());
        };
        let route = self.routes.remove(place);
        self.released.push(route);
        self.state = State::Probing { next: now + PROBE };
        Some(Event::Released(route))
    }

    fn narrowest(&self) -> Option<usize> {
        (0..self.routes.len()).min_by_key(|place| self.routes[*place].breadth())
    }

    fn end(&mut self) -> Event {
        self.routes.clear();
        self.released.clear();
        self.state = State::Quiet;
        Event::Ended
    }

    fn covers(&self, destination: IpAddr, port: u16) -> bool {
        let mut all = self.routes.iter().chain(&self.released);
        all.any(|route| route.covers(destination, port))
    }

    /// Failed SYNs per second at the service with the most of them, among those that have routes.
    fn trickle(&self, floods: &[Flood]) -> f64 {
        let covered = floods.iter().filter(|flood| self.covers(flood.destination, flood.port));
        covered.map(|flood| flood.syn_pps).fold(0.0, f64::max)
    }
}

impl Load {
    /// The higher load of each kind.
    fn max(self, other: Self) -> Self {
        Self {
            link_share: match (self.link_share, other.link_share) {
                (Some(one), Some(other)) => Some(one.max(other)),
                (one, other) => one.or(other),
            },
            loss_share: self.loss_share.max(other.loss_share),
            pps: self.pps.max(other.pps),
        }
    }

    /// Returns whether `now` is a clearly lower load, in packets or in bits.
    fn has_fallen_to(self, now: Self) -> bool {
        let bits = self.link_share.zip(now.link_share);
        now.pps <= FALLEN * self.pps || bits.is_some_and(|(before, now)| now <= FALLEN * before)
    }
}

#[cfg(test)]
mod tests;
