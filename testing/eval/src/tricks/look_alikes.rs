//! Clients, checks and scanners that resemble a flood.

use std::net::{IpAddr, Ipv4Addr};

use tcpguard_engine::IncidentClass::{self, FlashCrowd, HandshakeDegraded, ListenerOverload, Scan};
use tcpguard_sim::{
    Arrivals, Broken, Clients, Flood, HealthCheck, Natural, Outage, Persistence, Server, Shape,
    Sources, Whom,
};

use super::Row;
use super::scene::{Draw, LARGE, NO_COOKIES, SMALL, Scene};
use crate::mixes::BACKLOG;

const NOTHING: &[IncidentClass] = &[];
const PATH: &[IncidentClass] = &[HandshakeDegraded];
const FLASH_CROWD: &[IncidentClass] = &[FlashCrowd];
const FLASH_CROWD_OR_PATH: &[IncidentClass] = &[FlashCrowd, HandshakeDegraded];
const FULL: &[IncidentClass] = &[ListenerOverload, HandshakeDegraded];
const STRAINED: &[IncidentClass] = &[ListenerOverload, HandshakeDegraded, FlashCrowd];

/// One host that is no client.
const ELSEWHERE: Sources = Sources::One(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)));
/// Another address of many people.
const OTHER_OFFICE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 60));

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(impatient());
    rows.extend(slow());
    rows.extend(resets());
    rows.extend(checks());
    rows.extend(refused());
    rows.extend(outages());
    rows.extend(broken_paths());
    rows.extend(flash_crowds());
    rows.extend(busy());
    rows.extend(overload());
    rows.extend(always_failing());
    rows
}

/// All of these lose their answers while the trouble lasts.
fn cut_off(draw: &Draw<'_>, clients: Clients) -> Clients {
    Clients { outage: draw.outage(1.0), ..clients }
}

/// Applications that give up before a SYN would be retransmitted, behind a broken path: they leave first SYNs only.
fn impatient() -> [Row; 7] {
    fn some(draw: &mut Draw<'_>, people: usize, (low, high): (f64, f64), share: f64) -> Scene {
        let persistence = draw.impatient();
        let some = draw.some(people, low, high);
        let group = Clients { persistence, outage: draw.outage(share), ..some };
        draw.beside([group])
    }
    fn behind_one(draw: &mut Draw<'_>, persistence: Persistence) -> Scene {
        let office = draw.office(30.0, 60.0);
        let phones = Clients { persistence, ..cut_off(draw, office) };
        draw.beside([phones])
    }
    [
        Row::only("phones behind one address", PATH, |draw| {
            let persistence = draw.impatient();
            behind_one(draw, persistence)
        }),
        Row::only("phones, 0.3 s and three tries", PATH, |draw| {
            behind_one(draw, Persistence::Reconnects { after: 0.3, times: 3 })
        }),
        Row::only("40 proxies of a CDN", PATH, |draw| some(draw, 40, (60.0, 120.0), 1.0)),
        Row::only("200 devices", PATH, |draw| some(draw, 200, (30.0, 60.0), 1.0)),
        Row::only("500 devices, half of the paths", PATH, |draw| {
            some(draw, 500, (50.0, 100.0), 0.5)
        }),
        Row::only("20 servers, 0.8 s and two tries", PATH, |draw| {
            let servers = draw.some(20, 20.0, 40.0);
            let persistence = Persistence::Reconnects { after: 0.8, times: 2 };
            let servers = Clients { persistence, ..cut_off(draw, servers) };
            draw.beside([servers])
        }),
        Row::only("40 servers at a stalled application", STRAINED, |draw| {
            let persistence = draw.impatient();
            let servers = Clients { persistence, ..draw.some(40, 60.0, 100.0) };
            let lab = draw.host(SMALL);
            Scene { stalls: true, ..draw.among(lab, [servers]) }
        }),
    ]
}

