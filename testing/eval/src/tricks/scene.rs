//! The scene of a row: a host, its clients, and the trouble, with numbers that are drawn for the seed.

use std::ops::Range;

use tcpguard_engine::{ListenerId, Mode, Settings};
use tcpguard_sim::{
    Clients, Flood, HealthCheck, HealthChecks, Lab, Outage, Persistence, Population, Random,
    Server, Shape,
};

use crate::mixes::{CARRIER, Cast};

/// Time without trouble at the start, s: enough handshakes for the engine to distinguish new clients
/// (`novel_completions`) and to learn the baseline.
const CALM: f64 = 30.0;
/// Duration of the trouble unless the row says otherwise, s.
const LASTS: f64 = 20.0;
/// Baseline clients a second, from and to.
const NORMAL: (f64, f64) = (40.0, 100.0);

/// A socket with a queue that holds as many as `net.core.somaxconn` allows by default, with `tcp_syncookies` 1.
pub const LARGE: Server =
    Server { backlog: 4096, cookies: true, traced: true, accepting: true, dead: false };
/// A socket with a small queue that is full in no time. Then the kernel's cookies and those of the XDP program answer.
pub const SMALL: Server = Server { backlog: 128, ..LARGE };
/// The same with `tcp_syncookies` 0, where the XDP program has no cookies either. SYNs that no rule drops fill the
/// queue, and then new clients connect with their second SYN.
pub const NO_COOKIES: Server = Server { cookies: false, ..SMALL };

/// A host, its trouble, and the time of the trouble.
pub struct Scene {
    pub lab: Lab,
    /// Time of the trouble, s.
    pub time: Range<f64>,
    /// SYNs a second of the trouble, without retransmissions.
    pub rate: f64,
    /// The listener that is judged by its own incident, or else by that of the whole host. By default all incidents
    /// count.
    pub victim: Option<ListenerId>,
    /// True if the application stops accepting meanwhile.
    pub stalls: bool,
}

/// Draws the numbers of one row.
pub struct Draw<'a> {
    cast: &'a Cast,
    seed: u64,
    random: Random,
    time: Range<f64>,
}

impl<'a> Draw<'a> {
    /// Those of the row with this name, whatever other rows there are.
    pub fn new(cast: &'a Cast, name: &str) -> Self {
        // FNV-1a.
        let add = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let seed = name.bytes().fold(cast.seed ^ 0xcbf2_9ce4_8422_2325, add);
        let mut random = Random::new(seed);
        // Anywhere between two polls.
        let from = CALM + 0.25 * random.share();
        Self { cast, seed, random, time: from..from + LASTS }
    }

    /// Sets the duration of the trouble, s.
    pub fn last(&mut self, lasts: f64) {
        self.time.end = self.time.start + lasts;
    }

    /// Returns the time of the trouble, s.
    pub fn time(&self) -> Range<f64> {
        self.time.clone()
    }

