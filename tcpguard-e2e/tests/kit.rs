//! What the live tests take for granted about the lab they run in. Needs root.

use std::thread::{self, sleep};
use std::time::Duration;

use tcpguard_e2e::clients::{Attempts, Load};
use tcpguard_e2e::clock::{between, boot_ns};
use tcpguard_e2e::delay::Delay;
use tcpguard_e2e::flood::{Flood, Pulses, Shape, Sources};
use tcpguard_e2e::foreign::{ForeignXdp, Verdict};
use tcpguard_e2e::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_e2e::raw_client::RawClient;
use tcpguard_e2e::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

/// Clients for `time`, after which those still trying are waited for.
fn clients(lab: &Lab, family: Family, time: Duration) -> Attempts {
    let load = Load::start(&lab.client, family.service(), 50).unwrap();
    sleep(time);
    load.finish().unwrap()
}

#[test]
fn a_flood_keeps_its_rate_and_every_packet_arrives() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    for family in Family::BOTH {
        // Whatever else the machine does may slow one flood down, but no flood may lose packets.
        let rates = [(); 3].map(|()| {
            let before = lab.edge.interface_counter(INTERFACE, "rx_packets").unwrap();
            let flood = Flood::random(family.service(), SECOND).start(&lab).unwrap();
            let report = flood.wait().unwrap();
            let arrived = lab.edge.interface_counter(INTERFACE, "rx_packets").unwrap() - before;
            assert_eq!(report.sent, 100_000, "{family:?}");
            assert_eq!(
                arrived, report.sent,
                "{family:?}: nothing else is on the wire"
            );
            report.rate()
        });
        assert_eq!(lab.lost().unwrap(), 0, "{family:?}");
        let kept = rates
            .iter()
            .any(|rate| (98_000.0..=102_000.0).contains(rate));
        assert!(kept, "{family:?}: {rates:?} SYN/s");
    }
}

#[test]
fn a_pulsed_flood_pauses() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let pulses = Pulses {
        on: SECOND / 2,
        off: SECOND / 2,
    };
    let flood = Flood {
        pulses: Some(pulses),
        rate: 10_000,
        ..Flood::random(Family::V4.service(), 2 * SECOND)
    };
    let flood = flood.start(&lab).unwrap();
    sleep(Duration::from_millis(600));
    let paused = flood.sent();
    sleep(Duration::from_millis(300));
    assert_eq!((paused, flood.sent()), (5_000, 5_000));
    assert_eq!(flood.wait().unwrap().sent, 10_000);
}

#[test]
fn a_stopped_flood_sends_no_more() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let flood = Flood::random(Family::V4.service(), 60 * SECOND)
        .start(&lab)
        .unwrap();
    let report = flood.stop().unwrap();
    assert!(between(report.started, boot_ns()) < SECOND);
}

#[test]
fn clients_are_served_by_both_families() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    for family in Family::BOTH {
        let attempts = clients(&lab, family, SECOND);
        assert!(attempts.0.len() >= 45, "{family:?}: {}", attempts.summary());
        assert_eq!(
            attempts.share_within(SECOND / 10),
            1.0,
            "{family:?}: {}",
            attempts.summary()
        );
    }
    assert!(server.served() >= 90);
}

#[test]
fn a_slow_link_delays_clients_and_not_the_attacker() {
    let options = LabOptions {
        client_delay: Some(Delay::FAR),
        ..LabOptions::default()
    };
    let lab = Lab::new(options).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    for family in Family::BOTH {
        let attempts = clients(&lab, family, 2 * SECOND);
        assert_eq!(
            attempts.share_within(SECOND),
            1.0,
            "{family:?}: {}",
            attempts.summary()
        );
        // The SYN and the request are held back: 160 to 240 ms.
        let (fastest, slowest) = (
            attempts.quantile(0.0).unwrap(),
            attempts.quantile(1.0).unwrap(),
        );
        assert!(
            fastest >= Duration::from_millis(160),
            "{family:?}: {fastest:?}"
        );
        assert!(
            slowest <= Duration::from_millis(300),
            "{family:?}: {slowest:?}"
        );
    }
    let report = Flood::random(Family::V4.service(), SECOND)
        .start(&lab)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!((report.sent, lab.lost().unwrap()), (100_000, 0));
}

