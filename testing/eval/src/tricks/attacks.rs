//! Floods that play a trick.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use tcpguard_engine::IncidentClass::{self, Distributed, FewSource, RandomSpoofed, SingleSource};
use tcpguard_engine::{Listener, ListenerId, Route};
use tcpguard_sim::{
    Clients, Flood, HealthCheck, Lab, Natural, Outage, Server, Shape, Sources, Whom,
};

use super::scene::{Draw, LARGE, NO_COOKIES, SMALL, Scene};
use super::{ANY, Row};
use crate::mixes::CARRIER;

const RANDOM: &[IncidentClass] = &[RandomSpoofed];
const SCATTERED: &[IncidentClass] = &[RandomSpoofed, Distributed];
const MANY: &[IncidentClass] = &[Distributed];
const FEW: &[IncidentClass] = &[FewSource, SingleSource];
const ONE: &[IncidentClass] = &[SingleSource];

/// Within the same time step of the simulation: a second frame cannot arrive sooner.
const AT_ONCE: &[f64] = &[0.0004];
/// Retransmission times of real clients' SYNs, in s after the first one (RFC 6298).
pub(super) const LIKE_CLIENTS: &[f64] = &[1.0, 3.0, 7.0];
/// An address from which one host floods.
pub(super) const ATTACKER: Sources = Sources::One(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)));
/// Time limit for naming an attack that is spread over many listeners, s.
const CARPETS: f64 = 10.0;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(repeated());
    rows.extend(repeated_by_few());
    rows.extend(reset());
    rows.extend(carpets());
    rows.extend(decoys());
    rows.extend(one_look());
    rows.extend(odd_sources());
    rows.extend(borrowed_names());
    rows.extend(bots());
    rows.extend(tools());
    rows.extend(pulses_and_ramps());
    rows.extend(among_trouble());
    rows
}

/// Copies of clients' SYNs, of which this share is retransmitted.
fn again(
    draw: &mut Draw<'_>,
    (low, high): (f64, f64),
    repeated: f64,
    again: &'static [f64],
) -> Scene {
    let mimicking = draw.mimicking(low, high);
    draw.flooded([Flood { repeated, again, ..mimicking }])
}

/// A host with few clients.
fn quiet(draw: &Draw<'_>) -> Lab {
    draw.empty(LARGE).clients(draw.clients(20.0))
}

/// More copies than such clients could send (`surge_floor`), and no more than are followed one by one.
fn surge(draw: &mut Draw<'_>) -> Flood {
    draw.mimicking(5500.0, 6000.0)
}