    /// Any number between these two.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random.share()
    }

    /// Any rate between these two, to two digits.
    pub fn rate(&mut self, low: f64, high: f64) -> f64 {
        let rate = self.between(low, high);
        let digit = match rate {
            rate if rate >= 10_000.0 => 1000.0,
            rate if rate >= 1000.0 => 100.0,
            rate if rate >= 100.0 => 10.0,
            _ => 1.0,
        };
        (rate / digit).round() * digit
    }

    /// A flood from random sources in which all SYNs have one fingerprint, at a rate between these two.
    pub fn fixed_fingerprint(&mut self, low: f64, high: f64) -> Flood {
        let rate = self.rate(low, high);
        Flood::random(rate, self.time())
    }

    /// The same, each SYN a copy of some client's.
    pub fn mimicking(&mut self, low: f64, high: f64) -> Flood {
        Flood { shape: Shape::Mimicking, ..self.fixed_fingerprint(low, high) }
    }

    /// Draws `rate` clients a second out of all of them.
    pub fn clients(&self, rate: f64) -> Clients {
        self.cast.clients(rate)
    }

    /// Clients at a baseline rate.
    pub fn normal(&mut self) -> Clients {
        let rate = self.rate(NORMAL.0, NORMAL.1);
        self.clients(rate)
    }

    /// Clients that are only so many, at a rate between these two.
    pub fn some(&mut self, people: usize, low: f64, high: f64) -> Clients {
        let rate = self.rate(low, high);
        Clients { population: Some(Population::of(self.seed, people)), ..self.clients(rate) }
    }

    /// Clients that never connected before the trouble, at a rate between these two.
    pub fn new_clients(&mut self, low: f64, high: f64) -> Clients {
        let rate = self.rate(low, high);
        Clients { population: Some(Population::new(!self.seed)), ..self.flash_crowd(rate) }
    }

    /// Clients beyond the baseline, for as long as the trouble lasts.
    pub fn flash_crowd(&self, rate: f64) -> Clients {
        let Range { start, end } = self.time();
        Clients { from: start, until: end, ..self.clients(rate) }
    }

    /// People behind one address, at a rate between these two.
    pub fn office(&mut self, low: f64, high: f64) -> Clients {
        let rate = self.rate(low, high);
        Clients { behind: Some(CARRIER), ..self.clients(rate) }
    }

    /// SYN-ACKs to this share of the clients are lost while the trouble lasts.
    pub fn outage(&self, share: f64) -> Option<Outage> {
        Some(Outage::of(self.time(), share))
    }

    /// An application that opens another connection after a few tenths of a second.
    pub fn impatient(&mut self) -> Persistence {
        let after = self.between(0.3, 0.8);
        Persistence::Reconnects { after, times: 2 + self.random.below(2) as usize }
    }

    /// A host with this socket and no clients.
    pub fn empty(&self, server: Server) -> Lab {
        Lab::seeded(Settings::default(), Mode::Enforce, self.seed).listener(server)
    }

    /// A host with this socket and the baseline clients.
    pub fn host(&mut self, server: Server) -> Lab {
        let normal = self.normal();
        self.empty(server).clients(normal)
    }

    /// A scene on this host, at the time of the trouble.
    pub fn scene(&self, lab: Lab, rate: f64) -> Scene {
        Scene { lab, time: self.time(), rate, victim: None, stalls: false }
    }

    /// A host with the baseline clients under these floods.
    pub fn flooded(&mut self, floods: impl IntoIterator<Item = Flood>) -> Scene {
        let lab = self.host(LARGE);
        self.under(lab, floods)
    }

    /// This host under these floods.
    pub fn under(&self, mut lab: Lab, floods: impl IntoIterator<Item = Flood>) -> Scene {
        let mut rate = 0.0;
        for flood in floods {
            rate += flood.rate;
            lab = lab.flood(flood);
        }
        self.scene(lab, rate)
    }

    /// A host with the baseline clients and these others.
    pub fn beside(&mut self, groups: impl IntoIterator<Item = Clients>) -> Scene {
        let lab = self.host(LARGE);
        self.among(lab, groups)
    }

    /// This host with these clients.
    pub fn among(&self, mut lab: Lab, groups: impl IntoIterator<Item = Clients>) -> Scene {
        let mut rate = 0.0;
        for group in groups {
            rate += group.rate;
            lab = lab.clients(group);
        }
        self.scene(lab, rate)
    }

    /// A host with the baseline clients and so many load balancers, each of which checks it so often a second.
    pub fn checked(&mut self, sources: u32, each: f64, kind: HealthCheck) -> Scene {
        let rate = f64::from(sources) * each;
        let lab = self.host(LARGE).health_checks(HealthChecks { to: 0, rate, sources, kind });
        self.scene(lab, rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_draws_the_same_numbers_whatever_was_drawn_before_it_and_another_seed_others() {
        let cast = Cast::new(7);
        let drawn = |cast: &Cast, name| Draw::new(cast, name).fixed_fingerprint(300.0, 1000.0).rate;
        assert_eq!(drawn(&cast, "a"), drawn(&cast, "a"));
        let rates: Vec<f64> = ["a", "b", "c", "d"].map(|name| drawn(&cast, name)).into();
        assert!(rates.iter().all(|rate| (300.0..=1000.0).contains(rate)), "{rates:?}");
        assert!(rates.iter().any(|rate| *rate != rates[0]), "{rates:?}");
        let other = Cast { seed: 8, ..cast.clone() };
        assert_ne!(
            ["a", "b"].map(|name| drawn(&cast, name)),
            ["a", "b"].map(|name| drawn(&other, name))
        );
    }
}