#[test]
fn kernel_cookies_let_clients_in_through_a_flood() {
    for family in Family::BOTH {
        let lab = Lab::new(LabOptions::default()).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let flood = Flood::random(family.service(), 30 * SECOND)
            .start(&lab)
            .unwrap();
        sleep(SECOND / 2);
        let attempts = clients(&lab, family, 3 * SECOND);
        flood.stop().unwrap();
        assert!(
            attempts.share_within(SECOND) >= 0.99,
            "{family:?}: {}",
            attempts.summary()
        );
    }
}

#[test]
fn a_hand_made_client_connects_with_a_floods_signature() {
    let options = LabOptions {
        client_delay: Some(Delay::FAR),
        ..LabOptions::default()
    };
    for options in [LabOptions::default(), options] {
        let lab = Lab::new(options).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        for family in Family::BOTH {
            let client = RawClient {
                family,
                port: 40_000,
            };
            let connected = client.connect(&lab, &client.bare_syn()).unwrap();
            let connected = connected.expect("the service answers a SYN without options");
            assert_eq!(connected.syns, 1, "{family:?}: {connected:?}");
        }
    }
}

#[test]
fn a_hand_made_client_repeats_its_syn_as_a_kernel_does() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let client = RawClient {
        family: Family::V4,
        port: 40_000,
    };
    let closed = ForeignXdp::attach(&lab.edge, INTERFACE, Verdict::Drop).unwrap();
    let connected = thread::scope(|scope| {
        let connected = scope.spawn(|| client.connect(&lab, &client.bare_syn()).unwrap());
        sleep(SECOND / 2);
        drop(closed);
        connected.join().unwrap()
    });
    let connected = connected.expect("its second SYN finds the door open");
    assert_eq!(connected.syns, 2, "{connected:?}");
    assert!(
        (SECOND..2 * SECOND).contains(&connected.took),
        "{connected:?}"
    );
}

#[test]
fn one_source_is_one_source() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let flood = Flood {
        sources: Sources::One([198, 51, 100, 7].into()),
        shape: Shape::Linux,
        rate: 1_000,
        ..Flood::random(Family::V4.service(), SECOND)
    };
    assert_eq!(flood.start(&lab).unwrap().wait().unwrap().sent, 1_000);
}

#[test]
fn the_receive_thread_accounts_for_every_packet() {
    let lab = Lab::new(LabOptions {
        measured: true,
        ..LabOptions::default()
    })
    .unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let receiver = lab.receiver.as_ref().unwrap();
    let before = receiver.read(&lab.edge).unwrap();
    let report = Flood::random(Family::V4.service(), 2 * SECOND)
        .start(&lab)
        .unwrap()
        .wait()
        .unwrap();
    let cost = receiver.read(&lab.edge).unwrap().since(&before);
    assert_eq!(cost.packets + lab.lost().unwrap(), report.sent);
    // The kernel's own answer, cookies included, takes 1 to 10 µs on machines of this decade.
    let ns = cost.ns_per_packet();
    assert!((300.0..=30_000.0).contains(&ns), "{ns} ns per packet");
}

#[test]
fn a_foreign_program_takes_an_interface_until_it_is_dropped() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let links = || lab.edge.exec("ip link show dev eth0").unwrap();
    let foreign = ForeignXdp::attach(&lab.edge, INTERFACE, Verdict::Pass).unwrap();
    assert!(links().contains("xdp"));
    assert!(
        ForeignXdp::attach(&lab.edge, INTERFACE, Verdict::Pass).is_err(),
        "it is taken"
    );
    drop(foreign);
    assert!(!links().contains("xdp"));
}
