//! A server behind a load balancer with direct return: SYNs come by the balancer, and the host replies past it.
//! Cookies go where the host's own replies go. Needs root and `TCPGUARD_BIN`.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, after, boot_ns};
use tcpguard_kit::net::lab::{
    ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab, LabOptions, PORT, in_words,
};
use tcpguard_kit::traffic::clients::{Home, Load, Visitors};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second of the real clients.
const CLIENTS: u32 = 50;
/// SYNs of the flood per second.
const FLOOD: u32 = 2_000;

/// Makes the attacker's box the balancer of the clients' packets as well. It takes no packet that comes from the
/// service.
fn balance(lab: &Lab) {
    let (balancer, edge) = (in_words(ATTACKER_MAC), in_words(EDGE_MAC));
    lab.client
        .ip(&[
            "route del 10.77.0.0/24",
            &format!("route add 10.77.0.254 dev {INTERFACE}"),
            &format!("neighbour add 10.77.0.254 lladdr {balancer} dev {INTERFACE}"),
            "route add 10.77.0.0/24 via 10.77.0.254",
        ])
        .unwrap();
    for (key, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.eth0.rp_filter", "0"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.eth0.send_redirects", "0"),
    ] {
        lab.attacker.sysctl(key, value).unwrap();
    }
    lab.attacker
        .ip(&[
            &format!("address add 10.77.0.254/32 dev {INTERFACE}"),
            &format!("route add 10.77.0.1 dev {INTERFACE}"),
            &format!("neighbour add 10.77.0.1 lladdr {edge} dev {INTERFACE}"),
            "rule add pref 1 from 10.77.0.1 blackhole",
        ])
        .unwrap();
}

#[test]
fn cookies_go_past_the_balancer_as_the_hosts_own_replies_do() {
    let (control, family) = (Control::start().unwrap(), Family::V4);
    let lab = Lab::new(LabOptions::default()).unwrap();
    balance(&lab);
    let likeness = Likeness::capture(&lab, family).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    // A neighbour, and addresses behind a gateway.
    let homes = [Home::One, Home::NewClients];
    let visitors = homes.map(|home| Visitors { rate: CLIENTS, home, patience: 10 * SECOND });
    let loads = visitors.map(|these| Load::of(&lab.client, family.service(), these).unwrap());
    sleep(3 * SECOND);
    let shape = Shape::Copy(likeness);
    let flood = Flood { rate: FLOOD, shape, ..Flood::random(family.service(), 60 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    let armed = |status: &Status| status.mitigation("cookies") == Some("active");
    agent.wait_until("cookies", TIMEOUT, armed).unwrap();
    let (since, before) = (boot_ns(), flood.sent());
    sleep(8 * SECOND);
    let status = agent.status().unwrap();
    let flood = flood.stop().unwrap();
    let attempts = loads.map(|load| load.finish().unwrap());
    assert!(armed(&status), "cookies stay: {:#?}", status.incidents());
    let sent = status.listener_total(PORT, "cookies_sent");
    assert!(sent * 2 >= flood.sent - before, "{sent} of {}", flood.sent - before);
    for attempts in attempts {
        control.assert_served(&attempts.begun(after(since, SECOND), flood.ended));
    }
}

/// The host has two addresses, and SYN-ACKs from the first get lost on the way. Health checks use the second.
#[test]
fn an_address_whose_cookies_get_lost_has_none_and_the_others_keep_theirs() {
    const LOST: &str = "add table ip lost; add chain ip lost in { type filter hook prerouting priority -300; }; \
         add rule ip lost in ip saddr 10.77.0.1 tcp flags & (syn | ack) == syn | ack drop\n";
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions { syncookies: 1, ..LabOptions::default() }).unwrap();
    lab.edge.ip(&[&format!("address add 10.77.0.9/24 dev {INTERFACE}")]).unwrap();
    let services = [Family::V4.service(), SocketAddr::from(([10, 77, 0, 9], PORT))];
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let loads = |rates: [u32; 2]| {
        [0, 1].map(|which| {
            let visitors = Visitors { rate: rates[which], home: Home::One, patience: 5 * SECOND };
            Load::of(&lab.client, services[which], visitors).unwrap()
        })
    };
    // Both validate the client, and show how the listener replies.
    let before = loads([10, 10]);
    let known = |status: &Status| status.listener_total(PORT, "established") >= 40;
    agent.wait_until("clients", TIMEOUT, known).unwrap();
    for load in before {
        load.finish().unwrap();
    }
    lab.client.write("/run/lost.nft", LOST).unwrap();
    lab.client.exec("nft -f /run/lost.nft").unwrap();
    cli(&lab.edge, &["mitigation", ":443", "cookies", "on", "--for", "10m"]).unwrap();
    let [lost, checks] = loads([5, 5]);
    let withheld = |status: &Status| {
        let listeners = status.document()["listeners"].as_array().cloned().unwrap_or_default();
        let mitigations =
            listeners.iter().filter_map(|one| one["mitigations"].as_array()).flatten();
        let refused = mitigations.filter(|one| one["state"] == "refused");
        refused.map(|one| one["address"].clone()).collect::<Vec<_>>()
    };
    let is_withheld = |status: &Status| withheld(status) == ["10.77.0.1"];
    let status = agent.wait_until("withheld from the address", TIMEOUT, is_withheld).unwrap();
    assert_eq!(status.mitigation("cookies"), Some("active"), "{}", agent.log());
    lab.client.exec("nft delete table ip lost").unwrap();
    let since = boot_ns();
    let status = agent.status().unwrap();
    let cookies = |status: &Status| status.listener_total(PORT, "cookies_sent");
    let enough = cookies(&status) + 20;
    let more = |status: &Status| cookies(status) >= enough;
    let status = agent.wait_until("cookies of the other address", TIMEOUT, more).unwrap();
    assert!(is_withheld(&status), "{:#?}", withheld(&status));
    let ended = boot_ns();
    let _ = lost.finish().unwrap();
    let checks = checks.finish().unwrap().begun(since, ended);
    control.assert_served(&checks);
    let (sent, asked) = (cookies(&status) + 20 - enough, checks.0.len() as u64);
    assert!(sent <= asked + 5, "{sent} for {asked}: those of the other address alone");
    assert_eq!(status.alerts("mitigation_withdrawn"), 1, "{}", agent.log());
}
