//! Traffic that concerns other hosts, such as unsolicited replies.

use std::net::SocketAddr;

use super::super::packets::*;
use super::stack::host;
use super::*;

/// SYNs spoofed with this host's address make `reflectors` servers reply to it.
fn reflected(family: Family, rate: u64, reflectors: u64, flags: u8) -> Scene {
    let mut scene = Scene::new(51, family, 20);
    scene.clients(0.0, 20.0, 30.0);
    for n in 0..rate * 10 {
        let at = BEGIN + 5 * SECOND + n * SECOND / rate;
        let number = scene.dice.below(reflectors);
        let server = SocketAddr::new(host(family, number << 20 | 5), 443);
        let port = 1024 + scene.dice.below(60_000) as u16;
        let own = scene.port(port);
        let seq = if flags & RST != 0 { 0 } else { scene.dice.next() as u32 };
        let ack = scene.dice.next() as u32;
        let ttl = 40 + (number % 20) as u8;
        let answer = Tcp { ttl, ..Tcp::new(server, own, flags, seq, ack) };
        scene.arrives(at, &answer);
        if flags == SYN_ACK {
            // This host's kernel knows nothing of it.
            scene.leaves(at + 50_000, &Tcp::new(own, server, RST, ack, 0));
        }
    }
    scene
}

#[test]
fn reflection() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in [400, 1000, 10_000] {
            for (reflectors, flags) in [(3000, SYN_ACK), (1, SYN_ACK), (3000, RST | ACK)] {
                let scene = reflected(family, rate, reflectors, flags);
                let name = format!("{reflectors} reflectors, flags {flags:#x}, {rate}/s");
                for view in VIEWS {
                    let replay = jury.hear(&name, &scene, view, &[&["reflection"]]);
                    let Some(incident) = replay.incidents.first() else { continue };
                    let found =
                        incident.evidence.numbers.sources_estimate as f64 / reflectors as f64;
                    let enough = rate * 10 >= 3 * reflectors;
                    assert!(!enough || (0.9..1.1).contains(&found), "{name}: {incident:#?}");
                }
            }
        }
    }
    jury.dismiss();
}

/// Another host's clients pass by: a capture on a router, with many servers behind it.
#[test]
fn a_router_in_front_of_many_servers() {
    let mut jury = Jury::default();
    for family in families() {
        let mut scene = Scene::new(52, family, 30);
        for host in 0..60 {
            let server = SocketAddr::new(scene.neighbour(host + 2), 443);
            scene.clients_of(0.0, 30.0, 5.0, server, |_, _| None);
        }
        jury.verdict("a router", &scene, &[]);
        // One of its servers is flooded.
        scene.flood(&Flood::new(10.0, 20.0, 2000.0, From::Random, Shape::Bare));
        for view in VIEWS {
            let replay = jury.hear("a router", &scene, view, &[&["random_spoofed"]]);
            let places: Vec<_> = replay.incidents.iter().map(|i| i.listener.clone()).collect();
            assert_eq!(places, [scene.server.to_string()]);
        }
    }
    jury.dismiss();
}

/// Only packets that leave the host were captured: its replies. The SYNs are not known. The replies
/// come from this host, so no SYNs were spoofed with its address.
#[test]
fn answers_alone() {
    let mut jury = Jury::default();
    for family in families() {
        let mut calm = Scene::new(53, family, 30);
        calm.clients(0.0, 30.0, 100.0);
        jury.hear("answers to clients", &calm, View::Leaving, &[&[]]);
        for (rate, sources) in [
            (1000.0, From::Random),
            (10_000.0, From::Random),
            (1000.0, From::One(host(family, 9))),
            (1000.0, From::Pool(20)),
        ] {
            let mut scene = Scene::new(54, family, 30);
            scene.clients(0.0, 30.0, 30.0);
            scene.flood(&Flood::new(8.0, 20.0, rate, sources, Shape::Bare));
            let name = format!("answers to {sources:?} at {rate}/s");
            jury.hear(&name, &scene, View::Leaving, &[&[]]);
        }
    }
    jury.dismiss();
}
