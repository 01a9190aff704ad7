//! Cookies that lead to no completed handshake on the host, because a firewall drops the ACK of a connection
//! if it has not seen its SYN. The agent withdraws the mitigation at once and does not try it again. And cookies
//! that stay, because clients merely pause, or an attacker returns those of another family in broken segments. Needs
//! root, `TCPGUARD_BIN`, and for the XDP program's own cookies Linux 6.9.

use std::thread::sleep;
use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, between};
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::lab_filter::only_connections;
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, MAX_DURATION, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::raw_client::RawClient;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// SYNs of the flood per second.
const FLOOD: u32 = 2_000;
/// Time for which the stack's service is observed after the withdrawal.
const AFTERWARDS: Duration = Duration::from_secs(4);

/// Reason that the agent gives where it does not try cookies again after a while.
const FOR_GOOD: &str = "No retry. See: tcpguard doctor";

/// One half of the connections is of a validated client, the other of new clients in many networks. The time until the
/// withdrawal is judged in the engine's scenarios, which no other test delays.
fn cookies_are_withdrawn(backend: &str, clients: u32) {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions { syncookies: 1, ..LabOptions::default() }).unwrap();
    let service = Family::V4.service();
    let likeness = Likeness::capture(&lab, Family::V4).unwrap();
    let flood =
        Flood { shape: Shape::Copy(likeness), rate: FLOOD, ..Flood::random(service, MAX_DURATION) };
    // The firewall knows no connection that the kernel answers with a cookie of its own, so the queue is to
    // take the whole flood.
    for limit in ["net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"] {
        lab.edge.sysctl(limit, "65535").unwrap();
    }
    let _server = Server::with_backlog(&lab.edge, PORT, Behaviour::Answer, 65_535).unwrap();
    only_connections(&lab.edge, INTERFACE).unwrap();
    let config = format!("[cookies]\nbackend = \"{backend}\"\n");
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, &config, &[]).unwrap();
    let loads = [(Home::One, clients / 2), (Home::Anywhere(1), clients.div_ceil(2))];
    let loads = loads.map(|(home, rate)| {
        let visitors = Visitors { rate, home, patience: PATIENCE };
        Load::of(&lab.client, service, visitors).unwrap()
    });
    sleep(2 * SECOND);
    let flood = flood.start(&lab).unwrap();
    let refused = |status: &Status| status.mitigation("cookies") == Some("refused");
    let status = agent.wait_until("cookies are withdrawn", TIMEOUT, refused).unwrap();
    let why = status.mitigation_reason("cookies").cloned().unwrap_or_default();
    sleep(AFTERWARDS);
    let flood = flood.stop().unwrap();
    let status = agent.status().unwrap();
    let attempts = loads.map(|load| load.finish().unwrap());

    assert_eq!((&why["kind"], &why["harm"]["kind"]), (&"harmful".into(), &"unfinished".into()));
    let alerts = agent.alerts().unwrap();
    let at = |event: &str| {
        let found = alerts.iter().filter(|alert| alert.event == event).map(|alert| alert.at);
        let [at] = found.collect::<Vec<_>>()[..] else { panic!("not one {event}: {alerts:?}") };
        at
    };
    let (taken, withdrawn) = (at("mitigation_started"), at("mitigation_withdrawn"));
    let begun = |when: &str, from: u64, to: u64| {
        let [known, new_clients] = attempts.each_ref().map(|all| all.begun(from, to));
        println!("  {when}, the validated client: {}", known.summary());
        println!("  {when}, new clients: {}", new_clients.summary());
        [known, new_clients]
    };
    println!(
        "{backend}, {clients} clients a second: withdrawn after {:.2?}; {} cookies sent, {} good",
        between(taken, withdrawn),
        status.listener_total(PORT, "cookies_sent"),
        status.listener_total(PORT, "cookies_redeemed"),
    );
    begun("before cookies", flood.started, taken);
    begun("while they were sent", taken, withdrawn);
    let after = begun("after", withdrawn, flood.ended);
    assert!(refused(&status), "still: {:?}", status.mitigation("cookies"));
    if clients >= 20 {
        // Where all came from one network, they could be an attacker's, and cookies would be tried again.
        assert!(agent.log().contains(FOR_GOOD), "{}", agent.log());
    }
    // The stack serves them.
    control.assert_served(&Attempts(after.map(|some| some.0).concat()));
}

#[test]
fn own_cookies_are_withdrawn_where_the_host_completes_none_of_their_handshakes() {
    cookies_are_withdrawn("own", 40);
}

#[test]
fn cookies_of_the_kernels_making_are_withdrawn_where_the_host_completes_none_of_their_handshakes() {
    cookies_are_withdrawn("kernel_helper", 40);
}

