//! The protected set: addresses that no rule may cover. Dropping their SYNs would cut the host off, and
//! any sender can write them into a SYN.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use tcpguard_engine::Timestamp;

use super::ssh_sessions::{LOGIND, SshSessions, logged_in};
use super::{Error, SockDiag, default_gateways, local_routes, rtnetlink};

/// Capacity for protected prefixes of each family: half of the XDP program's slots. The allowlist has the
/// other half.
pub const MOST_PROTECTED: usize = 2048;
/// Capacity for SSH clients among them: a host for git has any number.
pub const MOST_SSH_CLIENTS: usize = MOST_PROTECTED / 2;

/// Files in which resolvers are configured. The second file lists the resolvers of systemd-resolved, for a
/// host where the first only names its own loopback address.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// An address on an interface of the host.
const OWN_ADDRESS: &str = "own address";
/// A network that is routed to the host as a whole.
const OWN_NETWORK: &str = "own network";
/// Roles of addresses to which packets are delivered to this host itself.
pub const OWN: [&str; 2] = [OWN_ADDRESS, OWN_NETWORK];
const GATEWAY: &str = "default gateway";
const RESOLVER: &str = "resolver";
/// Roles of addresses that open no connection to this host by them.
const SERVES: [&str; 4] = [OWN_ADDRESS, OWN_NETWORK, GATEWAY, RESOLVER];

/// A prefix that must stay reachable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Protected {
    /// Addresses that must stay reachable.
    pub net: IpNet,
    /// Their roles: `own address`, `own network`, `default gateway`, `resolver`, `SSH client`,
    /// `configured`, `loopback`; several separated by ", ".
    pub what: String,
    /// True if packets to them are delivered to this host itself.
    pub own: bool,
    /// True if they may be clients of this host. Gateways, resolvers and the host itself serve it.
    pub connects: bool,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProtectedSet {
    /// The prefixes in order, each once.
    pub prefixes: Vec<Protected>,
    /// Number of addresses for which there was no room, by role.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// Addresses that the host needs, by their sources.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    own: Vec<IpAddr>,
    own_networks: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    /// Resolvers in each of [`RESOLV_CONF`].
    resolvers: [Vec<IpAddr>; 2],
    ssh_sessions: SshSessions,
    ssh_clients: Vec<IpAddr>,
}

