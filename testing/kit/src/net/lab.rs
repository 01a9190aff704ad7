//! The stage: a host under test, a client and an attacker on one wire.
//!
//! ```text
//!   attacker eth0 ─────────────────┐
//!                                  ├─ bridge ── eth0 edge (tcpguard, TCP server)
//!   client   eth0 ── [slow link] ──┘
//! ```
//!
//! In an asymmetric lab the edge has a second cable to the bridge, `eth1`. All packets that the edge sends
//! leave by it, and nothing arrives there.
//!
//! Each box is a network namespace, the bridge another one. The edge's default route leads to the attacker,
//! which owns no address and forwards nothing. So replies to spoofed sources vanish there without a reset, as
//! on the Internet. All neighbours are known from the start and multicast does not cross the bridge, so every
//! packet that arrives is one that a test has asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::measure::Receiver;
use crate::net::delay::{Delay, DelayLine};
use crate::net::foreign::{ForeignXdp, Verdict};
use crate::net::lab_filter::{Filter, LabFilter};
use crate::net::netns::Netns;
use crate::net::packet::Mac;

/// The interface of every host in the lab.
pub const INTERFACE: &str = "eth0";
/// The interface by which the edge of an asymmetric lab sends.
pub const BACK_INTERFACE: &str = "eth1";
const BACK_MAC: Mac = [2, 0, 0, 0, 0, 4];
/// The bridge's port that the host under test is connected to.
pub(crate) const EDGE_PORT: &str = "edge";
/// The port of the service under attack.
pub const PORT: u16 = 443;

/// The Ethernet address of the host under test.
pub const EDGE_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// The client's Ethernet address.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// The attacker's Ethernet address, also that of the edge's default gateway.
pub const ATTACKER_MAC: Mac = [2, 0, 0, 0, 0, 3];

/// Most SYNs that may wait at the service: `listen(128)`.
pub const BACKLOG: i32 = 128;

const EDGE_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const EDGE_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2);
const RAW_CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 66);
// In a /64 of its own: an IPv6 client is identified by its /64, and this one must be a new client.
const RAW_CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 66, 0, 0, 0, 1);

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// Internet Protocol version 4.
    V4,
    /// Internet Protocol version 6.
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the address of the host under test.
    pub const fn edge(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(EDGE_V4),
            Self::V6 => IpAddr::V6(EDGE_V6),
        }
    }

    /// Returns the address and port of the service under attack.
    pub const fn service(self) -> SocketAddr {
        SocketAddr::new(self.edge(), PORT)
    }

    /// Returns the client's address.
    pub const fn client(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(CLIENT_V4),
            Self::V6 => IpAddr::V6(CLIENT_V6),
        }
    }

    /// The `number`th of the addresses that the client's kernel owns beside its own, for new clients. Over
    /// IPv6 each is in a /64 of its own.
    pub const fn new_client(self, number: u16) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(10, 79, (number >> 8) as u8, number as u8)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0xfd79, 0, 0, number, 0, 0, 0, 1)),
        }
    }

    /// The network of [`Lab::add_container_network`].
    pub const fn containers(self) -> &'static str {
        match self {
            Self::V4 => "172.17.0.0/16",
            Self::V6 => "fd17::/32",
        }
    }

    /// An address behind the client's interface that its kernel does not own, so that a
    /// [`crate::traffic::raw_client::RawClient`] can speak TCP from it without the kernel answering resets.
    pub const fn raw_client(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(RAW_CLIENT_V4),
            Self::V6 => IpAddr::V6(RAW_CLIENT_V6),
        }
    }
}

/// Options in which labs can differ.
#[derive(Clone, Copy, Debug)]
pub struct LabOptions {
    /// Delay and loss of the client's link; `None`: a fast link.
    pub client_delay: Option<Delay>,
    /// The edge's `net.ipv4.tcp_syncookies`: 0 never, 1 when the queue is full.
    pub syncookies: u8,
    /// Receive on the edge in a kernel thread of its own on CPU 0, and keep clients, attacker and wire on CPU
    /// 1, so that [`Lab::receiver`] can measure the cost of packets to the edge.
    pub measured: bool,
    /// Packets of the edge leave by [`BACK_INTERFACE`].
    pub asymmetric: bool,
}

impl Default for LabOptions {
    /// Returns the options of a typical host: a fast link, cookies when the queue is full.
    fn default() -> Self {
        Self { client_delay: None, syncookies: 1, measured: false, asymmetric: false }
    }
}

