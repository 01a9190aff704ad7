//! Floods of one listener.

use std::net::SocketAddr;

use super::stack::host;
use super::*;

/// A listener with so many clients a second before, during and after a flood.
fn served(seed: u64, family: Family, clients: f64) -> Scene {
    let mut scene = Scene::new(seed, family, 24);
    scene.clients(0.0, 24.0, clients);
    scene
}

/// A flood of ten seconds among 30 clients a second, in everything that can be seen.
fn flooded(family: Family, rate: f64, sources: From, shape: Shape) -> Scene {
    let mut scene = served(rate as u64, family, 30.0);
    scene.flood(&Flood::new(8.0, 18.0, rate, sources, shape));
    scene
}

fn rates(sources: From, shape: Shape, right: &str) {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([30.0, 100.0, 1000.0, 10_000.0]) {
            let scene = flooded(family, rate, sources, shape);
            let name = format!("{sources:?} {shape:?} {rate}/s");
            jury.verdict(&name, &scene, &[right]);
        }
    }
    jury.dismiss();
}

#[test]
fn spoofed_sources_without_options() {
    rates(From::Random, Shape::Bare, "random_spoofed");
}

#[test]
fn spoofed_sources_with_ece_and_cwr() {
    rates(From::Random, Shape::EcnCwr, "random_spoofed");
}

#[test]
fn spoofed_sources_with_random_windows() {
    rates(From::Random, Shape::RandomWindow, "random_spoofed");
}

#[test]
fn spoofed_sources_with_random_ttls() {
    rates(From::Random, Shape::RandomTtl, "random_spoofed");
}

#[test]
fn spoofed_sources_that_copy_one_system() {
    rates(From::Random, Shape::Linux, "random_spoofed");
}

#[test]
fn spoofed_sources_that_copy_all_systems() {
    rates(From::Random, Shape::Mix, "random_spoofed");
}

/// The flood's sources go on with ACKs, as clients do. Only a number near the server's proves a
/// third ACK that the capture lost, and no such source knows it.
#[test]
fn guessed_acknowledgements_make_no_clients_of_a_flood() {
    let mut jury = Jury::default();
    for family in families() {
        let clients = observe(&served(61, family, 30.0).capture(View::Both)).handshakes;
        let mut scene = served(61, family, 30.0);
        let flood = Flood::new(8.0, 18.0, 500.0, From::Random, Shape::Linux);
        scene.flood(&Flood { guesses: 4, ..flood });
        let replay = jury.hear("guessed ACKs", &scene, View::Both, &[&["random_spoofed"]]);
        assert!(replay.handshakes <= clients + 3, "{} of {clients}", replay.handshakes);
    }
    jury.dismiss();
}

/// A full queue answers next to none of the SYNs, and both directions are in the capture all the same.
#[test]
fn unanswered_floods() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in [30.0, 3000.0] {
            let mut scene = Scene::new(62, family, 40);
            scene.clients(0.0, 40.0, 10.0);
            let flood = Flood::new(10.0, 30.0, rate, From::Random, Shape::Bare);
            scene.flood(&Flood { answered: 0.0, ..flood });
            let name = format!("unanswered {rate}/s");
            let replay = jury.hear(&name, &scene, View::Both, &[&["random_spoofed"]]);
            let both = replay.notes.iter().any(|note| note.starts_with("It holds both directions"));
            assert!(both, "{name}: {:?}", replay.notes);
            let started = replay.incidents[0].started_s;
            assert!(rate < 100.0 || (9.5..10.5).contains(&started), "{name}: {started}");
        }
    }
    jury.dismiss();
}

#[test]
fn pulses() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([300.0, 1000.0, 10_000.0]) {
            for shape in [Shape::Bare, Shape::EcnCwr, Shape::Mix] {
                let mut scene = Scene::new(3, family, 40);
                scene.clients(0.0, 40.0, 30.0);
                let pulses = Some((0.5, 2.75));
                let flood = Flood::new(5.0, 36.0, rate, From::Random, shape);
                scene.flood(&Flood { pulses, ..flood });
                jury.verdict(&format!("pulses {shape:?} {rate}/s"), &scene, &["random_spoofed"]);
            }
        }
    }
    jury.dismiss();
}

#[test]
fn one_source() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([30.0, 100.0, 1000.0, 10_000.0]) {
            for (shape, resets) in [
                (Shape::Bare, false),
                (Shape::Bare, true),
                (Shape::Tool, true),
                (Shape::Linux, true),
            ] {
                let mut scene = served(4, family, 30.0);
                let from = From::One(host(family, 0x1_5bad_cafe));
                let flood = Flood::new(8.0, 18.0, rate, from, shape);
                scene.flood(&Flood { resets, ..flood });
                let name = format!("one source {shape:?} {rate}/s resets {resets}");
                // A handshake that is reset at once holds no slot: thirty a second may be health
                // checks.
                let right: &[&[&str]] = match resets && rate < 50.0 {
                    true => &[&["single_source"], &[]],
                    false => &[&["single_source"]],
                };
                for view in VIEWS {
                    jury.hear(&name, &scene, view, right);
                }
            }
        }
    }
    jury.dismiss();
}