#[test]
fn a_trickle_of_clients_is_enough_to_have_cookies_withdrawn() {
    cookies_are_withdrawn("own", 3);
}

/// An agent with cookies that an operator has ordered, at a service that both families use.
fn with_cookies(lab: &Lab) -> Agent<'_> {
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    // How the listener answers is learned from its answers.
    for family in Family::BOTH {
        assert!(!clients(lab, family, Home::One, 5, SECOND).0.is_empty());
    }
    cli(&lab.edge, &["mitigation", ":443", "cookies", "on", "--for", "10m"]).unwrap();
    let answers = |status: &Status| status.mitigation("cookies") == Some("active");
    agent.wait_until("cookies answer", TIMEOUT, answers).unwrap();
    agent
}

/// The attempts of clients that come for so long, `rate` a second.
fn clients(lab: &Lab, family: Family, home: Home, rate: u32, lasts: Duration) -> Attempts {
    let visitors = Visitors { rate, home, patience: PATIENCE };
    let load = Load::of(&lab.client, family.service(), visitors).unwrap();
    sleep(lasts);
    load.finish().unwrap()
}

/// The families from which cookies are withheld, as status has them.
fn withheld(status: &Status) -> Vec<String> {
    let listeners = status.document()["listeners"].as_array().cloned().unwrap_or_default();
    let of = |listener: &serde_json::Value| {
        listener["mitigations"].as_array().cloned().unwrap_or_default()
    };
    let families = listeners.iter().flat_map(of).filter_map(|mitigation| {
        let refused = mitigation["mitigation"] == "cookies" && mitigation["state"] == "refused";
        refused.then(|| mitigation["family"].as_str().unwrap_or("both").to_owned())
    });
    families.collect()
}

/// The third time, all handshakes are of one address, which an attacker has.
#[test]
fn cookies_stay_when_clients_pause() {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions { syncookies: 1, ..LabOptions::default() }).unwrap();
    let _server = Server::with_backlog(&lab.edge, PORT, Behaviour::Answer, 128).unwrap();
    let agent = with_cookies(&lab);
    let mut all = Vec::new();
    for (home, rate) in [(Home::Anywhere(1), 20), (Home::Anywhere(2), 20), (Home::One, 10)] {
        all.extend(clients(&lab, Family::V4, home, rate, 3 * SECOND).0);
        sleep(5 * SECOND);
    }
    let status = agent.status().unwrap();
    assert_eq!(status.alerts("mitigation_withdrawn"), 0, "{}", agent.log());
    assert_eq!(status.mitigation("cookies"), Some("active"));
    let returned = status.listener_total(PORT, "cookies_redeemed");
    // One SYN a second goes to the stack, to renew the way back.
    assert!(returned * 10 >= all.len() as u64 * 9, "{returned} of {}", all.len());
    control.assert_served(&Attempts(all));
}

/// An attacker returns cookies over IPv6 in segments with a wrong checksum, while IPv4 clients connect. Where IPv6
/// clients have connected with cookies before, that is no evidence.
fn broken_acks(ipv6_works: bool) {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions { syncookies: 1, ..LabOptions::default() }).unwrap();
    let _server = Server::with_backlog(&lab.edge, PORT, Behaviour::Answer, 128).unwrap();
    let agent = with_cookies(&lab);
    if ipv6_works {
        clients(&lab, Family::V6, Home::Anywhere(3), 20, 3 * SECOND);
        sleep(2 * SECOND);
    }
    let visitors = Visitors { rate: 10, home: Home::Anywhere(1), patience: PATIENCE };
    let load = Load::of(&lab.client, Family::V4.service(), visitors).unwrap();
    let answered = (20_000..20_050).filter(|&port| {
        sleep(SECOND / 8);
        RawClient { family: Family::V6, port }.acknowledge_wrongly(&lab).unwrap()
    });
    let answered = answered.count();
    let (status, attempts) = (agent.status().unwrap(), load.finish().unwrap());
    println!("{answered} cookies were returned with a wrong checksum");
    assert!(answered >= 8, "{answered}");
    assert_eq!(status.mitigation("cookies"), Some("active"), "{}", agent.log());
    let expected: &[&str] = if ipv6_works { &[] } else { &["ipv6"] };
    assert_eq!(withheld(&status), expected, "{}", agent.log());
    assert_eq!(status.alerts("mitigation_withdrawn"), expected.len(), "{}", agent.log());
    control.assert_served(&attempts);
}

#[test]
fn broken_acks_of_one_family_take_no_cookies_from_the_other() {
    broken_acks(false);
}

#[test]
fn broken_acks_are_no_evidence_where_clients_have_connected_with_cookies() {
    broken_acks(true);
}