/// Systems with a first timeout of 3 s, behind a broken path: their retransmitted SYN arrives later than expected.
fn slow() -> [Row; 6] {
    const SLOW: Persistence = Persistence::SLOW;
    [
        Row::only("an office, first timeout of 3 s", PATH, |draw| {
            let office = Clients { persistence: SLOW, ..draw.office(30.0, 80.0) };
            let office = cut_off(draw, office);
            draw.beside([office])
        }),
        Row::only("a third with a first timeout of 3 s", PATH, |draw| {
            let normal = draw.normal();
            let third = Clients { persistence: SLOW, ..draw.clients(normal.rate / 2.0) };
            let groups = [normal, third].map(|group| cut_off(draw, group));
            draw.among(draw.empty(LARGE), groups)
        }),
        Row::only("everybody's first timeout is 3 s", PATH, |draw| {
            let all = Clients { persistence: SLOW, outage: draw.outage(0.6), ..draw.normal() };
            draw.among(draw.empty(LARGE), [all])
        }),
        Row::only("40 devices, first timeout of 3 s", PATH, |draw| {
            let devices = Clients { persistence: SLOW, ..draw.some(40, 20.0, 50.0) };
            let devices = cut_off(draw, devices);
            draw.beside([devices])
        }),
        Row::only("1,000 devices, first timeout of 3 s", PATH, |draw| {
            let devices = Clients { persistence: SLOW, ..draw.some(1000, 30.0, 80.0) };
            let devices = cut_off(draw, devices);
            draw.beside([devices])
        }),
        Row::only("a provider, first timeout of 3 s", PATH, |draw| {
            let outage = draw.outage(1.0).map(|outage| Outage { whom: Whom::Isp(0), ..outage });
            let normal = draw.rate(100.0, 300.0);
            let all = Clients { persistence: SLOW, outage, ..draw.clients(normal) };
            draw.among(draw.empty(LARGE), [all])
        }),
    ]
}

/// Something on the way resets the answers in the clients' names, and they try again.
fn resets() -> [Row; 4] {
    fn refused(draw: &Draw<'_>, whom: Whom, share: f64) -> Option<Outage> {
        draw.outage(share).map(|outage| Outage { whom, what: Broken::Refused, ..outage })
    }
    [
        Row::only("a middlebox resets to an office", PATH, |draw| {
            let office = draw.office(30.0, 80.0);
            let office = Clients { outage: refused(draw, Whom::Clients, 1.0), ..office };
            draw.beside([office])
        }),
        Row::only("a middlebox resets to a provider", PATH, |draw| {
            let normal = draw.rate(100.0, 300.0);
            let all = Clients { outage: refused(draw, Whom::Isp(0), 1.0), ..draw.clients(normal) };
            draw.among(draw.empty(LARGE), [all])
        }),
        Row::only("a middlebox resets every answer", PATH, |draw| {
            let all = Clients { outage: refused(draw, Whom::Clients, 1.0), ..draw.normal() };
            draw.among(draw.empty(LARGE), [all])
        }),
        Row::only("scanners of the internet, 60/s", &[Scan, HandshakeDegraded], |draw| {
            let probes = Flood {
                sources: Sources::Bots(200),
                shape: Shape::RandomWindowMss,
                resets: true,
                ..draw.fixed_fingerprint(50.0, 70.0)
            };
            draw.flooded([probes])
        }),
    ]
}

/// Balancers that ask whether the port is open.
fn checks() -> [Row; 8] {
    [
        Row::only("balancers, 3 × 30/s", NOTHING, |draw| {
            draw.checked(3, 30.0, HealthCheck::Reset)
        }),
        Row::only("balancers, 3 × 8/s", NOTHING, |draw| draw.checked(3, 8.0, HealthCheck::Reset)),
        Row::only("balancers, 2 × 45/s", NOTHING, |draw| {
            draw.checked(2, 45.0, HealthCheck::Reset)
        }),
        Row::only("balancers, 10 × 4/s", NOTHING, |draw| {
            draw.checked(10, 4.0, HealthCheck::Reset)
        }),
        Row::only("balancers, 10 × 10/s", NOTHING, |draw| {
            draw.checked(10, 10.0, HealthCheck::Reset)
        }),
        Row::only("checks that complete, 4 × 25/s", NOTHING, |draw| {
            draw.checked(4, 25.0, HealthCheck::Fin)
        }),
        Row::only("checks that vanish, 2 × 1/s", NOTHING, |draw| {
            draw.checked(2, 1.0, HealthCheck::Vanish)
        }),
        Row::only("balancers, and a broken path", PATH, |draw| {
            let outage = draw.outage(0.5);
            let lab = draw.checked(3, 30.0, HealthCheck::Reset).lab;
            let group = Clients { outage, ..draw.normal() };
            draw.among(lab, [group])
        }),
    ]
}