impl Addresses {
    /// Reads all again. `ssh_ports` are the local ports on which sshd listens: a host from which a user has logged
    /// in is an administrator's. `take` gets each source's name, the addresses read from it (a
    /// missing resolv.conf is no error), and where to put them.
    pub fn read(
        &mut self,
        now: Timestamp,
        sockets: &mut SockDiag,
        ssh_ports: &[u16],
        mut take: impl FnMut(&'static str, Result<Vec<IpAddr>, Error>, &mut Vec<IpAddr>),
    ) {
        take("own addresses", rtnetlink::own_addresses(), &mut self.own);
        take("default gateways", default_gateways(), &mut self.gateways);
        for (path, last) in RESOLV_CONF.iter().zip(&mut self.resolvers) {
            take(path, resolvers(Path::new(path)), last);
        }
        let clients = sockets.connections_to(ssh_ports).map(|connections| {
            let logged_in = logged_in(Path::new(LOGIND));
            self.ssh_sessions.clients(now, &connections, &logged_in).into_iter().collect()
        });
        take("connections to sshd", clients, &mut self.ssh_clients);
    }

    /// Reads again the networks that are the host's own as a whole, likewise.
    pub fn read_networks(
        &mut self,
        take: impl FnOnce(&'static str, Result<Vec<IpNet>, Error>, &mut Vec<IpNet>),
    ) {
        take("own networks", local_routes::local_networks(), &mut self.own_networks);
    }

    /// The protected set. `configured` comes from the configuration. If there are more than there is
    /// room for, those come first of which the host has few, and to which no other host can add.
    pub fn protected(&self, configured: &[IpNet]) -> ProtectedSet {
        let mut set = Collected::new();
        for net in configured {
            set.add(net.trunc(), "configured");
        }
        set.add_all(self.gateways.iter().copied(), GATEWAY);
        set.add_all(self.resolvers.iter().flatten().copied(), RESOLVER);
        for net in &self.own_networks {
            set.add(net.trunc(), OWN_NETWORK);
        }
        set.add_all(self.own.iter().copied(), OWN_ADDRESS);
        let mut room = [MOST_SSH_CLIENTS; 2];
        for client in one_of_each_network_first(&self.ssh_clients) {
            let room = &mut room[usize::from(client.is_ipv6())];
            match room.checked_sub(1) {
                Some(left) => {
                    *room = left;
                    set.add_all([client], "SSH client");
                }
                None => set.leave_out("SSH client"),
            }
        }
        set.finish()
    }
}

fn resolvers(path: &Path) -> Result<Vec<IpAddr>, Error> {
    match std::fs::read(path) {
        // A comment may be in any encoding.
        Ok(bytes) => Ok(parse_resolv_conf(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::Read { path: path.into(), source }),
    }
}

/// The `nameserver` lines of resolv.conf(5), a zone id removed. As the C library does, a line
/// that makes no sense is passed over.
fn parse_resolv_conf(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            if words.next() != Some("nameserver") {
                return None;
            }
            words.next()?.split('%').next()?.parse().ok()
        })
        .collect()
}

/// Orders addresses so that those of a network, of which one person may hold any number, come after the first
/// of every other.
fn one_of_each_network_first(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let mut before: BTreeMap<IpNet, usize> = BTreeMap::new();
    let ranked: BTreeSet<(usize, IpAddr)> = addresses
        .iter()
        .map(|address| {
            let address = address.to_canonical();
            let bits = if address.is_ipv4() { 24 } else { 64 };
            let network = IpNet::new(address, bits).map_or(address.into(), |net| net.trunc());
            let rank = before.entry(network).or_default();
            *rank += 1;
            (*rank, address)
        })
        .collect();
    ranked.into_iter().map(|(_, address)| address)
}

/// The set while it is put together.
struct Collected {
    nets: BTreeMap<IpNet, Vec<&'static str>>,
    /// Number of prefixes of each family, IPv4 first.
    count: [usize; 2],
    left_out: BTreeMap<&'static str, usize>,
}

impl Collected {
    const LOOPBACK: [IpNet; 2] = [
        IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128)),
    ];

    fn new() -> Self {
        let nets = Self::LOOPBACK.into_iter().map(|net| (net, vec!["loopback"])).collect();
        Self { nets, count: [1, 1], left_out: BTreeMap::new() }
    }

    fn add_all(&mut self, addresses: impl IntoIterator<Item = IpAddr>, what: &'static str) {
        for address in addresses {
            let net = IpNet::from(address.to_canonical());
            if !Self::LOOPBACK.iter().any(|loopback| loopback.contains(&net)) {
                self.add(net, what);
            }
        }
    }

    fn add(&mut self, net: IpNet, what: &'static str) {
        if let Some(names) = self.nets.get_mut(&net) {
            if !names.contains(&what) {
                names.push(what);
            }
            return;
        }
        let count = &mut self.count[usize::from(matches!(net, IpNet::V6(_)))];
        if *count == MOST_PROTECTED {
            self.leave_out(what);
        } else {
            *count += 1;
            self.nets.insert(net, vec![what]);
        }
    }

    fn leave_out(&mut self, what: &'static str) {
        *self.left_out.entry(what).or_default() += 1;
    }

    fn finish(self) -> ProtectedSet {
        let is_network = |(_, what): &(&IpNet, &Vec<&str>)| what.contains(&OWN_NETWORK);
        let networks: Vec<IpNet> =
            self.nets.iter().filter(is_network).map(|(net, _)| *net).collect();
        let protected = |(net, what): (IpNet, Vec<&str>)| {
            let within = networks.iter().any(|network| network.contains(&net));
            let own = within || what.iter().any(|what| OWN.contains(what));
            let connects = !what.iter().all(|what| SERVES.contains(what));
            Protected { net, what: what.join(", "), own, connects }
        };
        let prefixes = self.nets.into_iter().map(protected).collect();
        ProtectedSet { prefixes, left_out: self.left_out }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_prefix_appears_once_with_all_its_roles() {
        let mut set = Collected::new();
        set.add_all([ip("192.0.2.1"), ip("fe80::1")], "default gateway");
        set.add_all([ip("192.0.2.1"), ip("192.0.2.1")], "resolver");
        let found: Vec<_> =
            set.finish().prefixes.into_iter().map(|it| (it.net.to_string(), it.what)).collect();
        let expected = [
            ("127.0.0.0/8", "loopback"),
            ("192.0.2.1/32", "default gateway, resolver"),
            ("::1/128", "loopback"),
            ("fe80::1/128", "default gateway"),
        ];
        assert_eq!(found, expected.map(|(net, what)| (net.to_owned(), what.to_owned())));
    }

    #[test]
    fn what_is_delivered_to_the_host_is_its_own() {
        let addresses = Addresses {
            own: vec![ip("192.0.2.1")],
            own_networks: vec![net("203.0.113.0/24")],
            gateways: vec![ip("192.0.2.254")],
            ..Addresses::default()
        };
        let configured = ["198.51.100.0/24", "203.0.113.0/24", "203.0.113.64/26"].map(net);
        let set = addresses.protected(&configured).prefixes;
        let own = set.iter().filter(|protected| protected.own);
        let own: Vec<_> = own.map(|own| (own.net.to_string(), own.what.as_str())).collect();
        let expected = [
            ("192.0.2.1/32", "own address"),
            ("203.0.113.0/24", "configured, own network"),
            ("203.0.113.64/26", "configured"),
        ];
        assert_eq!(own, expected.map(|(net, what)| (net.to_owned(), what)));
    }

    #[test]
    fn what_serves_the_host_is_no_client_unless_it_is_something_else_too() {
        let addresses = Addresses {
            own: vec![ip("192.0.2.1")],
            gateways: vec![ip("192.0.2.254"), ip("198.51.100.1")],
            resolvers: [vec![ip("192.0.2.53")], vec![ip("198.51.100.2")]],
            ssh_clients: vec![ip("198.51.100.2"), ip("203.0.113.7")],
            ..Addresses::default()
        };
        let set = addresses.protected(&[net("198.51.100.1/32"), net("203.0.113.0/28")]).prefixes;
        let clients = set.iter().filter(|protected| protected.connects);
        let clients: Vec<_> = clients.map(|client| client.net.to_string()).collect();
        let expected = [
            "127.0.0.0/8",
            "198.51.100.1/32",
            "198.51.100.2/32",
            "203.0.113.0/28",
            "203.0.113.7/32",
            "::1/128",
        ];
        assert_eq!(clients, expected);
    }

    #[test]
    fn addresses_within_loopback_add_nothing() {
        let mut set = Collected::new();
        set.add_all([ip("127.0.0.53"), ip("::1"), ip("::ffff:127.0.0.1")], "resolver");
        assert_eq!(set.finish().prefixes.len(), 2);
    }

    #[test]
    fn an_ipv4_mapped_address_is_protected_as_ipv4() {
        let mut set = Collected::new();
        set.add_all([ip("::ffff:192.0.2.9")], "SSH client");
        assert!(set.finish().prefixes.iter().any(|it| it.net == net("192.0.2.9/32")));
    }

    /// A host for git, and an attacker that opens connections to sshd from all over its own /64.
    #[test]
    fn ssh_clients_take_no_capacity_of_others_and_a_network_takes_no_other_networks() {
        let attacker = 0x2001_0db8_0000_0000_0000_0000_0000_0000_u128;
        let theirs = (1..=100_000).map(|n| IpAddr::V6((attacker | n).into()));
        let administrators: Vec<IpAddr> =
            (1..=900).map(|n: u128| IpAddr::V6((attacker | n << 64 | 7).into())).collect();
        let developers = (0..5_000_u32).map(|n| IpAddr::V4((0x0a00_0000 | n << 8).into()));
        let ssh_clients = theirs.chain(developers).chain(administrators.clone()).collect();
        let gateways = vec![ip("192.0.2.1"), ip("fe80::1")];
        let addresses = Addresses { gateways, ssh_clients, ..Addresses::default() };
        let set = addresses.protected(&[net("203.0.113.0/24")]);
        let protects =
            |address: &IpAddr| set.prefixes.iter().any(|protected| protected.net.contains(address));
        assert!(administrators.iter().all(protects));
        assert!([ip("192.0.2.1"), ip("fe80::1"), ip("203.0.113.9")].iter().all(protects));
        assert_eq!(set.prefixes.len(), 2 + 3 + 2 * MOST_SSH_CLIENTS);
        let left_out = 105_900 - 2 * MOST_SSH_CLIENTS;
        assert_eq!(set.left_out, BTreeMap::from([("SSH client", left_out)]));
    }

    #[test]
    fn own_addresses_without_number_leave_room_for_the_gateway_and_what_is_configured() {
        let own: Vec<IpAddr> =
            (0..3_000_u32).map(|n| IpAddr::V4((0x0a00_0000 | n).into())).collect();
        let gateways = vec![ip("192.0.2.1")];
        let ssh_clients = vec![ip("198.51.100.7"), ip("2001:db8::7")];
        let addresses = Addresses { own, gateways, ssh_clients, ..Addresses::default() };
        let set = addresses.protected(&[net("203.0.113.0/24")]);
        assert_eq!(
            set.prefixes.len(),
            MOST_PROTECTED + 2,
            "loopback and an SSH client are of the other family"
        );
        let expected = [("SSH client", 1), ("own address", 3_000 - (MOST_PROTECTED - 3))];
        assert_eq!(set.left_out, BTreeMap::from(expected));
    }

    #[test]
    fn nameserver_lines_are_resolvers_and_nothing_else_is() {
        let text = "\
# nameserver 192.0.2.66
search example.org
nameserver 192.0.2.53
  nameserver\t2001:db8::53   trailing
nameserver fe80::53%eth0
nameserver
nameserver 192.0.2.300
nameservers 192.0.2.99
options edns0";
        assert_eq!(parse_resolv_conf(text), [ip("192.0.2.53"), ip("2001:db8::53"), ip("fe80::53")]);
    }

    #[test]
    fn a_host_without_resolv_conf_has_no_resolvers() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let found = resolvers(&directory.path().join("resolv.conf"));
        assert_eq!(found.expect("no error"), Vec::<IpAddr>::new());
    }

    #[test]
    fn the_set_of_this_host_has_configured_prefixes_and_clients_of_sshd() {
        // 127.0.0.1 stands for the administrator here and is covered by loopback, so that the
        // connection itself is looked at.
        let sshd = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = sshd.local_addr().expect("address");
        let mut client = TcpStream::connect(address).expect("connect");
        let (mut session, _) = sshd.accept().expect("accept");
        session.write_all(b"hello").expect("sent");
        client.read_exact(&mut [0; 5]).expect("received");
        client.write_all(b"bye").expect("sent");
        session.read_exact(&mut [0; 3]).expect("received");
        let mut sockets = SockDiag::open().expect("netlink");
        let peers = sockets.connections_to(&[address.port()]).expect("connections");
        let peers: Vec<_> = peers.iter().map(|it| (it.client, it.sent, it.received)).collect();
        assert_eq!(peers, [(ip("127.0.0.1"), 5, 3)]);

        let configured = net("198.51.100.77/24");
        let mut addresses = Addresses::default();
        let now = Timestamp::default();
        addresses.read(now, &mut sockets, &[address.port()], |source, read, last| {
            *last = read.unwrap_or_else(|error| panic!("{source}: {error}"));
        });
        assert!(addresses.ssh_clients.is_empty(), "no user has logged in");
        let set = addresses.protected(&[configured]).prefixes;
        let found = set.iter().find(|it| it.net == net("198.51.100.0/24"));
        assert_eq!(found.map(|it| it.what.as_str()), Some("configured"));
        assert!(set.iter().any(|it| it.what == "loopback"));
    }
}
