//! Mixes of benign traffic, without any attack.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;

use tcpguard_engine::{Mode, Settings};
use tcpguard_sim::{
    Arrivals, Broken, Clients, HealthCheck, HealthChecks, Lab, Natural, Outage, Population, Random,
    Server, Whom,
};

/// Time for which everything runs before the measurement begins, s: the others learn for minutes.
pub const WARM_UP: f64 = 600.0;
/// Time in which benign trouble comes once, s.
const EVERY: f64 = 3600.0;
/// Median life of a connection, s.
const LIFE: f64 = 10.0;
/// The backlog that nginx asks for by default.
pub const BACKLOG: u32 = 511;
pub const CARRIER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The random choices that are made once for a seed.
#[derive(Clone, Debug)]
pub struct Cast {
    pub seed: u64,
    /// The population that the clients belong to.
    pub population: Arc<Population>,
}

impl Cast {
    /// The clients of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, population: Population::new(seed) }
    }

    /// A host without clients. Its queue holds as many as `net.core.somaxconn` allows by default.
    pub fn host(&self, mode: Mode) -> Lab {
        self.small_host(mode, 4096)
    }

    /// A host with a queue that holds `backlog`.
    pub fn small_host(&self, mode: Mode, backlog: u32) -> Lab {
        let server = Server { backlog, ..Server::default() };
        Lab::seeded(Settings::default(), mode, self.seed).listener(server)
    }

    /// `rate` connects a second, each when it likes.
    pub fn clients(&self, rate: f64) -> Clients {
        Clients {
            arrivals: Arrivals::Poisson,
            population: Some(self.population.clone()),
            natural: Natural::normal(),
            life: Some(LIFE),
            ..Clients::steady(rate)
        }
    }

    /// Random numbers for everything else that is drawn for this seed.
    pub fn random(&self, what: u64) -> Random {
        Random::new(self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(what))
    }
}

/// A host, and the stalls of its application.
pub struct Scene {
    /// The host with its clients.
    pub lab: Lab,
    /// Times in which the application does not accept, s.
    pub stalls: Vec<Range<f64>>,
}

/// A mix of benign traffic.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Its name in the tables.
    pub name: &'static str,
    /// A host on which it lasts until the given time, s.
    pub scene: fn(&Cast, f64) -> Scene,
}

/// All mixes but flash crowds, which are counted by themselves.
pub const ALL: [Mix; 15] = [
    Mix { name: "steady, 2/s", scene: |cast, _| calm(cast, cast.clients(2.0)) },
    Mix { name: "steady, 50/s", scene: |cast, _| calm(cast, cast.clients(50.0)) },
    Mix { name: "steady, 200/s", scene: |cast, _| calm(cast, cast.clients(200.0)) },
    Mix { name: "diurnal, 5 to 100/s", scene: |cast, _| calm(cast, diurnal(cast)) },
    Mix { name: "very bursty, 50/s", scene: |cast, _| calm(cast, bursty(cast)) },
    Mix { name: "on and off, 100/s", scene: |cast, _| calm(cast, on_and_off(cast)) },
    Mix { name: "slow clients, 50/s", scene: |cast, _| calm(cast, slow(cast)) },
    Mix { name: "half behind one address", scene: |cast, _| shared(cast) },
    Mix { name: "client outage, 5 %", scene: |cast, until| outages(cast, until, 0.05) },
    Mix { name: "client outage, 20 %", scene: |cast, until| outages(cast, until, 0.2) },
    Mix { name: "client outage, 60 %", scene: |cast, until| outages(cast, until, 0.6) },
    Mix { name: "one ISP loses SYN-ACKs", scene: isps },
    Mix { name: "one office's path breaks", scene: office },
    Mix { name: "half-open health checks", scene: |cast, _| checked(cast) },
    Mix { name: "application stalls", scene: stalling },
];

fn calm(cast: &Cast, clients: Clients) -> Scene {
    Scene { lab: cast.host(Mode::Observe).clients(clients), stalls: Vec::new() }
}

fn diurnal(cast: &Cast) -> Clients {
    let arrivals = Arrivals::Diurnal { low: 0.05, period: 6.0 * EVERY };
    Clients { arrivals, ..cast.clients(100.0) }
}

/// A log-normal rate: one second in a hundred brings ten times as many as half of them do.
fn bursty(cast: &Cast) -> Clients {
    Clients { arrivals: Arrivals::Bursty { sigma: 1.0, rho: 0.9 }, ..cast.clients(50.0) }
}

fn on_and_off(cast: &Cast) -> Clients {
    Clients { arrivals: Arrivals::OnOff { on: 5.0, off: 20.0 }, ..cast.clients(100.0) }
}