/// Clients of a service that is not there.
fn refused() -> [Row; 5] {
    fn closed(draw: &mut Draw<'_>, sources: Sources, (low, high): (f64, f64)) -> Scene {
        let tries = draw.mimicking(low, high);
        draw.flooded([Flood { sources, closed: Some(1), ..tries }])
    }
    [
        Row::only("a stopped service", NOTHING, |draw| {
            closed(draw, Sources::Clients, (20.0, 40.0))
        }),
        Row::only("a retry loop at a closed port", NOTHING, |draw| {
            closed(draw, ELSEWHERE, (20.0, 50.0))
        }),
        Row::only("200 devices at a closed port", NOTHING, |draw| {
            closed(draw, Sources::Bots(200), (40.0, 80.0))
        }),
        Row::only("a service behind a firewall", NOTHING, |draw| {
            let normal = draw.normal();
            let lab = draw.empty(Server { dead: true, ..LARGE });
            draw.among(lab, [normal])
        }),
        Row::only("a dead service beside a served one", NOTHING, |draw| {
            let lab = draw.host(LARGE).listener(Server { dead: true, ..LARGE });
            let dead = Clients { to: 1, ..draw.normal() };
            draw.among(lab, [dead])
        }),
    ]
}

/// Answers that clients here and there do not get.
fn outages() -> [Row; 8] {
    fn of(
        draw: &mut Draw<'_>,
        (low, high): (f64, f64),
        share: f64,
        (whom, what): (Whom, Broken),
    ) -> Scene {
        let rate = draw.rate(low, high);
        let outage = draw.outage(share).map(|outage| Outage { whom, what, ..outage });
        draw.among(draw.empty(LARGE), [Clients { outage, ..draw.clients(rate) }])
    }
    const ANSWERS: (Whom, Broken) = (Whom::Clients, Broken::SynAck);
    [
        Row::only("outage of 60 % at 1,000/s", PATH, |draw| {
            of(draw, (1000.0, 1000.0), 0.6, ANSWERS)
        }),
        Row::only("outage of everybody", PATH, |draw| of(draw, (100.0, 300.0), 1.0, ANSWERS)),
        Row::only("outage of 5 % at 500/s", PATH, |draw| of(draw, (500.0, 500.0), 0.05, ANSWERS)),
        Row::only("outage of 30 % by provider", PATH, |draw| {
            of(draw, (200.0, 400.0), 0.3, (Whom::Isps, Broken::SynAck))
        }),
        Row::only("outage of the largest provider", PATH, |draw| {
            of(draw, (200.0, 400.0), 1.0, (Whom::Isp(0), Broken::SynAck))
        }),
        Row::only("half of the third ACKs are lost", PATH, |draw| {
            of(draw, (50.0, 150.0), 0.5, (Whom::Clients, Broken::Ack))
        }),
        Row::only("half of the SYNs are lost", NOTHING, |draw| {
            of(draw, (50.0, 150.0), 0.5, (Whom::Clients, Broken::Syn))
        }),
        Row::only("outage of 40 %, a small queue", PATH, |draw| {
            let clients = Clients { outage: draw.outage(0.4), ..draw.normal() };
            draw.among(draw.empty(SMALL), [clients])
        }),
    ]
}

/// Clients from one address or at one distance, and new clients, behind a broken path.
fn broken_paths() -> [Row; 7] {
    [
        Row::only("an office loses its path", PATH, |draw| {
            let office = draw.office(50.0, 150.0);
            let office = cut_off(draw, office);
            draw.beside([office])
        }),
        Row::only("two offices lose their paths", PATH, |draw| {
            let one = draw.office(50.0, 100.0);
            let one = cut_off(draw, one);
            let other = Clients { behind: Some(OTHER_OFFICE), ..one.clone() };
            draw.beside([one, other])
        }),
        Row::only("clients alike at one distance", PATH, |draw| {
            let alike = Clients { shape: Some(Shape::Linux), ..draw.normal() };
            let alike = cut_off(draw, alike);
            draw.among(draw.empty(LARGE), [alike])
        }),
        Row::only("new clients over a broken path", PATH, |draw| {
            let new_clients = draw.new_clients(100.0, 300.0);
            let new_clients = cut_off(draw, new_clients);
            draw.beside([new_clients])
        }),
        Row::only("players at once, a broken path", PATH, |draw| {
            let rate = draw.rate(2000.0, 3000.0);
            let players = cut_off(draw, draw.flash_crowd(rate));
            let players = Clients { until: players.from + 1.5, ..players };
            draw.beside([players])
        }),
        Row::only("a flash crowd over a broken path", FLASH_CROWD_OR_PATH, |draw| {
            let normal = draw.normal();
            let flash_crowd =
                Clients { outage: draw.outage(0.3), ..draw.flash_crowd(normal.rate * 9.0) };
            let lab = draw.empty(LARGE).clients(normal);
            draw.among(lab, [flash_crowd])
        }),
        Row::only("a NAT that loses a tenth", PATH, |draw| {
            let natural = Natural { loss: 0.1, ..Natural::normal() };
            let office = Clients { natural, ..draw.office(50.0, 150.0) };
            draw.beside([office])
        }),
    ]
}