/// Retransmitted SYNs prove nothing: an attacker sends them for the price of one more frame each.
fn repeated() -> [Row; 12] {
    /// Many times the natural failures of the baseline clients, and no surge.
    const MANY_TIMES: (f64, f64) = (1000.0, 3000.0);
    /// More than the least share that clients retransmit (`retransmit_share`): the rest is not retransmitted.
    const SOME: f64 = 0.4;
    [
        Row::flood("mimic, each twice at once", RANDOM, |draw| {
            again(draw, (300.0, 1000.0), 1.0, AT_ONCE)
        }),
        Row::flood("mimic, 40 % twice at once", RANDOM, |draw| {
            again(draw, (300.0, 1000.0), SOME, AT_ONCE)
        }),
        Row::flood("mimic, each again after 1 s", RANDOM, |draw| {
            again(draw, MANY_TIMES, 1.0, &[1.0])
        }),
        Row::flood("mimic, 40 % again after 1 s", RANDOM, |draw| {
            again(draw, (500.0, 2000.0), SOME, &[1.0])
        }),
        Row::flood("mimic, again after 1 and 3 s", RANDOM, |draw| {
            again(draw, MANY_TIMES, 1.0, &[1.0, 3.0])
        }),
        Row::flood("mimic, again after 1, 3 and 7 s", RANDOM, |draw| {
            again(draw, MANY_TIMES, 1.0, LIKE_CLIENTS)
        }),
        Row::flood("mimic surge, each twice at once", RANDOM, |draw| {
            let flood = Flood { repeated: 1.0, again: AT_ONCE, ..surge(draw) };
            draw.under(quiet(draw), [flood])
        }),
        Row::flood("mimic surge, again after 1 and 3 s", RANDOM, |draw| {
            let flood = Flood { repeated: 1.0, again: &[1.0, 3.0], ..surge(draw) };
            draw.under(quiet(draw), [flood])
        }),
        Row::flood("fixed, each twice at once", RANDOM, |draw| {
            let fixed_fingerprint = draw.fixed_fingerprint(300.0, 2000.0);
            draw.flooded([Flood { repeated: 1.0, again: AT_ONCE, ..fixed_fingerprint }])
        }),
        Row::flood("fixed, each again after 1 s", RANDOM, |draw| {
            let fixed_fingerprint = draw.fixed_fingerprint(300.0, 2000.0);
            draw.flooded([Flood { repeated: 1.0, ..fixed_fingerprint }])
        }),
        Row::flood("fixed, 2 % again, without cookies", RANDOM, |draw| {
            let lab = draw.host(NO_COOKIES);
            let fixed_fingerprint = draw.fixed_fingerprint(2000.0, 3000.0);
            draw.under(lab, [Flood { repeated: 0.02, ..fixed_fingerprint }])
        })
        .serving(0.9),
        // The flood's segments arrive like those of clients and cannot be distinguished from them, so that clients have
        // to wait too. There is no floor: nine clients of ten or more are new, and connect with their second SYN, later
        // than the second that is counted. The share of validated clients that connect is held by `repeats_live`.
        Row::flood("mimic, after 1 s, without cookies", RANDOM, |draw| {
            let lab = draw.host(NO_COOKIES);
            let mimicking = draw.mimicking(MANY_TIMES.0, MANY_TIMES.1);
            draw.under(lab, [Flood { repeated: 1.0, ..mimicking }])
        }),
    ]
}

fn repeated_by_few() -> [Row; 6] {
    fn from(
        draw: &mut Draw<'_>,
        (low, high): (f64, f64),
        sources: Sources,
        again: &'static [f64],
    ) -> Scene {
        let mimicking = draw.mimicking(low, high);
        draw.flooded([Flood { sources, repeated: 1.0, again, ..mimicking }])
    }
    const MANY_TIMES: (f64, f64) = (1000.0, 3000.0);
    [
        Row::flood("mimic from one /24, twice at once", FEW, |draw| {
            from(draw, (300.0, 1000.0), Sources::Networks(1), AT_ONCE)
        }),
        Row::flood("mimic from one /24, after 1 s", FEW, |draw| {
            from(draw, MANY_TIMES, Sources::Networks(1), &[1.0])
        }),
        Row::flood("one source, each twice at once", ONE, |draw| {
            from(draw, (300.0, 1000.0), ATTACKER, AT_ONCE)
        }),
        Row::flood("one source, each again after 1 s", ONE, |draw| {
            from(draw, MANY_TIMES, ATTACKER, &[1.0])
        }),
        Row::flood("20 hosts, again after 1 and 3 s", FEW, |draw| {
            from(draw, MANY_TIMES, Sources::Bots(20), &[1.0, 3.0])
        }),
        Row::flood("3,000 bots, each twice at once", SCATTERED, |draw| {
            from(draw, (500.0, 2000.0), Sources::Bots(3000), AT_ONCE)
        }),
    ]
}

