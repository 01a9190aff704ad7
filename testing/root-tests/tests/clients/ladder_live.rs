//! The mitigation ladder, live: floods that no rule can distinguish from clients, answered with cookies by a real
//! agent over a real kernel. Needs root and `TCPGUARD_BIN`.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use tcpguard_goals::size;
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::alerts::Alert;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, after, boot_ns};
use tcpguard_kit::measure::lower_bound;
use tcpguard_kit::net::delay::Delay;
use tcpguard_kit::net::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::packet::{Segment, flags};
use tcpguard_kit::net::raw::PacketSocket;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Attempts, Load};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second of the real clients.
const CLIENT_RATE: u32 = 100;
/// New connections per second of a proxy, all from one address.
const PROXY_RATE: u32 = 600;

fn lab() -> Lab {
    Lab::new(LabOptions { syncookies: 1, ..LabOptions::default() }).unwrap()
}

/// A flood of copies of SYNs of the lab's own client, with the TTLs of many distances.
fn mimicking(lab: &Lab, family: Family, duration: Duration) -> Flood {
    let likeness = Likeness::capture(lab, family).unwrap();
    Flood { shape: Shape::Copy(likeness), ..Flood::random(family.service(), duration) }
}

/// Waits until cookies answer; the status then.
fn armed(agent: &Agent<'_>) -> Status {
    agent
        .wait_until("cookies", TIMEOUT, |status| status.mitigation("cookies") == Some("active"))
        .unwrap()
}

/// The short form asks it of IPv4 alone: cookies of both families are tried by a hundred thousand handshakes.
#[test]
fn a_mimicking_flood_gets_cookies_and_clients_connect() {
    for family in size(&Family::BOTH[..1], &Family::BOTH).iter().copied() {
        let lab = lab();
        let flood = mimicking(&lab, family, 8 * SECOND);
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let load = Load::start(&lab.client, family.service(), CLIENT_RATE).unwrap();
        sleep(2 * SECOND);
        let flood = flood.start(&lab).unwrap();
        let begun = flood.started();
        armed(&agent);
        let since = boot_ns();
        println!(
            "{family:?}: armed after {:.2?}",
            tcpguard_kit::measure::clock::between(begun, since)
        );
        let flood = flood.wait().unwrap();
        let status = agent.status().unwrap();
        let attempts = load.finish().unwrap();

        let alerts = agent.alerts().unwrap();
        // A hint of other hosts may have started cookies before the flood.
        let started = |alert: &Alert| {
            alert.event == "mitigation_started"
                && alert.mitigation.as_deref() == Some("cookies")
                && alert.at >= begun
        };
        assert!(alerts.iter().any(started), "the start of cookies is reported: {alerts:#?}");

        let incidents = status.incidents();
        assert_eq!(incidents.len(), 1, "{incidents:#?}");
        assert_eq!(incidents[0].class(), "random_spoofed");
        assert_eq!(status.state(), "attack_mitigated");
        assert_eq!(status.rules().len(), 0, "{:#?}", status.rules());
        let sent = status.listener_total(PORT, "cookies_sent");
        let redeemed = status.listener_total(PORT, "cookies_redeemed");
        println!("  {} SYNs, {sent} cookies sent, {redeemed} came back", flood.sent);
        assert!(sent * 2 > flood.sent, "{sent} of {}", flood.sent);
        let lost = lab.lost().unwrap() as f64 / flood.sent as f64;
        served_but_for(lost, &attempts.begun(after(since, SECOND), flood.ended));
        assert!(redeemed >= 300, "{redeemed}");
    }
}

/// Of a thousand clients at most one is not answered within a second. Hundreds of attempts cannot
/// prove that, but they can refute it: the benchmark of the ladder makes ten thousand. The wire lost the share
/// `lost` of all frames before XDP. No server can serve those, and a handshake with its request takes three.
fn served_but_for(lost: f64, attempts: &Attempts) {
    println!("  {}; the wire lost {:.2} %", attempts.summary(), 100.0 * lost);
    let missed = attempts.0.len() - attempts.within(SECOND);
    let proven = lower_bound(missed, attempts.0.len());
    assert!(proven <= 0.001 + 3.0 * lost, "{}", attempts.summary());
}