/// Clients on mobile networks: of as many systems, but 100 to 800 ms away.
fn slow(cast: &Cast) -> Clients {
    Clients { rtt: 0.1..0.8, population: None, ..cast.clients(50.0) }
}

/// A carrier's customers, which share its address, beside as many others.
fn shared(cast: &Cast) -> Scene {
    let mut scene = calm(cast, cast.clients(50.0));
    scene.lab = scene.lab.clients(Clients { behind: Some(CARRIER), ..cast.clients(50.0) });
    scene
}

/// Clients for which SYN-ACKs get lost once an hour for ten seconds to two minutes.
fn outages(cast: &Cast, until: f64, share: f64) -> Scene {
    let lab = cast.host(Mode::Observe);
    troubled(lab, cast.clients(50.0), cast, until, |time, _| Outage::of(time, share))
}

/// The same for all clients of one of the ten largest providers.
fn isps(cast: &Cast, until: f64) -> Scene {
    let lab = cast.host(Mode::Observe);
    troubled(lab, cast.clients(50.0), cast, until, |time, random| Outage {
        from: time.start,
        until: time.end,
        share: 1.0,
        whom: Whom::Isp(random.below(10) as usize),
        what: Broken::SynAck,
    })
}

/// Half of the clients work in an office behind one address, and the path to that address breaks.
fn office(cast: &Cast, until: f64) -> Scene {
    let office = Clients { behind: Some(CARRIER), ..cast.clients(50.0) };
    let lab = cast.host(Mode::Observe).clients(cast.clients(50.0));
    troubled(lab, office, cast, until, |time, _| Outage::of(time, 1.0))
}

/// A host with clients that are in trouble once an hour.
fn troubled(
    mut lab: Lab,
    clients: Clients,
    cast: &Cast,
    until: f64,
    outage: impl Fn(Range<f64>, &mut Random) -> Outage,
) -> Scene {
    let mut random = cast.random(1);
    let mut from = 0.0;
    for time in moments(until, 10.0..120.0, &mut random) {
        let outage = Some(outage(time.clone(), &mut random));
        // A minute later all that was lost has been tried again.
        let end = time.end + 60.0;
        lab = lab.clients(Clients { from, until: end, outage, ..clients.clone() });
        from = end;
    }
    Scene { lab: lab.clients(Clients { from, ..clients }), stalls: Vec::new() }
}

/// A load balancer of four machines that resets each handshake it does not need.
fn checked(cast: &Cast) -> Scene {
    let checks = HealthChecks { to: 0, rate: 10.0, sources: 4, kind: HealthCheck::Reset };
    let mut scene = calm(cast, cast.clients(20.0));
    scene.lab = scene.lab.health_checks(checks);
    scene
}

/// An application that stops accepting once an hour for ten seconds to a minute.
fn stalling(cast: &Cast, until: f64) -> Scene {
    let lab = cast.small_host(Mode::Observe, BACKLOG);
    let stalls = moments(until, 10.0..60.0, &mut cast.random(2));
    Scene { lab: lab.clients(cast.clients(100.0)), stalls }
}

/// Returns one time in each [`EVERY`] after the warm-up, of a length within `lasting`, s. The last one ends, with the
/// time to recover, before `until`.
fn moments(until: f64, lasting: Range<f64>, random: &mut Random) -> Vec<Range<f64>> {
    let hours = ((until - WARM_UP) / EVERY).ceil().max(1.0) as u32;
    let window = ((until - WARM_UP) / f64::from(hours)).min(EVERY);
    let mut moment = |hour: u32| {
        let length = lasting.start + (lasting.end - lasting.start) * random.share();
        let slack = (window - length - 120.0).max(0.0);
        let from = WARM_UP + f64::from(hour) * window + slack * random.share();
        from..from + length
    };
    (0..hours).map(&mut moment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_comes_once_an_hour_and_is_over_before_the_next() {
        let times: Vec<_> = moments(WARM_UP + 4.0 * EVERY, 10.0..120.0, &mut Random::new(1));
        assert_eq!(times.len(), 4);
        assert!(times.iter().all(|time| (10.0..=120.0).contains(&(time.end - time.start))));
        assert!(times.windows(2).all(|two| two[0].end + 60.0 < two[1].start), "{times:?}");
        assert!(times[0].start >= WARM_UP && times[3].end < WARM_UP + 4.0 * EVERY);
    }

    #[test]
    fn a_short_run_has_its_trouble_too() {
        let times = moments(WARM_UP + 300.0, 10.0..120.0, &mut Random::new(1));
        assert_eq!(times.len(), 1);
        assert!(times[0].end <= WARM_UP + 240.0, "{times:?}");
    }
}