/// The stage. Dropping it takes everything down.
#[derive(Debug)]
pub struct Lab {
    // First, so that it ends before the interfaces that it forwards between.
    _slow_link: Option<DelayLine>,
    /// Network namespace of the host under test.
    pub edge: Netns,
    /// Network namespace of the real clients.
    pub client: Netns,
    /// Network namespace from which floods are sent.
    pub attacker: Netns,
    /// The edge's receive thread, in a measured lab.
    pub receiver: Option<Receiver>,
    // Before the wire on which it is.
    answers: Mutex<Answers>,
    options: LabOptions,
    pub(crate) wire: Netns,
}

/// The hosts of a lab before they have addresses. Each has one end of a cable, [`INTERFACE`].
#[derive(Debug)]
pub struct Hosts<'lab> {
    /// Network namespace of the host under test.
    pub edge: &'lab Netns,
    /// Network namespace of the real clients.
    pub client: &'lab Netns,
    /// Network namespace from which floods are sent.
    pub attacker: &'lab Netns,
}

/// Program that lets frames which an XDP program on the edge sends back natively cross the cable, as they do
/// from a network card. A virtual interface takes them only if it has a program as well.
#[derive(Debug)]
enum Answers {
    /// No program, while it is replaced or where such frames are to be lost.
    None,
    /// All such frames cross.
    All { _pass: ForeignXdp },
    /// All such frames cross but those to spoofed sources.
    ToClients { _filter: LabFilter },
}

impl Answers {
    fn all(wire: &Netns) -> Result<Self> {
        Ok(Self::All { _pass: ForeignXdp::attach(wire, EDGE_PORT, Verdict::Pass)? })
    }
}

impl Lab {
    /// Builds the stage.
    ///
    /// # Errors
    /// Without root, iproute2 or ethtool.
    pub fn new(options: LabOptions) -> Result<Self> {
        Self::around(|| Netns::new("edge"), options)
    }

    /// Builds the stage around a host that is there already, and has no [`INTERFACE`] yet.
    pub fn around(edge: impl FnOnce() -> Result<Netns>, options: LabOptions) -> Result<Self> {
        Self::built(edge()?, options, |_| Ok(INTERFACE))
    }