/// A proxy, a CDN or the NAT of a carrier. A limit that counts its connections by their source takes it for the attacker.
#[test]
fn a_proxys_clients_connect_in_a_flood_that_mimics_them() {
    let (control, lab) = (Control::start().unwrap(), lab());
    // No more than the machine carries beside the proxy.
    let flood = Flood { rate: 10_000, ..mimicking(&lab, Family::V4, 10 * SECOND) };
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let proxy = Load::start(&lab.client, Family::V4.service(), PROXY_RATE).unwrap();
    sleep(3 * SECOND);
    let flood = flood.start(&lab).unwrap();
    armed(&agent);
    let since = after(boot_ns(), SECOND);
    let flood = flood.wait().unwrap();
    let status = agent.status().unwrap();
    let attempts = proxy.finish().unwrap().begun(since, flood.ended);
    println!("  {}", attempts.summary());
    assert!(attempts.0.len() > 2_000, "{}", attempts.summary());
    control.assert_served(&attempts);
    let sent = status.listener_total(PORT, "cookies_sent");
    assert!(sent * 2 > flood.sent, "the flood went elsewhere: {sent} cookies for {}", flood.sent);
}

/// On a long path a proxy alone has more half-open handshakes than a small queue holds, and the kernel answers with
/// cookies. The same host without an agent is the measure.
#[test]
fn a_far_proxy_that_overflows_the_queue_without_an_attack_connects_as_without_an_agent() {
    const BACKLOG: i32 = 48;
    let [without, with]: [f64; 2] = side_by_side(2, [false, true], |has_agent| {
        let options = LabOptions { client_delay: Some(Delay::FAR), ..LabOptions::default() };
        let lab = Lab::new(options).unwrap();
        let _server = Server::with_backlog(&lab.edge, PORT, Behaviour::Answer, BACKLOG).unwrap();
        let agent = has_agent.then(|| Agent::start(&lab.edge, Mode::Enforce).unwrap());
        let proxy = Load::start(&lab.client, Family::V4.service(), 400).unwrap();
        sleep(8 * SECOND);
        if let Some(agent) = agent {
            assert_eq!(agent.status().unwrap().total("drop_total"), 0);
        }
        let attempts = proxy.finish().unwrap();
        println!("  agent {has_agent}: {}", attempts.summary());
        attempts.share_within(SECOND)
    })
    .try_into()
    .expect("two hosts");
    assert!(with + 0.02 >= without, "{with} within 1 s, without an agent {without}");
}