/// Many people share one address, and one of them floods.
#[test]
fn a_bad_host_behind_a_carriers_host() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in [100.0, 1000.0] {
            let mut scene = served(5, family, 30.0);
            let shared = host(family, 0x1_64c0_ffee);
            let server = scene.server;
            for n in 0..240 {
                let client = SocketAddr::new(shared, scene.ephemeral());
                let look = Look::any(&mut scene.dice);
                let at = super::super::packets::BEGIN + n * 100_000_000;
                let (rtt, fate) = (40_000_000, Fate::Completes);
                scene.connect(&Attempt { at, client, server, look, rtt, fate });
            }
            scene.flood(&Flood::new(8.0, 18.0, rate, From::One(shared), Shape::Bare));
            jury.verdict(&format!("carrier {rate}/s"), &scene, &["single_source"]);
        }
    }
    jury.dismiss();
}

#[test]
fn twenty_sources() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([30.0, 100.0, 1000.0, 10_000.0]) {
            for shape in [Shape::Bare, Shape::Tool, Shape::Linux] {
                let scene = flooded(family, rate, From::Pool(20), shape);
                jury.verdict(&format!("20 sources {shape:?} {rate}/s"), &scene, &["few_source"]);
            }
        }
    }
    jury.dismiss();
}

#[test]
fn one_network() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([30.0, 100.0, 1000.0, 10_000.0]) {
            for shape in [Shape::Bare, Shape::Tool, Shape::Linux] {
                let scene = flooded(family, rate, From::Network, shape);
                jury.verdict(&format!("a network {shape:?} {rate}/s"), &scene, &["few_source"]);
            }
        }
    }
    jury.dismiss();
}

#[test]
fn three_thousand_bots() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([300.0, 1000.0, 10_000.0]) {
            for shape in [Shape::Tool, Shape::Linux, Shape::Mix] {
                let scene = flooded(family, rate, From::Pool(3000), shape);
                jury.verdict(&format!("3000 bots {shape:?} {rate}/s"), &scene, &["distributed"]);
            }
        }
    }
    jury.dismiss();
}

/// The queue is full and there are no cookies: few SYNs are answered, of the flood or of clients.
#[test]
fn a_server_that_is_overwhelmed() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([300.0, 1000.0, 10_000.0]) {
            for (shape, sources, right) in [
                (Shape::Bare, From::Random, "random_spoofed"),
                (Shape::Mix, From::Random, "random_spoofed"),
                (Shape::Bare, From::One(host(family, 9)), "single_source"),
            ] {
                for answered in [0.2, 0.05, 0.005] {
                    let mut scene = Scene::new(11, family, 30);
                    let server = scene.server;
                    scene.clients_of(0.0, 30.0, 30.0, server, |t, client| {
                        let lost = (9.0..20.0).contains(&t) && client % 100 >= 30;
                        lost.then_some(Fate::Unanswered(4))
                    });
                    let flood = Flood::new(8.0, 20.0, rate, sources, shape);
                    scene.flood(&Flood { answered, ..flood });
                    let name = format!("{sources:?} {shape:?} {rate}/s answered {answered}");
                    jury.verdict(&name, &scene, &[right]);
                }
            }
        }
    }
    jury.dismiss();
}

/// An idle listener, and a capture that begins and ends within the flood.
#[test]
fn nothing_but_the_flood() {
    let mut jury = Jury::default();
    for family in FAMILIES {
        for rate in each_rate([100.0, 1000.0, 10_000.0]) {
            for (sources, shape, right) in [
                (From::Random, Shape::Bare, "random_spoofed"),
                (From::Random, Shape::Mix, "random_spoofed"),
                (From::Pool(20), Shape::Bare, "few_source"),
                (From::One(host(family, 9)), Shape::Bare, "single_source"),
            ] {
                let mut scene = Scene::new(8, family, 10);
                scene.flood(&Flood::new(0.0, 10.0, rate, sources, shape));
                let name = format!("nothing but {sources:?} {shape:?} {rate}/s");
                jury.verdict(&name, &scene, &[right]);
            }
        }
    }
    jury.dismiss();
}

/// The counts of a flood: SYNs, sources and times.
#[test]
fn the_numbers_of_a_flood_are_right() {
    for family in families() {
        for rate in each_rate([1000.0, 10_000.0]) {
            let scene = flooded(family, rate, From::Random, Shape::Bare);
            for view in VIEWS {
                let replay = observe(&scene.capture(view));
                let [incident] = replay.incidents.as_slice() else { panic!("{replay:#?}") };
                let context = format!("{family:?} {view:?} {rate}/s: {incident:#?}");
                let share = |found: u64, expected: f64| found as f64 / expected;
                assert!((0.98..1.1).contains(&share(incident.syns, rate * 10.0)), "{context}");
                assert!(
                    (0.9..1.1)
                        .contains(&share(incident.evidence.numbers.sources_estimate, rate * 10.0)),
                    "{context}"
                );
                assert!((7.5..8.3).contains(&incident.started_s), "{context}");
                assert!(incident.detected_after_s <= 1.5, "{context}");
                assert!(
                    (0.9..1.15).contains(&(incident.evidence.peak_syn_pps / rate)),
                    "{context}"
                );
                assert_eq!(incident.ended_s, None, "{context}");
                assert!(incident.evidence.numbers.holding() >= 3, "{context}");
                assert!((23.0..=24.0).contains(&replay.duration_s), "{context}");
                assert!(
                    (600..=800).contains(&replay.handshakes),
                    "{context}: {}",
                    replay.handshakes
                );
            }
        }
    }
}