    /// Builds the stage with other interfaces upon the cables than the cables' own ends. `build` makes them before any
    /// address is given, and returns the name of the edge's interface that gets its addresses. The client has its
    /// addresses at [`INTERFACE`].
    ///
    /// # Errors
    /// Without root, iproute2 or ethtool, or when `build` fails, as on a kernel without such interfaces.
    pub fn upon(build: impl FnOnce(&Hosts<'_>) -> Result<&'static str>) -> Result<Self> {
        Self::built(Netns::new("edge")?, LabOptions::default(), build)
    }

    fn built(
        edge: Netns,
        options: LabOptions,
        build: impl FnOnce(&Hosts<'_>) -> Result<&'static str>,
    ) -> Result<Self> {
        let mut client = Netns::new("client")?;
        let (mut attacker, mut wire) = (Netns::new("attacker")?, Netns::new("wire")?);
        if options.measured {
            for other in [&mut client, &mut attacker, &mut wire] {
                other.keep_on_cpu(1);
            }
        }
        for silent in [&attacker, &wire] {
            silent.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
        }
        // Spoofed sources must reach the service, whatever the route back to them.
        edge.sysctl("net.ipv4.conf.all.rp_filter", "0")?;
        edge.sysctl("net.ipv4.conf.default.rp_filter", "0")?;
        edge.sysctl("net.ipv4.tcp_syncookies", &options.syncookies.to_string())?;
        wire.ip(&["link add br0 type bridge mcast_snooping 0", "link set br0 up"])?;
        connect(&wire, EDGE_PORT, &edge, EDGE_MAC, Some("br0"))?;
        connect(&wire, "attacker", &attacker, ATTACKER_MAC, Some("br0"))?;
        let receiver = match options.measured {
            false => None,
            true => {
                // The other end too: the wire must not work on the edge's account.
                Receiver::start(&wire, EDGE_PORT, 1)?;
                Some(Receiver::start(&edge, INTERFACE, 0)?)
            }
        };
        let slow_link = match options.client_delay {
            None => {
                connect(&wire, "client", &client, CLIENT_MAC, Some("br0"))?;
                None
            }
            Some(delay) if netem(&wire, &client, delay)? => None,
            Some(delay) => {
                wire.ip(&[
                    "link add slow type veth peer name fast",
                    "link set fast master br0",
                    "link set fast type bridge_slave mcast_flood off",
                    "link set slow up",
                    "link set fast up",
                ])?;
                connect(&wire, "client", &client, CLIENT_MAC, None)?;
                // The line joins the client's cable and the bridge's port.
                Some(DelayLine::start(&wire, "client", "slow", delay)?)
            }
        };
        let at = build(&Hosts { edge: &edge, client: &client, attacker: &attacker })?;
        let out = if options.asymmetric { BACK_INTERFACE } else { at };
        if options.asymmetric {
            second_cable(&wire, &edge)?;
        }
        address_edge(&edge, at, out)?;
        address_client(&client)?;
        let answers = Answers::all(&wire)?;
        Ok(Self {
            _slow_link: slow_link,
            edge,
            client,
            attacker,
            receiver,
            answers: Mutex::new(answers),
            options,
            wire,
        })
    }

    /// Drops replies to spoofed sources at the end of the cable. They would cost this machine more than the
    /// flood does.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN.
    pub fn drop_backscatter(self) -> Result<Self> {
        // There is one program to an interface.
        self.swap_answers(|wire| {
            let _filter = LabFilter::attach(wire, EDGE_PORT, Filter::NoBackscatter, true)?;
            Ok(Answers::ToClients { _filter })
        })?;
        Ok(self)
    }

    /// Leaves the other end of the edge's cable without an XDP program, as that of a container mostly is, and
    /// sets its GRO. Frames that the edge sends back natively from XDP are lost.
    pub fn lose_answers(self, gro: &str) -> Result<Self> {
        self.swap_answers(|_| Ok(Answers::None))?;
        self.wire.exec(&format!("ethtool -K {EDGE_PORT} gro {gro}"))?;
        Ok(self)
    }

    /// Takes the edge's cable away and lays another: [`INTERFACE`] is a new one from then on, with the same
    /// addresses and routes. All replies cross it.
    pub fn renew_cable(&self) -> Result<()> {
        let plain = !self.options.measured && !self.options.asymmetric;
        ensure!(plain, "only a lab with one plain cable gets another");
        self.swap_answers(|wire| {
            self.edge.ip(&[&format!("link delete {INTERFACE}")])?;
            connect(wire, EDGE_PORT, &self.edge, EDGE_MAC, Some("br0"))?;
            address_edge(&self.edge, INTERFACE, INTERFACE)?;
            Answers::all(wire)
        })
    }

    /// Lets the program on the edge's port go and puts another there.
    fn swap_answers(&self, next: impl FnOnce(&Netns) -> Result<Answers>) -> Result<()> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers = Answers::None;
        *answers = next(&self.wire)?;
        Ok(())
    }

    /// Gives the edge a network of containers behind a bridge, as Docker does. The bridge, by which the
    /// containers get their replies, is not an attached interface.
    ///
    /// # Errors
    /// When there is one already.
    pub fn add_container_network(&self) -> Result<()> {
        self.edge.ip(&[
            "link add docker0 type bridge mcast_snooping 0",
            "link add pod type veth peer name podend",
            "link set pod master docker0",
            "link set podend up",
            "link set pod up",
            "link set docker0 up",
            "address add 172.17.0.1/16 dev docker0",
            &format!("route add {} dev docker0", Family::V6.containers()),
        ])
    }

    /// Frames that the wire lost because the edge was too busy to take them.
    pub fn lost(&self) -> Result<u64> {
        Ok(self.wire.interface_counter(EDGE_PORT, "tx_dropped")?
            + self.attacker.interface_counter(INTERFACE, "tx_dropped")?)
    }
}

/// Connects the client by a slow link of the kernel's own, if it has one (`CONFIG_NET_SCH_NETEM`).
fn netem(wire: &Netns, client: &Netns, delay: Delay) -> Result<bool> {
    let trial = client.exec(&format!("tc qdisc add dev lo root {}", delay.as_netem()));
    if trial.is_err() {
        return Ok(false);
    }
    client.exec("tc qdisc del dev lo root")?;
    connect(wire, "client", client, CLIENT_MAC, Some("br0"))?;
    client.exec(&format!("tc qdisc add dev {INTERFACE} root {}", delay.as_netem()))?;
    if delay.loss > 0.0 {
        wire.exec(&format!("tc qdisc add dev client root {}", delay.back_as_netem()))?;
    }
    Ok(true)
}

/// A cable between `port` in `wire` and `eth0` in `host`, with frames as on a real wire: complete
/// checksums, no segmentation left to the receiver.
pub(crate) fn connect(
    wire: &Netns,
    port: &str,
    host: &Netns,
    mac: Mac,
    bridge: Option<&str>,
) -> Result<()> {
    let mac = in_words(mac);
    let path = host.path();
    wire.ip(&[
        &format!("link add {port} type veth peer name {INTERFACE} address {mac} netns {path}"),
        &format!("link set {port} up"),
    ])?;
    if let Some(bridge) = bridge {
        wire.ip(&[
            &format!("link set {port} master {bridge}"),
            // IPv6 hosts report to routers the groups that they listen to, without being asked.
            &format!("link set {port} type bridge_slave mcast_flood off"),
        ])?;
    }
    for (end, interface) in [(wire, port), (host, INTERFACE)] {
        end.exec(&format!("ethtool -K {interface} tx off tso off gso off gro off"))
            .context("ethtool is needed")?;
    }
    host.ip(&[&format!("link set {INTERFACE} up")])
}

/// The cable by which the edge of an asymmetric lab sends.
fn second_cable(wire: &Netns, edge: &Netns) -> Result<()> {
    let (mac, edge_mac, path) = (in_words(BACK_MAC), in_words(EDGE_MAC), edge.path());
    wire.ip(&[
        &format!("link add back type veth peer name {BACK_INTERFACE} address {mac} netns {path}"),
        "link set back master br0",
        "link set back type bridge_slave mcast_flood off flood off",
        "link set back up",
    ])?;
    // The bridge cannot learn the edge's port from the edge's packets.
    wire.exec(&format!("bridge fdb replace {edge_mac} dev {EDGE_PORT} master static"))?;
    for (end, interface) in [(wire, "back"), (edge, BACK_INTERFACE)] {
        end.exec(&format!("ethtool -K {interface} tx off tso off gso off gro off"))?;
    }
    edge.ip(&[&format!("link set {BACK_INTERFACE} up")])
}

/// Gives the edge its addresses, at the interface `at`, and routes. Its packets leave by `out`.
fn address_edge(edge: &Netns, at: &str, out: &str) -> Result<()> {
    let (client_mac, gateway_mac) = (in_words(CLIENT_MAC), in_words(ATTACKER_MAC));
    edge.ip(&[
        &format!("address add {EDGE_V4}/24 dev {at}"),
        &format!("address add {EDGE_V6}/64 dev {at} nodad"),
        &format!("neighbour add 10.77.0.254 lladdr {gateway_mac} dev {out}"),
        &format!("neighbour add fd77::fe lladdr {gateway_mac} dev {out}"),
        &format!("route add 10.77.0.254/32 dev {out}"),
        "route add default via 10.77.0.254",
        &format!("route add fd77::fe/128 dev {out}"),
        "route add default via fd77::fe",
        &format!("route add 10.78.0.0/24 dev {out}"),
        &format!("route add fd78::/32 dev {out}"),
        &format!("neighbour add {CLIENT_V4} lladdr {client_mac} dev {out}"),
        &format!("neighbour add {CLIENT_V6} lladdr {client_mac} dev {out}"),
        &format!("neighbour add {RAW_CLIENT_V4} lladdr {client_mac} dev {out}"),
        &format!("neighbour add {RAW_CLIENT_V6} lladdr {client_mac} dev {out}"),
        &format!("route add 10.79.0.0/16 via {CLIENT_V4}"),
        &format!("route add fd79::/32 via {CLIENT_V6}"),
    ])
}

/// Gives the client its addresses and routes.
fn address_client(client: &Netns) -> Result<()> {
    let edge_mac = in_words(EDGE_MAC);
    client.sysctl("net.ipv6.ip_nonlocal_bind", "1")?;
    client.ip(&[
        &format!("address add {CLIENT_V4}/24 dev {INTERFACE}"),
        &format!("address add {CLIENT_V6}/64 dev {INTERFACE} nodad"),
        &format!("route add 10.77.0.0/24 dev {INTERFACE}"),
        &format!("route add fd77::/64 dev {INTERFACE}"),
        &format!("neighbour add {EDGE_V4} lladdr {edge_mac} dev {INTERFACE}"),
        &format!("neighbour add {EDGE_V6} lladdr {edge_mac} dev {INTERFACE}"),
        // Addresses of new clients: all of them, without a list.
        "route add local 10.79.0.0/16 dev lo",
        "route add local fd79::/32 dev lo",
    ])
}

/// The notation of an Ethernet address with colons.
pub fn in_words(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