/// Flash crowds: far more clients than the baseline.
fn flash_crowds() -> [Row; 9] {
    fn times(draw: &mut Draw<'_>, factor: f64, change: fn(Clients) -> Clients) -> Scene {
        let normal = draw.normal();
        let flash_crowd = change(draw.flash_crowd(normal.rate * (factor - 1.0)));
        let lab = draw.empty(LARGE).clients(normal);
        draw.among(lab, [flash_crowd])
    }
    [
        Row::only("flash crowd, 20 times the clients", FLASH_CROWD, |draw| {
            times(draw, 20.0, |flash_crowd| flash_crowd)
        }),
        Row::only("flash crowd from far away", FLASH_CROWD, |draw| {
            times(draw, 20.0, |flash_crowd| Clients {
                rtt: 0.3..0.5,
                population: None,
                ..flash_crowd
            })
        }),
        Row::only("flash crowd by satellite, 2 % lost", FLASH_CROWD_OR_PATH, |draw| {
            times(draw, 10.0, |flash_crowd| Clients {
                rtt: 0.55..0.75,
                population: None,
                lost: 0.02,
                ..flash_crowd
            })
        }),
        Row::only("flash crowd over lossy paths", FLASH_CROWD_OR_PATH, |draw| {
            times(draw, 10.0, |flash_crowd| Clients {
                natural: Natural { loss: 0.1, ..flash_crowd.natural },
                ..flash_crowd
            })
        }),
        Row::only("flash crowd in waves of 5 s", FLASH_CROWD, |draw| {
            times(draw, 15.0, |flash_crowd| Clients {
                arrivals: Arrivals::OnOff { on: 5.0, off: 5.0 },
                ..flash_crowd
            })
        }),
        Row::only("flash crowd of new clients", FLASH_CROWD, |draw| {
            let new_clients = draw.new_clients(800.0, 1600.0);
            draw.beside([new_clients])
        }),
        Row::only("a herd of 8,000 in a second", FLASH_CROWD, |draw| {
            let herd = draw.flash_crowd(8000.0);
            let herd = Clients { until: herd.from + 1.0, ..herd };
            draw.beside([herd])
        }),
        Row::only("a reboot, and the storm after it", FLASH_CROWD_OR_PATH, |draw| {
            let (normal, time) = (draw.normal(), draw.time());
            // The host is away for eight seconds.
            let down =
                Outage { what: Broken::Syn, ..Outage::of(time.start..time.start + 8.0, 1.0) };
            let storm = draw.flash_crowd(normal.rate * 12.0);
            let storm = Clients { from: time.start + 8.0, ..storm };
            let lab = draw.empty(LARGE).clients(Clients { outage: Some(down), ..normal });
            draw.among(lab, [storm])
        }),
        Row::only("a CDN returns to its origin", FLASH_CROWD, |draw| {
            let proxies = draw.some(40, 60.0, 100.0);
            let back = Clients { rate: proxies.rate * 20.0, ..proxies.clone() };
            let back = Clients { from: draw.time().start, until: draw.time().end, ..back };
            draw.among(draw.empty(LARGE).clients(proxies), [back])
        }),
    ]
}