#[test]
fn an_operator_takes_cookies_forbids_them_and_leaves_them_to_the_agent() {
    let (control, lab) = (Control::start().unwrap(), lab());
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let refused = cli(&lab.edge, &["mitigation", ":443", "cookies", "on", "--for", "1m"]).unwrap();
    let text = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(text.contains("no SYN-ACK of it was seen yet"), "{text}");

    let load = Load::start(&lab.client, Family::V4.service(), CLIENT_RATE).unwrap();
    sleep(SECOND);
    let mitigation = |order: &str| {
        let output =
            cli(&lab.edge, &["mitigation", ":443", "cookies", order, "--for", "1m"]).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = mitigation("on");
    assert!(text.contains("SYN cookies active since"), "{text}");
    let since = boot_ns();
    sleep(2 * SECOND);
    let until = boot_ns();
    let sent = agent.status().unwrap().listener_total(PORT, "cookies_sent");
    assert!(sent >= 150, "{sent}");
    let text = mitigation("off");
    assert!(text.contains("SYN cookies forbidden"), "{text}");
    // Time for packets on their way.
    sleep(SECOND / 2);
    let before = agent.status().unwrap().listener_total(PORT, "cookies_sent");
    sleep(SECOND);
    let status = agent.status().unwrap();
    assert_eq!(status.listener_total(PORT, "cookies_sent"), before);
    assert_eq!(status.listener_total(PORT, "cookies_redeemed"), before, "every client came back");
    mitigation("auto");
    let attempts = load.finish().unwrap();
    control.assert_served(&attempts.begun(since, until));
}

/// Sends SYNs that a rule drops: `count` of them, from sources that the rule matches.
fn send_blocked(lab: &Lab, count: u8) {
    let send = || {
        let socket = PacketSocket::open(INTERFACE)?;
        for number in 0..count {
            let from = SocketAddr::new(Ipv4Addr::new(203, 0, 113, number).into(), 4000);
            let mut syn = Segment::new(from, Family::V4.service(), flags::SYN);
            (syn.src_mac, syn.dst_mac) = (ATTACKER_MAC, EDGE_MAC);
            socket.send(&syn.to_frame())?;
        }
        Ok(())
    };
    lab.attacker.run(send).unwrap();
}

#[test]
fn without_an_agent_rules_go_on_for_thirty_seconds_and_drop_nothing_from_then_on() {
    const SYNS: u8 = 100;
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    assert!(cli(&lab.edge, &["block", "203.0.113.0/24", "--for", "10m"]).unwrap().status.success());
    sleep(SECOND);
    agent.kill().unwrap();
    for seconds in [7, 20] {
        sleep(seconds * SECOND);
        send_blocked(&lab, SYNS);
    }
    // 31 s after the last poll.
    sleep(4 * SECOND);
    send_blocked(&lab, SYNS);
    agent.start_again(Mode::Enforce).unwrap();
    let status = agent.status().unwrap();
    let of = |reason: &str| status.reason(reason);
    assert_eq!((of("drop_source"), of("agent_gone")), (2 * u64::from(SYNS), u64::from(SYNS)));
}

#[test]
fn without_an_agent_cookies_end_after_six_seconds_and_the_kernel_replies_again() {
    let (control, lab) = (Control::start().unwrap(), lab());
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), CLIENT_RATE).unwrap();
    sleep(SECOND);
    cli(&lab.edge, &["mitigation", ":443", "cookies", "on", "--for", "10m"]).unwrap();
    sleep(SECOND);
    control.assert_served(&load.finish().unwrap());
    // Time for packets on their way.
    sleep(SECOND);
    let before = agent.status().unwrap();
    agent.kill().unwrap();
    sleep(7 * SECOND);

    let load = Load::start(&lab.client, Family::V4.service(), CLIENT_RATE).unwrap();
    sleep(2 * SECOND);
    let attempts = load.finish().unwrap();
    control.assert_served(&attempts);
    agent.start_again(Mode::Observe).unwrap();
    let status = agent.status().unwrap();
    let grown =
        |counter: &str| status.listener_total(PORT, counter) - before.listener_total(PORT, counter);
    assert_eq!(grown("cookies_sent"), 0);
    assert!(grown("syn_ack") >= attempts.0.len() as u64 * 9 / 10, "{}", grown("syn_ack"));
}

#[test]
fn an_agent_that_is_killed_in_the_flood_and_its_successor_leave_no_gap() {
    let (control, lab) = (Control::start().unwrap(), lab());
    let flood = mimicking(&lab, Family::V4, 60 * SECOND);
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), CLIENT_RATE).unwrap();
    sleep(2 * SECOND);
    let flood = Flood { rate: 20_000, ..flood }.start(&lab).unwrap();
    armed(&agent);
    let since = boot_ns();
    sleep(SECOND);
    agent.kill().unwrap();
    sleep(SECOND);
    agent.start_again(Mode::Enforce).unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status.mitigation("cookies"), Some("active"), "from the first moment on");
    let before = status.listener_total(PORT, "cookies_sent");
    sleep(5 * SECOND);
    let flood = flood.stop().unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status.mitigation("cookies"), Some("active"));
    assert!(status.listener_total(PORT, "cookies_sent") > before + 20_000);
    assert_eq!(status.incidents().len(), 1, "found again");
    control.assert_served(&load.finish().unwrap().begun(after(since, SECOND), flood.ended));
}
