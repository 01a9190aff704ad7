//! Captures with flaws: packets that are in them twice, and packets that are not.

use super::super::files::{ETHERNET, Order, PCAP, PcapNg, on_link};
use super::super::packets::*;
use super::*;

/// Delay of the copy of a packet, in ns, and whether a router is between, as mirror ports make them.
const COPIES: [(u64, bool); 3] = [(MS / 333, false), (MS / 50, false), (MS / 2, true)];
/// The sentence about them.
const TWICE: &str = "Each packet was recorded twice: the copies are left out.";
/// Share of the packets that are missing from the capture of a host that could not keep up.
const LOST: f64 = 0.2;

/// A flood of which each packet was captured twice is the flood that was captured once.
#[test]
fn a_flood_of_which_each_packet_was_captured_twice() {
    let mut jury = Jury::default();
    let right: &[&[&str]] = &[&["random_spoofed"]];
    for family in families() {
        for (shape, rate, answered) in [
            (Shape::Bare, 1500.0, 0.0),
            (Shape::Mix, 300.0, 0.0),
            (Shape::Bare, 300.0, 1.0),
            (Shape::Mix, 1000.0, 1.0),
        ] {
            let mut scene = Scene::new(71, family, 24);
            scene.clients(0.0, 24.0, 15.0);
            let flood = Flood::new(8.0, 18.0, rate, From::Random, shape);
            scene.flood(&Flood { answered, ..flood });
            let once = observe(&scene.capture(View::Both));
            for (after, routed) in COPIES {
                let mut scene = scene.clone();
                scene.mirror(after, routed);
                let name = format!("{shape:?} {rate}/s twice, {answered}, routed: {routed}");
                jury.hear(&name, &scene, View::Arriving, right);
                let twice = jury.hear(&name, &scene, View::Both, right);
                assert_eq!(twice.skipped["copy"], once.packets, "{name}");
                assert_eq!(twice.incidents, once.incidents, "{name}");
                assert!(twice.notes.iter().any(|note| note == TWICE), "{:?}", twice.notes);
            }
        }
    }
    jury.dismiss();
}

/// An attacker that sends each SYN twice is seen as one that sends it once, on one interface and on several.
#[test]
fn a_flood_that_sends_each_syn_twice_at_once_is_no_less_a_flood() {
    let flood = flood(BEGIN, 6, 1000, Shows::Arriving, any_address);
    let twice: Vec<Stamped> =
        flood.iter().flat_map(|(at, syn)| [(*at, syn.clone()), (at + MS, syn.clone())]).collect();
    let replay = observe(&PCAP.write(&in_order(twice.clone())));
    assert_eq!((replay.syns, replay.incidents[0].class.name()), (6000, "random_spoofed"));
    // A bridge, of which each port and the bridge itself records both.
    let mut file = PcapNg::new(Order::Little);
    file.named(ETHERNET, "eth0");
    file.named(ETHERNET, "br0");
    for (at, syn) in &twice {
        for (interface, later) in [(0, 0), (1, 3)] {
            file.enhanced(interface, at / 1000 + later, &on_link(ETHERNET, Order::Little, syn));
        }
    }
    let replay = observe(&file.bytes);
    assert_eq!((replay.syns, replay.skipped["copy"]), (12_000, 12_000));
    assert_eq!(replay.incidents[0].class.name(), "random_spoofed");
    let on = "Each packet was recorded twice, on br0 and eth0: the copies are left out.";
    assert!(replay.notes.iter().any(|note| note == on), "{:?}", replay.notes);
}

#[test]
fn clients_of_which_each_packet_was_captured_twice() {
    let mut jury = Jury::default();
    for family in families() {
        for (after, routed) in COPIES {
            for rate in [20.0, 200.0] {
                let mut scene = Scene::new(72, family, 30);
                scene.clients(0.0, 30.0, rate);
                scene.mirror(after, routed);
                jury.verdict(&format!("{rate} clients/s twice"), &scene, &[]);
            }
            let mut scene = Scene::new(73, family, 50);
            let server = scene.server;
            scene.clients_of(0.0, 50.0, 200.0, server, |t, client| {
                let out = (15.0..30.0).contains(&t) && client % 100 < 60;
                out.then_some(Fate::Unreached)
            });
            scene.mirror(after, routed);
            jury.verdict("an outage twice", &scene, &["handshake_degraded"]);
        }
    }
    jury.dismiss();
}

/// A fifth of the third ACKs is missing, of the replies and of the SYNs. Later packets prove them.
#[test]
fn clients_of_which_a_fifth_of_all_packets_was_not_captured() {
    let mut jury = Jury::default();
    for family in families() {
        for (seed, rate) in [(2, 20.0), (74, 200.0), (75, 1000.0)] {
            let mut scene = Scene::new(seed, family, 40);
            scene.clients(0.0, 40.0, rate);
            scene.lose_some(LOST);
            let name = format!("a fifth lost of {rate}/s");
            let replay = jury.hear(&name, &scene, View::Both, &[&[]]);
            let completed = replay.handshakes as f64 / replay.syns as f64;
            assert!(completed > 0.95, "{name}: {completed:.3}");
        }
    }
    jury.dismiss();
}

/// Without ACKs, which a filter may leave out, clients cannot be distinguished from a flood.
#[test]
fn a_capture_without_acks_is_said_to_be_one() {
    for (fate, lacks) in [(Fate::Vanishes, true), (Fate::Completes, false)] {
        let mut scene = Scene::new(77, Family::V4, 20);
        let server = scene.server;
        scene.clients_of(0.0, 20.0, 30.0, server, |_, _| Some(fate));
        let replay = observe(&scene.capture(View::Both));
        let said = replay.notes.iter().any(|note| note.starts_with("It holds no ACK"));
        assert_eq!((replay.lacks_acks, said), (lacks, lacks), "{:?}", replay.notes);
    }
}

/// Some clients retransmit only after 3 s, and a fifth of their packets was not captured. Many
/// leave a single SYN for longer than it takes to judge a flood.
#[test]
fn slow_clients_whose_path_is_broken_in_a_capture_that_lost_a_fifth() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in [50.0, 200.0] {
            for percent in [20, 60, 100] {
                for one_in in [3, 1] {
                    let mut scene = Scene::new(76, family, 50);
                    let server = scene.server;
                    scene.clients_of(0.0, 50.0, rate, server, |t, client| {
                        let out = (15.0..30.0).contains(&t) && client % 100 < percent;
                        let fate = match client / 100 % one_in {
                            0 => Fate::UnreachedSlowly,
                            _ => Fate::Unreached,
                        };
                        out.then_some(fate)
                    });
                    scene.lose_some(LOST);
                    let name = format!("outage of {percent} % of {rate}/s, one in {one_in} slow");
                    let failing = rate * percent as f64 / 100.0;
                    // Below 20 failures a second none need be reported.
                    let right: &[&[&str]] = match failing >= 20.0 {
                        true => &[&["handshake_degraded"]],
                        false => &[&["handshake_degraded"], &[]],
                    };
                    let detections = jury.hear_all(&name, &scene, View::Both, right).detections;
                    // Not even for a moment.
                    let floods = detections.iter().filter(|it| it.class.is_flood()).count();
                    assert_eq!(floods, 0, "{name}, {family:?}: {detections:?}");
                }
            }
        }
    }
    jury.dismiss();
}