/// A source that resets a SYN-ACK has received it.
fn reset() -> [Row; 6] {
    [
        Row::flood("mimic, every answer reset", RANDOM, |draw| {
            let mimicking = draw.mimicking(600.0, 1000.0);
            draw.flooded([Flood { resets: true, ..mimicking }])
        }),
        Row::flood("mimic, all reset, few clients", RANDOM, |draw| {
            let mimicking = draw.mimicking(600.0, 1000.0);
            draw.under(quiet(draw), [Flood { resets: true, ..mimicking }])
        }),
        Row::flood("mimic surge, every answer reset", RANDOM, |draw| {
            let flood = Flood { resets: true, ..surge(draw) };
            draw.under(quiet(draw), [flood])
        }),
        Row::flood("fixed, every answer reset", RANDOM, |draw| {
            let fixed_fingerprint = draw.fixed_fingerprint(300.0, 2000.0);
            draw.flooded([Flood { resets: true, ..fixed_fingerprint }])
        }),
        Row::flood("mimic, half of the sources reset", RANDOM, |draw| {
            let mimicking = draw.mimicking(300.0, 1000.0);
            draw.flooded([mimicking.clone(), Flood { resets: true, ..mimicking }])
        }),
        Row::flood("one source that resets", ONE, |draw| {
            let fixed_fingerprint = draw.fixed_fingerprint(500.0, 2000.0);
            draw.flooded([Flood {
                sources: ATTACKER,
                shape: Shape::Linux,
                resets: true,
                ..fixed_fingerprint
            }])
        }),
    ]
}

/// A host with its clients at the first listener, and so many ports.
fn ports(draw: &mut Draw<'_>, count: usize) -> Lab {
    (1..count).fold(draw.host(LARGE), |lab, _| lab.listener(LARGE))
}

/// The same with so many addresses.
fn addresses(draw: &mut Draw<'_>, count: u8) -> Lab {
    let at = |host| Listener { addr: [198, 51, 100, host].into(), port: 443 };
    (1..=count).fold(draw.host(LARGE), |lab, host| lab.listener_at(at(host), LARGE))
}