/// Clients that are many, or always the same, and served.
fn busy() -> [Row; 6] {
    [
        Row::only("a CDN's origin, 3,000/s", FLASH_CROWD, |draw| {
            let proxies = draw.some(40, 3000.0, 3000.0);
            draw.among(draw.empty(LARGE), [proxies])
        }),
        Row::only("a crawler, 300/s", FLASH_CROWD, |draw| {
            let crawler = draw.office(300.0, 300.0);
            let crawler = Clients { from: draw.time().start, ..crawler };
            draw.beside([crawler])
        }),
        Row::only("a benchmark of one host, 2,000/s", FLASH_CROWD, |draw| {
            let bench = draw.office(2000.0, 2000.0);
            let bench = Clients { from: draw.time().start, ..bench };
            draw.beside([bench])
        }),
        Row::only("very bursty clients", FLASH_CROWD, |draw| {
            let arrivals = Arrivals::Bursty { sigma: 1.0, rho: 0.9 };
            let bursty = Clients { arrivals, ..draw.normal() };
            draw.among(draw.empty(LARGE), [bursty])
        }),
        Row::only("1,500 clients a second", NOTHING, |draw| {
            draw.among(draw.empty(LARGE), [draw.clients(1500.0)])
        }),
        Row::only("two clients a second", NOTHING, |draw| {
            draw.among(draw.empty(LARGE), [draw.clients(2.0)])
        }),
    ]
}

/// An application that does not accept.
fn overload() -> [Row; 5] {
    fn stalled(draw: &mut Draw<'_>, server: Server, clients: Clients) -> Scene {
        let lab = draw.empty(server);
        Scene { stalls: true, ..draw.among(lab, [clients]) }
    }
    [
        Row::only("the application stalls", FULL, |draw| {
            let clients = draw.clients(100.0);
            stalled(draw, Server { backlog: BACKLOG, ..LARGE }, clients)
        }),
        Row::only("it stalls, a small queue", FULL, |draw| {
            let clients = draw.normal();
            stalled(draw, NO_COOKIES, clients)
        }),
        Row::only("it stalls, clients reconnect", STRAINED, |draw| {
            let persistence = draw.impatient();
            let clients = Clients { persistence, ..draw.clients(100.0) };
            stalled(draw, SMALL, clients)
        }),
        Row::only("it stalls in a flash crowd", STRAINED, |draw| {
            let normal = draw.normal();
            let flash_crowd = draw.flash_crowd(normal.rate * 9.0);
            let lab = draw.empty(Server { backlog: BACKLOG, ..LARGE }).clients(normal);
            Scene { stalls: true, ..draw.among(lab, [flash_crowd]) }
        }),
        Row::only("it stalls behind 40 proxies", FULL, |draw| {
            let proxies = draw.some(40, 80.0, 120.0);
            stalled(draw, Server { backlog: BACKLOG, ..LARGE }, proxies)
        }),
    ]
}

/// Clients of whom some fail at the best of times.
fn always_failing() -> [Row; 8] {
    fn losing(draw: &mut Draw<'_>, natural: Natural) -> Scene {
        let clients = Clients { natural, ..draw.normal() };
        draw.among(draw.empty(LARGE), [clients])
    }
    fn far(draw: &mut Draw<'_>, (near, far): (f64, f64)) -> Scene {
        let normal = draw.normal();
        let clients = Clients {
            rtt: near..far,
            population: None,
            lost: 0.02,
            natural: Natural::default(),
            ..normal
        };
        draw.among(draw.empty(LARGE), [clients])
    }
    [
        // A client that connected faster over the other IP version resets the slower handshake.
        Row::only("Happy Eyeballs, 25 to 30 % reset", PATH, |draw| {
            let reset = draw.between(0.25, 0.3);
            losing(draw, Natural { reset, ..Natural::normal() })
        }),
        Row::only("Happy Eyeballs, for 20 minutes", PATH, |draw| {
            draw.last(1200.0);
            let reset = draw.between(0.25, 0.3);
            losing(draw, Natural { reset, ..Natural::normal() })
        })
        .over(),
        Row::only("a swarm, a third of it gone", PATH, |draw| {
            let swarm = Clients { from: 0.0, lost: 0.33, ..draw.new_clients(50.0, 150.0) };
            draw.beside([swarm])
        }),
        Row::only("one in ten resets", PATH, |draw| {
            losing(draw, Natural { reset: 0.1, ..Natural::normal() })
        }),
        Row::only("one in ten vanishes", PATH, |draw| {
            losing(draw, Natural { vanish: 0.1, ..Natural::normal() })
        }),
        Row::only("one in ten loses a packet", PATH, |draw| {
            losing(draw, Natural { loss: 0.1, ..Natural::normal() })
        }),
        Row::only("mobile clients, 2 % lost", NOTHING, |draw| far(draw, (0.1, 0.8))),
        Row::only("satellites, 2 % lost", NOTHING, |draw| far(draw, (0.55, 0.75))),
    ]
}
