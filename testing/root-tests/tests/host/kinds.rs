//! A host under a flood, by interfaces of each kind that a kernel without modules makes: a bridge and a port of one, a
//! macvlan and the interface below it, VXLAN, a tap. Handshakes are counted, and the flood is found and dropped while
//! a client is served. All other tests use veth. Bonds, VLANs, VRFs, ipvlan and netkit are tried in guests of
//! `cargo xtask vm`, whose kernel has them. Team, geneve, gretap, MACsec, PPPoE and hardware are tried nowhere. Needs root
//! and `TCPGUARD_BIN`.

use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::TIMEOUT;
use tcpguard_kit::net::lab::{
    ATTACKER_MAC, CLIENT_MAC, EDGE_MAC, Family, Hosts, INTERFACE, Lab, PORT, in_words,
};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::Mac;
use tcpguard_kit::net::tap::Tap;
use tcpguard_kit::traffic::clients::{Load, PATIENCE};
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// SYNs of the flood per second.
const FLOOD: u32 = 3_000;
/// Longest duration of the flood, which ends [`MITIGATED`] after there is a rule against it.
const LASTS: Duration = Duration::from_secs(8);
/// Time from the flood's start within which there is a rule against it.
const FOUND: Duration = Duration::from_secs(5);
/// Time for which the effect of the rule is observed.
const MITIGATED: Duration = Duration::from_secs(2);
/// Connections of the client per second.
const CLIENT: u32 = 20;
/// At least this share of the client's connections is served within its patience.
const SERVED: f64 = 0.98;

/// Port of the service of a guest of the host.
const GUEST_PORT: u16 = 8443;
/// Name of a cable's end that is below an interface called [`INTERFACE`].
const UNDER: &str = "under0";
/// Ethernet addresses of the cables' ends below other interfaces: the edge's, the client's and the attacker's.
const UNDER_MACS: [Mac; 3] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2], [2, 0, 0, 0, 1, 3]];

/// Interfaces upon the cable of the edge. tcpguard is attached to that with the name [`INTERFACE`].
struct Made {
    /// The interface with the edge's addresses.
    addressed: &'static str,
    /// The forwarder between the cable and [`INTERFACE`], where the kernel is none.
    tap: Option<Tap>,
}