/// Too little at each of many listeners, and plenty at all of them.
fn carpets() -> [Row; 9] {
    fn carpet(
        name: &'static str,
        classes: &'static [IncidentClass],
        scene: fn(&mut Draw<'_>) -> Scene,
    ) -> Row {
        Row::flood(name, classes, scene).within(CARPETS)
    }
    [
        carpet("fixed over 500 ports", RANDOM, |draw| {
            let (lab, fixed_fingerprint) =
                (ports(draw, 500), draw.fixed_fingerprint(4000.0, 5000.0));
            draw.under(lab, [Flood { across: 500, ..fixed_fingerprint }])
        }),
        carpet("mimic over 500 ports", RANDOM, |draw| {
            let (lab, mimicking) = (ports(draw, 500), draw.mimicking(4000.0, 5000.0));
            draw.under(lab, [Flood { across: 500, ..mimicking }])
        }),
        carpet("fixed over 256 addresses", RANDOM, |draw| {
            let (lab, fixed_fingerprint) =
                (addresses(draw, 255), draw.fixed_fingerprint(1500.0, 2500.0));
            draw.under(lab, [Flood { across: 256, ..fixed_fingerprint }])
        }),
        carpet("mimic over 256 addresses", RANDOM, |draw| {
            let (lab, mimicking) = (addresses(draw, 255), draw.mimicking(2000.0, 2500.0));
            draw.under(lab, [Flood { across: 256, ..mimicking }])
        }),
        carpet("fixed over 256 addresses, 4/s each", RANDOM, |draw| {
            let (lab, fixed_fingerprint) =
                (addresses(draw, 255), draw.fixed_fingerprint(1000.0, 1100.0));
            draw.under(lab, [Flood { across: 256, ..fixed_fingerprint }])
        })
        .within(15.0),
        carpet("mimic over 20 addresses", RANDOM, |draw| {
            let (lab, mimicking) = (addresses(draw, 19), draw.mimicking(1000.0, 1500.0));
            draw.under(lab, [Flood { across: 20, ..mimicking }])
        }),
        carpet("fixed over 70 ports", RANDOM, |draw| {
            let (lab, fixed_fingerprint) =
                (ports(draw, 70), draw.fixed_fingerprint(3000.0, 4000.0));
            draw.under(lab, [Flood { across: 70, ..fixed_fingerprint }])
        }),
        carpet("one /24 over 100 ports", FEW, |draw| {
            let (lab, mimicking) = (ports(draw, 100), draw.mimicking(1500.0, 2500.0));
            draw.under(lab, [Flood { sources: Sources::Networks(1), across: 100, ..mimicking }])
        }),
        carpet("one source over 50 ports", FEW, |draw| {
            let (lab, mimicking) = (ports(draw, 50), draw.mimicking(1500.0, 2500.0));
            draw.under(lab, [Flood { sources: ATTACKER, across: 50, ..mimicking }])
        }),
    ]
}

/// A host without cookies with `count` cheap incidents, and ten seconds later the flood that is meant, at the first
/// listener.
fn behind_decoys(draw: &mut Draw<'_>, count: usize, shape: Shape) -> Scene {
    let time = draw.time();
    let lab = (0..count).fold(draw.host(NO_COOKIES), |lab, _| lab.listener(NO_COOKIES));
    let each = draw.rate(12.0, 20.0);
    let victim = draw.fixed_fingerprint(2000.0, 3000.0);
    let decoys = Flood {
        to: 1,
        across: count,
        shape,
        ..Flood::random(each * count as f64, time.start - 10.0..time.end)
    };
    Scene { victim: Some(ListenerId(0)), ..draw.under(lab, [victim, decoys]) }
}

fn decoys() -> [Row; 2] {
    [
        Row::flood("64 decoys, then the victim", RANDOM, |draw| {
            behind_decoys(draw, 64, Shape::Bare)
        })
        .serving(0.9),
        Row::flood("80 mimic decoys, then the victim", RANDOM, |draw| {
            behind_decoys(draw, 80, Shape::Mimicking)
        })
        .serving(0.9),
    ]
}

/// A flood from one /24 in which a client lives, so that it cannot be blocked as a whole.
fn one_look() -> [Row; 4] {
    fn alike(draw: &Draw<'_>, rate: f64) -> Clients {
        Clients { shape: Some(Shape::Linux), ..draw.clients(rate) }
    }
    fn neighbours(draw: &mut Draw<'_>, server: Server, shape: Shape) -> Scene {
        let rate = draw.rate(2.0, 5.0);
        let client = Clients { behind: Some([198, 18, 0, 77].into()), ..alike(draw, rate) };
        let lab = draw.empty(server).clients(alike(draw, 50.0)).clients(client);
        let fixed_fingerprint = draw.fixed_fingerprint(1500.0, 2500.0);
        draw.under(lab, [Flood { sources: Sources::Networks(1), shape, ..fixed_fingerprint }])
    }
    [
        Row::flood("one look, a /24 with a client in it", FEW, |draw| {
            neighbours(draw, LARGE, Shape::Bare)
        }),
        Row::flood("one look, the same, without cookies", FEW, |draw| {
            neighbours(draw, Server { backlog: 256, ..NO_COOKIES }, Shape::Bare)
        })
        .serving(0.9),
        Row::flood("clients' look, a /24 with a client", FEW, |draw| {
            neighbours(draw, SMALL, Shape::Linux)
        })
        .serving(0.9),
        // The network's other addresses can be blocked one by one, but most of them are too many for that. The
        // remainder fills the queue, and new clients connect with their second SYN, which is too late for a floor.
        Row::flood("clients' look, the same, no cookies", FEW, |draw| {
            neighbours(draw, NO_COOKIES, Shape::Linux)
        }),
    ]
}

/// Sources that no host has, or that the host does not reach by the way they came.
fn odd_sources() -> [Row; 11] {
    fn within(draw: &mut Draw<'_>, net: &str, shape: Shape) -> Scene {
        let net: IpNet = net.parse().expect("a network");
        let fixed_fingerprint = draw.fixed_fingerprint(500.0, 2000.0);
        draw.flooded([Flood { sources: Sources::Within(net), shape, ..fixed_fingerprint }])
    }
    /// Likewise, with replies of the host that do not take the way on which the SYN arrived.
    fn routed(
        draw: &mut Draw<'_>,
        (net, route): (&str, Route),
        server: Server,
        shape: Shape,
    ) -> Scene {
        let net: IpNet = net.parse().expect("a network");
        let mut lab = draw.host(server);
        lab.kernel.routes.push((net, route));
        let fixed_fingerprint = draw.fixed_fingerprint(500.0, 2000.0);
        draw.under(lab, [Flood { sources: Sources::Within(net), shape, ..fixed_fingerprint }])
    }
    fn from(draw: &mut Draw<'_>, sources: Sources, repeated: f64, shape: Shape) -> Scene {
        let fixed_fingerprint = draw.fixed_fingerprint(1000.0, 3000.0);
        draw.flooded([Flood { sources, repeated, shape, ..fixed_fingerprint }])
    }
    [
        Row::flood("fixed from all of 2^32", RANDOM, |draw| {
            from(draw, Sources::Anywhere, 0.0, Shape::Bare)
        }),
        Row::flood("mimic from all of 2^32", RANDOM, |draw| {
            from(draw, Sources::Anywhere, 0.0, Shape::Mimicking)
        }),
        Row::flood("mimic from 2^32, again after 1 s", RANDOM, |draw| {
            from(draw, Sources::Anywhere, 1.0, Shape::Mimicking)
        }),
        Row::flood("mimic from 10.0.0.0/8", RANDOM, |draw| {
            within(draw, "10.0.0.0/8", Shape::Mimicking)
        }),
        Row::flood("mimic from 240.0.0.0/4", RANDOM, |draw| {
            within(draw, "240.0.0.0/4", Shape::Mimicking)
        }),
        Row::flood("mimic from a bridge's 172.17.0.0/16", SCATTERED, |draw| {
            routed(draw, ("172.17.0.0/16", Route::Elsewhere(9)), LARGE, Shape::Mimicking)
        }),
        Row::flood("mimic from an on-link /18", SCATTERED, |draw| {
            routed(draw, ("10.9.64.0/18", Route::Unresolved), LARGE, Shape::Mimicking)
        }),
        Row::flood("fixed from an on-link /18", SCATTERED, |draw| {
            routed(draw, ("10.9.64.0/18", Route::Unresolved), NO_COOKIES, Shape::Bare)
        })
        .serving(0.9),
        Row::flood("mimic, random IPv6", RANDOM, |draw| {
            from(draw, Sources::RandomV6, 0.0, Shape::Mimicking)
        }),
        Row::flood("mimic from one IPv6 /48", FEW, |draw| {
            from(draw, Sources::Within48, 0.0, Shape::Mimicking)
        }),
        Row::flood("mimic from one IPv6 /64", ONE, |draw| {
            from(draw, Sources::Within64, 0.0, Shape::Mimicking)
        }),
    ]
}

/// Sources that are clients, or pass for some.
fn borrowed_names() -> [Row; 4] {
    [
        Row::flood("mimic in the clients' own names", SCATTERED, |draw| {
            let mimicking = draw.mimicking(1000.0, 2000.0);
            draw.flooded([Flood { sources: Sources::Clients, ..mimicking }])
        }),
        Row::flood("mimic in 200 known devices' names", ANY, |draw| {
            let devices = draw.some(200, 40.0, 60.0);
            // The clients whom the flood copies are those of the first group.
            let lab = draw.empty(LARGE).clients(devices);
            let mimicking = draw.mimicking(600.0, 1000.0);
            draw.under(lab, [Flood { sources: Sources::Clients, ..mimicking }])
        }),
        Row::flood("mimic in one carrier's name", ONE, |draw| {
            let office = draw.office(20.0, 40.0);
            let lab = draw.host(LARGE).clients(office);
            let mimicking = draw.mimicking(600.0, 1000.0);
            draw.under(lab, [Flood { sources: Sources::One(CARRIER), ..mimicking }])
        }),
        Row::flood("mimic, a pool of 12,000", SCATTERED, |draw| {
            let mimicking = draw.mimicking(500.0, 2000.0);
            draw.flooded([Flood { sources: Sources::Pool(12_000), ..mimicking }])
        }),
    ]
}

/// Real hosts, which complete some of their handshakes.
fn bots() -> [Row; 5] {
    fn of(draw: &mut Draw<'_>, count: u64, shape: Shape, completes: f64) -> Scene {
        let fixed_fingerprint = draw.fixed_fingerprint(1000.0, 2000.0);
        draw.flooded([Flood {
            sources: Sources::Bots(count),
            shape,
            completes,
            ..fixed_fingerprint
        }])
    }
    [
        Row::flood("3,000 bots", MANY, |draw| of(draw, 3000, Shape::Mimicking, 0.0)),
        Row::flood("400 bots", &[Distributed, FewSource], |draw| {
            of(draw, 400, Shape::Mimicking, 0.0)
        }),
        Row::flood("20 hosts", FEW, |draw| of(draw, 20, Shape::Mimicking, 0.0)),
        Row::flood("fixed, a pool of 3,000", SCATTERED, |draw| {
            let fixed_fingerprint = draw.fixed_fingerprint(500.0, 2000.0);
            draw.flooded([Flood { sources: Sources::Pool(3000), ..fixed_fingerprint }])
        }),
        Row::flood("3,000 bots, 5 to 10 % complete", SCATTERED, |draw| {
            let completes = draw.between(0.05, 0.1);
            of(draw, 3000, Shape::Mimicking, completes)
        }),
    ]
}

/// Several tools at once, and tools that draw the fields of their SYNs at random.
fn tools() -> [Row; 7] {
    /// Floods at the same rate with different fingerprints.
    fn shares(draw: &mut Draw<'_>, shapes: &[Shape]) -> Scene {
        let fixed_fingerprint = draw.fixed_fingerprint(300.0, 800.0);
        draw.flooded(
            shapes.iter().map(|shape| Flood { shape: *shape, ..fixed_fingerprint.clone() }),
        )
    }
    [
        Row::flood("two tools in equal shares", RANDOM, |draw| {
            shares(draw, &[Shape::Bare, Shape::BareEcn])
        }),
        Row::flood("three tools in equal shares", RANDOM, |draw| {
            shares(draw, &[Shape::Bare, Shape::BareEcn, Shape::RandomWindowMss])
        }),
        Row::flood("fixed and mimic in equal shares", RANDOM, |draw| {
            shares(draw, &[Shape::Bare, Shape::Mimicking])
        }),
        Row::flood("fixed with drawn TTLs", RANDOM, |draw| shares(draw, &[Shape::RandomTtl])),
        Row::flood("fixed with drawn windows and MSS", RANDOM, |draw| {
            shares(draw, &[Shape::RandomWindowMss])
        }),
        Row::flood("one source and random ones", ANY, |draw| {
            let mimicking = draw.mimicking(500.0, 1000.0);
            draw.flooded([mimicking.clone(), Flood { sources: ATTACKER, ..mimicking }])
        }),
        Row::flood("one /24 and random ones", ANY, |draw| {
            let mimicking = draw.mimicking(500.0, 1000.0);
            draw.flooded([mimicking.clone(), Flood { sources: Sources::Networks(1), ..mimicking }])
        }),
    ]
}

/// Floods that come and go, or grow.
fn pulses_and_ramps() -> [Row; 7] {
    fn pulsed(draw: &mut Draw<'_>, pulses: (f64, f64), shape: Shape, lasts: f64) -> Scene {
        draw.last(lasts);
        let fixed_fingerprint = draw.fixed_fingerprint(4000.0, 5000.0);
        draw.flooded([Flood { pulses: Some(pulses), shape, ..fixed_fingerprint }])
    }
    fn ramp(draw: &mut Draw<'_>, shape: Shape) -> Scene {
        draw.last(30.0);
        let fixed_fingerprint = draw.fixed_fingerprint(1500.0, 2000.0);
        draw.flooded([Flood { ramp: Some(30.0), shape, ..fixed_fingerprint }])
    }
    [
        Row::flood("pulses of 0.1 s every 3 s", RANDOM, |draw| {
            pulsed(draw, (0.1, 2.9), Shape::Bare, 30.0)
        })
        .within(10.0),
        Row::flood("pulses of 0.2 s every 8 s", RANDOM, |draw| {
            pulsed(draw, (0.2, 7.8), Shape::Bare, 40.0)
        })
        .within(20.0),
        Row::flood("mimic pulses of 0.5 s every 4 s", RANDOM, |draw| {
            pulsed(draw, (0.5, 3.5), Shape::Mimicking, 30.0)
        })
        .within(15.0),
        Row::flood("a ramp of 30 s", RANDOM, |draw| ramp(draw, Shape::Bare)).within(8.0),
        Row::flood("a mimic ramp of 30 s", RANDOM, |draw| ramp(draw, Shape::Mimicking))
            .within(12.0),
        Row::flood("mimic, 40 to 60/s", RANDOM, |draw| {
            let mimicking = draw.mimicking(40.0, 60.0);
            draw.flooded([mimicking])
        })
        .within(10.0),
        Row::flood("fixed, 20/s among 200 clients/s", RANDOM, |draw| {
            let lab = draw.empty(LARGE).clients(draw.clients(200.0));
            draw.under(lab, [Flood::random(20.0, draw.time())])
        })
        .within(10.0),
    ]
}

/// Floods that hide among clients in trouble.
fn among_trouble() -> [Row; 9] {
    /// The flood begins eight seconds after the clients' own trouble.
    fn after(draw: &mut Draw<'_>, lab: Lab, shape: Shape) -> Scene {
        let fixed_fingerprint = draw.fixed_fingerprint(1000.0, 3000.0);
        draw.under(lab, [Flood { shape, ..fixed_fingerprint }])
    }
    fn in_a_flash_crowd(draw: &mut Draw<'_>, shape: Shape) -> Scene {
        let (normal, time) = (draw.normal(), draw.time());
        let flash_crowd = Clients { from: time.start - 8.0, ..draw.flash_crowd(normal.rate * 9.0) };
        let lab = draw.empty(LARGE).clients(normal).clients(flash_crowd);
        after(draw, lab, shape)
    }
    fn in_an_outage(draw: &mut Draw<'_>, shape: Shape) -> Scene {
        let (normal, time) = (draw.normal(), draw.time());
        let share = draw.between(0.2, 0.4);
        let outage = Outage { whom: Whom::Isps, ..Outage::of(time.start - 8.0..time.end, share) };
        let lab = draw.empty(LARGE).clients(Clients { outage: Some(outage), ..normal });
        after(draw, lab, shape)
    }
    [
        Row::flood("fixed in a flash crowd", RANDOM, |draw| in_a_flash_crowd(draw, Shape::Bare)),
        Row::flood("mimic in a flash crowd", RANDOM, |draw| {
            in_a_flash_crowd(draw, Shape::Mimicking)
        }),
        Row::flood("fixed in an outage", RANDOM, |draw| in_an_outage(draw, Shape::Bare)),
        Row::flood("mimic in an outage", RANDOM, |draw| in_an_outage(draw, Shape::Mimicking)),
        Row::flood("mimic among lossy clients", RANDOM, |draw| {
            let natural = Natural { vanish: 0.02, reset: 0.01, loss: 0.1 };
            let normal = Clients { natural, ..draw.normal() };
            let lab = draw.empty(LARGE).clients(normal);
            after(draw, lab, Shape::Mimicking)
        }),
        Row::flood("mimic among half-open checks", RANDOM, |draw| {
            let checked = draw.checked(3, 30.0, HealthCheck::Reset);
            after(draw, checked.lab, Shape::Mimicking)
        }),
        Row::flood("fixed, a small queue without cookies", RANDOM, |draw| {
            let lab = draw.host(NO_COOKIES);
            after(draw, lab, Shape::Bare)
        })
        .serving(0.9),
        Row::flood("mimic, a small queue", RANDOM, |draw| {
            let lab = draw.host(SMALL);
            after(draw, lab, Shape::Mimicking)
        })
        .serving(0.9),
        // New clients connect with their second SYN, which is too late for a floor: the flood retransmits none of its
        // own.
        Row::flood("mimic, a small queue without cookies", RANDOM, |draw| {
            let lab = draw.host(NO_COOKIES);
            after(draw, lab, Shape::Mimicking)
        }),
    ]
}
