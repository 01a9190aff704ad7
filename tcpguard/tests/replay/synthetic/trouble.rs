//! Handshakes that fail without an attack, and many that do not fail.

use super::super::packets::*;
use super::*;

/// Twenty times as many clients, all of whom are served.
#[test]
fn a_flash_crowd_of_clients() {
    let mut jury = Jury::default();
    for family in families() {
        for baseline in each_rate([10.0, 50.0, 200.0]) {
            let mut scene = Scene::new(31, family, 90);
            scene.clients(0.0, 90.0, baseline);
            scene.clients(60.0, 75.0, 20.0 * baseline);
            for view in VIEWS {
                let name = format!("a flash crowd to {} /s", 20.0 * baseline);
                let replay = jury.hear(&name, &scene, view, &[&["flash_crowd"]]);
                assert!(replay.incidents.iter().all(|incident| incident.actions.is_empty()));
            }
        }
    }
    jury.dismiss();
}

/// The capture begins ten seconds before the flash crowd, which takes a while to build up.
#[test]
fn a_flash_crowd_in_a_short_capture() {
    let mut jury = Jury::default();
    for family in families() {
        let mut scene = Scene::new(36, family, 45);
        scene.clients(0.0, 45.0, 25.0);
        for second in 0..10 {
            let from = f64::from(10 + second);
            scene.clients(from, from + 1.0, f64::from(1 + second * 50));
        }
        scene.clients(20.0, 40.0, 500.0);
        jury.verdict("a flash crowd in a short capture", &scene, &["flash_crowd"]);
    }
    jury.dismiss();
}

/// The application does not accept: third ACKs are ignored and SYN-ACKs retransmitted, then SYNs get no reply
/// either.
#[test]
fn an_application_that_does_not_accept() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([50.0, 200.0, 1000.0]) {
            let mut scene = Scene::new(32, family, 60);
            let server = scene.server;
            scene.clients_of(0.0, 60.0, rate, server, |t, client| {
                if !(20.0..45.0).contains(&t) {
                    return None;
                }
                // Half are answered and ignored, the others try again.
                Some(match client % 4 {
                    0 => Fate::Ignored(2),
                    1 => Fate::Ignored(1),
                    2 => Fate::Unanswered(1),
                    _ => Fate::Unanswered(2),
                })
            });
            let name = format!("overload {rate}/s");
            jury.hear(&name, &scene, View::Both, &[&["listener_overload"]]);
            // Without the replies in the capture they may equally have been lost.
            let right: &[&[&str]] = &[&["listener_overload"], &["handshake_degraded"], &[]];
            jury.hear(&name, &scene, View::Arriving, right);
        }
    }
    jury.dismiss();
}

/// Only third ACKs are ignored: the queue is full now and then.
#[test]
fn an_application_that_accepts_slowly() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in [50.0, 200.0] {
            let mut scene = Scene::new(33, family, 60);
            let server = scene.server;
            scene.clients_of(0.0, 60.0, rate, server, |t, client| {
                let full = (20.0..45.0).contains(&t) && client % 3 > 0;
                full.then_some(Fate::Ignored(1 + (client % 2) as usize))
            });
            let name = format!("slow accept {rate}/s");
            jury.hear(&name, &scene, View::Both, &[&["listener_overload"]]);
            jury.hear(&name, &scene, View::Arriving, &[&[], &["listener_overload"]]);
        }
    }
    jury.dismiss();
}

/// The answers to a group of clients are lost for a while.
#[test]
fn clients_whose_path_is_broken() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([20.0, 200.0, 1000.0]) {
            for percent in [5, 20, 60, 100] {
                let mut scene = Scene::new(34, family, 50);
                let server = scene.server;
                scene.clients_of(0.0, 50.0, rate, server, |t, client| {
                    let out = (15.0..30.0).contains(&t) && client % 100 < percent;
                    out.then_some(Fate::Unreached)
                });
                let name = format!("outage of {percent} % of {rate}/s");
                let failing = rate * percent as f64 / 100.0;
                // Below five a second, or 5 % of all, failures are not looked for.
                let right: &[&[&str]] = match failing >= 20.0 && percent >= 20 {
                    true => &[&["handshake_degraded"]],
                    false => &[&["handshake_degraded"], &[]],
                };
                for view in VIEWS {
                    jury.hear(&name, &scene, view, right);
                }
            }
        }
    }
    jury.dismiss();
}

/// A client that was quicker by the other IP version resets the SYN-ACK, now and always (RFC 8305
/// §5).
#[test]
fn clients_of_which_a_quarter_always_resets_are_reported_once_and_not_for_ever() {
    let mut jury = Jury::default();
    for family in families() {
        for percent in [25, 30] {
            let mut scene = Scene::new(37, family, 1200);
            let server = scene.server;
            scene.clients_of(0.0, 1200.0, 10.0, server, |_, client| {
                (client % 100 < percent).then_some(Fate::Resets)
            });
            let name = format!("{percent} % always reset");
            let right: &[&[&str]] = &[&["handshake_degraded"], &[]];
            let replay = jury.hear(&name, &scene, View::Both, right);
            let open = replay.incidents.iter().filter(|incident| incident.ended_s.is_none());
            assert_eq!(open.count(), 0, "{name}: {:#?}", replay.incidents);
        }
    }
    jury.dismiss();
}

/// A flash crowd of clients with long round-trip times, all of which complete their handshakes.
#[test]
fn a_flash_crowd_from_far_away() {
    let mut jury = Jury::default();
    for family in families() {
        let mut scene = Scene::new(35, family, 80);
        scene.clients(0.0, 80.0, 20.0);
        for n in 0..4000_u64 {
            let (ip, look, _) = scene.client(10_000 + n);
            let (server, at) = (scene.server, BEGIN + 50 * SECOND + n * 2 * MS);
            let client = std::net::SocketAddr::new(ip, scene.ephemeral());
            let (rtt, fate) = ((250 + n % 50) * MS, Fate::Completes);
            scene.connect(&Attempt { at, client, server, look, rtt, fate });
        }
        jury.verdict("a flash crowd from far away", &scene, &["flash_crowd"]);
    }
    jury.dismiss();
}
