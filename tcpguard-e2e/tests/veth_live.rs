//! A veth whose other end takes nothing that is sent back from XDP, as in most containers: the guard
//! notices before the first cookie is sent, and its clients get in. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard::config::XdpMode;
use tcpguard_e2e::armed::Armed;
use tcpguard_e2e::clients::{Attempts, Load, PATIENCE};
use tcpguard_e2e::flood::{Flood, Shape};
use tcpguard_e2e::guard::{Guard, Mode, cli};
use tcpguard_e2e::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_e2e::likeness::Likeness;
use tcpguard_e2e::server::{Behaviour, Server};
use tcpguard_e2e::status::Status;

const SECOND: Duration = Duration::from_secs(1);
const CLIENTS: u32 = 50;
const NO_PROGRAM: &str = "its other end has no native XDP program";

/// A flood that looks like clients, while clients come on schedule; the last status of it.
fn flooded(lab: &Lab, guard: &Guard<'_>) -> (Status, Attempts) {
    let family = Family::V4;
    let likeness = Likeness::capture(lab, family).unwrap();
    let load = Load::start(&lab.client, family.service(), CLIENTS).unwrap();
    sleep(3 * SECOND);
    let flood =
        Flood { shape: Shape::Copy(likeness), ..Flood::random(family.service(), 8 * SECOND) };
    flood.start(lab).unwrap().wait().unwrap();
    let status = guard.status().unwrap();
    let attempts = load.finish().unwrap();
    println!("  {}", attempts.summary());
    (status, attempts)
}

#[test]
fn a_veth_that_takes_nothing_back_gets_no_cookies_and_its_clients_get_in() {
    for gro in ["off", "on"] {
        let lab = Lab::new(LabOptions::default()).unwrap().lose_answers(gro).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
        let (status, attempts) = flooded(&lab, &guard);
        assert_eq!(status.listener_total(PORT, "cookies_sent"), 0, "GRO {gro}");
        assert_ne!(status.step("cookies"), Some("taken"));
        let document = status.document().to_string();
        assert!(document.contains(NO_PROGRAM), "GRO {gro}: {document}");
        assert!(attempts.share_within(PATIENCE) >= 0.99, "{}", attempts.summary());
        let doctor = cli(&lab.edge, &["doctor", INTERFACE]).unwrap();
        let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(doctor.contains("other_end") && doctor.contains("generic"), "{doctor}");
    }
}

/// The naive variant: cookies in spite of it. No client gets an answer, even without a flood.
#[test]
fn cookies_sent_all_the_same_through_such_a_veth_lock_everybody_out() {
    let lab = Lab::new(LabOptions::default()).unwrap().lose_answers("off").unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let armed = Armed::attach(&lab, XdpMode::Native).unwrap();
    let service = Family::V4.service();
    let connected = |lasts: u32| {
        let load = Load::start(&lab.client, service, CLIENTS).unwrap();
        sleep(lasts * SECOND);
        load.finish().unwrap().share_within(SECOND)
    };
    assert!(connected(2) >= 0.99, "how the service answers is learned");
    armed.arm().unwrap();
    let share = connected(2);
    let sent = armed.counters().cookies_sent;
    println!("  {sent} cookies sent; {:.1} % of clients connect", 100.0 * share);
    assert!(sent >= 100 && share == 0.0, "{sent} {share}");
}

#[test]
fn in_generic_mode_such_a_veth_gets_cookies() {
    let lab = Lab::new(LabOptions::default()).unwrap().lose_answers("off").unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let guard =
        Guard::start_with(&lab.edge, Mode::Enforce, "", &["--xdp-mode", "generic"]).unwrap();
    let (status, attempts) = flooded(&lab, &guard);
    assert!(status.listener_total(PORT, "cookies_redeemed") > 100, "{}", guard.log());
    assert!(attempts.share_within(SECOND) >= 0.98, "{}", attempts.summary());
}