/// Makes the interfaces of a kind.
type Make = fn(&Hosts<'_>) -> Result<Made>;

/// The kernel forwards, and the edge has its addresses there.
fn at(addressed: &'static str) -> Result<Made> {
    Ok(Made { addressed, tap: None })
}

fn bridge_port(hosts: &Hosts<'_>) -> Result<Made> {
    bridge(hosts.edge, "br0", INTERFACE)?;
    at("br0")
}

fn bridge_itself(hosts: &Hosts<'_>) -> Result<Made> {
    put_below(hosts.edge, UNDER, EDGE_MAC)?;
    bridge(hosts.edge, INTERFACE, UNDER)?;
    at(INTERFACE)
}

fn below_macvlan(hosts: &Hosts<'_>) -> Result<Made> {
    put_below(hosts.edge, INTERFACE, UNDER_MACS[0])?;
    macvlan(hosts.edge, "macvlan0", INTERFACE)?;
    at("macvlan0")
}

fn macvlan_itself(hosts: &Hosts<'_>) -> Result<Made> {
    put_below(hosts.edge, UNDER, UNDER_MACS[0])?;
    macvlan(hosts.edge, INTERFACE, UNDER)?;
    at(INTERFACE)
}

fn vxlan_itself(hosts: &Hosts<'_>) -> Result<Made> {
    vxlan(hosts, INTERFACE, UNDER)?;
    at(INTERFACE)
}

fn tap(hosts: &Hosts<'_>) -> Result<Made> {
    put_below(hosts.edge, UNDER, UNDER_MACS[0])?;
    let tap = Tap::start(hosts.edge, INTERFACE, UNDER)?;
    hosts.edge.ip(&[
        &format!("link set {INTERFACE} address {}", in_words(EDGE_MAC)),
        &format!("link set {INTERFACE} up"),
    ])?;
    Ok(Made { addressed: INTERFACE, tap: Some(tap) })
}

/// Gives the end of the host's cable this name and address, for another interface to be upon it.
fn put_below(host: &Netns, name: &str, mac: Mac) -> Result<()> {
    host.ip(&[
        &format!("link set {INTERFACE} down"),
        &format!("link set {INTERFACE} name {name}"),
        &format!("link set {name} address {}", in_words(mac)),
    ])?;
    host.sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6"), "1")?;
    host.ip(&[&format!("link set {name} up")])
}

/// Makes a bridge with the edge's Ethernet address and one port.
fn bridge(host: &Netns, name: &str, port: &str) -> Result<()> {
    host.ip(&[
        &format!("link add {name} type bridge mcast_snooping 0"),
        &format!("link set {name} address {}", in_words(EDGE_MAC)),
        &format!("link set {port} master {name}"),
        &format!("link set {name} up"),
    ])
}

/// Makes a macvlan with the edge's Ethernet address.
fn macvlan(host: &Netns, name: &str, below: &str) -> Result<()> {
    let mac = in_words(EDGE_MAC);
    host.ip(&[
        &format!("link add link {below} name {name} address {mac} type macvlan mode bridge"),
        &format!("link set {name} up"),
    ])
}

/// Connects all hosts by VXLAN. The client's and the attacker's device is [`INTERFACE`], the edge's is `name`, and its
/// cable's end `below`.
fn vxlan(hosts: &Hosts<'_>, name: &str, below: &str) -> Result<()> {
    let underlay = |number: usize| format!("10.90.0.{}", number + 1);
    hosts.attacker.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    let ends = [
        (hosts.edge, name, below, EDGE_MAC),
        (hosts.client, INTERFACE, UNDER, CLIENT_MAC),
        (hosts.attacker, INTERFACE, UNDER, ATTACKER_MAC),
    ];
    for (number, (host, name, below, mac)) in ends.iter().enumerate() {
        put_below(host, below, UNDER_MACS[number])?;
        let (address, mac) = (underlay(number), in_words(*mac));
        host.ip(&[
            &format!("address add {address}/24 dev {below}"),
            &format!(
                "link add {name} address {mac} type vxlan id 7 dstport 4789 local {address} dev {below} \
                 nolearning"
            ),
            &format!("link set {name} up"),
        ])?;
        for (other, (.., mac)) in ends.iter().enumerate().filter(|(other, _)| *other != number) {
            let (mac, to) = (in_words(*mac), underlay(other));
            host.exec(&format!("bridge fdb append {mac} dev {name} dst {to}"))?;
        }
    }
    Ok(())
}

/// Connects `times` times and closes each connection. A SYN that comes before a bridge forwards to its new port is sent
/// again after a second.
fn connect(host: &Netns, service: SocketAddr, times: u32) {
    let connect = || {
        (0..times).try_for_each(|_| Ok(TcpStream::connect_timeout(&service, TIMEOUT).map(drop)?))
    };
    host.run(connect).unwrap();
}

/// Plays a flood against a host with interfaces of this kind. `mode` is that of the XDP program.
fn protected(make: Make, mode: &str) {
    let mut forwarder = None;
    let lab = Lab::upon(|hosts| {
        let Made { addressed, tap } = make(hosts)?;
        forwarder = tap;
        Ok(addressed)
    });
    let (lab, service) = (lab.unwrap(), Family::V4.service());
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    assert_eq!(agent.status().unwrap().xdp_mode(), mode);

    for family in Family::BOTH {
        connect(&lab.client, family.service(), 10);
    }
    let counted = |status: &Status| {
        let of = |counter| status.listener_total(PORT, counter);
        ["syn", "syn_ack", "established"].map(of) == [20; 3]
    };
    agent.wait_until("20 handshakes, each counted once", 3 * SECOND, counted).unwrap();

    let load = Load::start(&lab.client, service, CLIENT).unwrap();
    sleep(SECOND);
    let flood = Flood { rate: FLOOD, ..Flood::random(service, LASTS) }.start(&lab).unwrap();
    let found = agent.wait_for_rule(FOUND).unwrap();
    assert_eq!(found.incidents()[0].class(), "random_spoofed");
    sleep(MITIGATED);
    let sent = flood.stop().unwrap().sent;
    let client = load.finish().unwrap();
    let status = agent.status().unwrap();
    let [syns, dropped] =
        ["syn", "drop_total"].map(|counter| status.total(counter) - found.total(counter));
    println!(
        "{dropped} of {syns} SYNs dropped since the rule, {sent} sent; the client: {}",
        client.summary()
    );
    assert!(syns > 100 && dropped > syns / 2, "{dropped} of {syns} dropped since the rule");
    assert!(client.share_within(PATIENCE) >= SERVED, "{}", client.summary());
    drop((agent, forwarder));
}

#[test]
fn a_port_of_a_bridge_is_protected() {
    protected(bridge_port, "native");
}

#[test]
fn a_bridge_is_protected() {
    protected(bridge_itself, "generic");
}

#[test]
fn the_interface_below_a_macvlan_is_protected() {
    protected(below_macvlan, "native");
}

#[test]
fn a_macvlan_is_protected() {
    protected(macvlan_itself, "generic");
}

#[test]
fn a_vxlan_device_is_protected() {
    protected(vxlan_itself, "generic");
}

#[test]
fn a_tap_is_protected() {
    protected(tap, "native");
}

/// The interface below passes the packets of the tunnel, and the agent reports that clients arrive elsewhere.
#[test]
fn the_interface_below_a_vxlan_device_protects_nothing_in_it_and_says_so() {
    let lab = Lab::upon(|hosts| {
        vxlan(hosts, "vxlan0", INTERFACE)?;
        Ok("vxlan0")
    });
    let lab = lab.unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    // Its first polls: it does not judge what came before them.
    sleep(SECOND);
    connect(&lab.client, Family::V4.service(), 50);
    let is_unseen = |status: &Status| {
        status
            .health()
            .iter()
            .any(|(code, text)| code == "ingress_unseen" && text.contains("vxlan0"))
    };
    let status = agent.wait_until("the finding", 3 * SECOND, is_unseen).unwrap();
    assert_eq!(status.listener_total(PORT, "syn"), 0);
    assert!(status.total("rx_packets") >= 100, "{}", status.total("rx_packets"));
}

/// A guest behind a port that is not attached. The client's packets to it pass the attached port. Its own handshakes with
/// the host count, because the kernel names the bridge as their interface, and its SYNs do not.
#[test]
fn a_guest_behind_another_port_of_the_bridge_is_reached_and_reaches_the_host() {
    let lab = Lab::upon(|hosts| Ok(bridge_port(hosts)?.addressed)).unwrap();
    let guest = Netns::new("guest").unwrap();
    lab.edge
        .ip(&[
            &format!("link add port1 type veth peer name {INTERFACE} netns {}", guest.path()),
            "link set port1 master br0",
            "link set port1 up",
        ])
        .unwrap();
    guest
        .ip(&[
            &format!("link set {INTERFACE} up"),
            &format!("address add 10.77.0.9/24 dev {INTERFACE}"),
            "route add default via 10.77.0.1",
        ])
        .unwrap();
    let mac = guest.read(&format!("/sys/class/net/{INTERFACE}/address")).unwrap();
    lab.client
        .ip(&[&format!("neighbour add 10.77.0.9 lladdr {} dev {INTERFACE}", mac.trim())])
        .unwrap();
    // The way back to the client: its address is of another network.
    lab.edge.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let start = |host, port| Server::start(host, port, Behaviour::Answer).unwrap();
    // Another port: packets to any address and the host's port count as those of a forwarded service.
    let (_server, at_guest) = (start(&lab.edge, PORT), start(&guest, GUEST_PORT));
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let service = Family::V4.service();
    let load =
        Load::start(&lab.client, SocketAddr::from(([10, 77, 0, 9], GUEST_PORT)), CLIENT).unwrap();
    connect(&lab.client, service, 10);
    connect(&guest, service, 10);
    let completed = |status: &Status| status.listener_total(PORT, "established") == 20;
    agent.wait_until("20 handshakes with the host", 3 * SECOND, completed).unwrap();
    let passed = load.finish().unwrap();
    assert_eq!((passed.share_within(SECOND), at_guest.served()), (1.0, passed.0.len() as u64));
    let status = agent.status().unwrap();
    assert_eq!(status.listener_total(PORT, "syn"), 10, "of the client alone");
    assert_eq!((status.total("drop_total"), status.incidents().len()), (0, 0));
}

/// Its packets begin with an IP header.
#[test]
fn a_tun_is_refused() {
    let host = Netns::new("edge").unwrap();
    host.exec("ip tuntap add dev tun0 mode tun").unwrap();
    host.ip(&["link set tun0 up"]).unwrap();
    let refused = cli(&host, &["run", "-i", "tun0"]).unwrap();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && text.contains("Ethernet"), "{text}");
}
