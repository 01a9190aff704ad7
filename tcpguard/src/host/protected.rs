//! The protected set: addresses that no rule may cover, because dropping their SYNs would cut the
//! host off, and anybody can write them into a SYN.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Error, SockDiag, rtnetlink};

/// Where resolvers are configured. The second is what systemd-resolved asks when the first only
/// names its own loopback address.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// A prefix that must stay reachable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Protected {
    /// Which addresses.
    pub net: IpNet,
    /// What they are: `own address`, `default gateway`, `resolver`, `SSH client`, `configured`,
    /// `loopback`; several separated by ", ".
    pub what: String,
}

/// The addresses that the host needs, by where they were read.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    own: Vec<IpAddr>,
    gateways: Vec<IpAddr>,
    /// Of each of [`RESOLV_CONF`].
    resolvers: [Vec<IpAddr>; 2],
    ssh_clients: Vec<IpAddr>,
}

impl Addresses {
    /// Reads all again. `ssh_ports` are the local ports on which sshd listens: who has a connection
    /// to one is an administrator. `take` gets each source's name, what was read of it (a missing
    /// resolv.conf is no error), and where to put it.
    pub fn read(
        &mut self,
        sockets: &mut SockDiag,
        ssh_ports: &[u16],
        mut take: impl FnMut(&'static str, Result<Vec<IpAddr>, Error>, &mut Vec<IpAddr>),
    ) {
        take("own addresses", rtnetlink::own_addresses(), &mut self.own);
        take("default gateways", rtnetlink::default_gateways(), &mut self.gateways);
        for (path, last) in RESOLV_CONF.iter().zip(&mut self.resolvers) {
            take(path, resolvers(Path::new(path)), last);
        }
        let clients = sockets.peers(ssh_ports).map(|clients| clients.into_iter().collect());
        take("connections to sshd", clients, &mut self.ssh_clients);
    }

    /// The protected set, in the order of the prefixes, each prefix once. `configured` comes from the
    /// configuration.
    pub fn protected(&self, configured: &[IpNet]) -> Vec<Protected> {
        let mut set = ProtectedSet::new();
        set.add_all(self.own.iter().copied(), "own address");
        set.add_all(self.gateways.iter().copied(), "default gateway");
        set.add_all(self.resolvers.iter().flatten().copied(), "resolver");
        set.add_all(self.ssh_clients.iter().copied(), "SSH client");
        for net in configured {
            set.add(net.trunc(), "configured");
        }
        set.into_vec()
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

struct ProtectedSet {
    nets: BTreeMap<IpNet, Vec<&'static str>>,
}

impl ProtectedSet {
    const LOOPBACK: [IpNet; 2] = [
        IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128)),
    ];

    fn new() -> Self {
        Self { nets: Self::LOOPBACK.into_iter().map(|net| (net, vec!["loopback"])).collect() }
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
        let names = self.nets.entry(net).or_default();
        if !names.contains(&what) {
            names.push(what);
        }
    }

    fn into_vec(self) -> Vec<Protected> {
        let protected = |(net, what): (IpNet, Vec<_>)| Protected { net, what: what.join(", ") };
        self.nets.into_iter().map(protected).collect()
    }
}

#[cfg(test)]
mod tests {
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
        let mut set = ProtectedSet::new();
        set.add_all([ip("192.0.2.1"), ip("fe80::1")], "default gateway");
        set.add_all([ip("192.0.2.1"), ip("192.0.2.1")], "resolver");
        let found: Vec<_> =
            set.into_vec().into_iter().map(|it| (it.net.to_string(), it.what)).collect();
        let expected = [
            ("127.0.0.0/8", "loopback"),
            ("192.0.2.1/32", "default gateway, resolver"),
            ("::1/128", "loopback"),
            ("fe80::1/128", "default gateway"),
        ];
        assert_eq!(found, expected.map(|(net, what)| (net.to_owned(), what.to_owned())));
    }

    #[test]
    fn addresses_within_loopback_add_nothing() {
        let mut set = ProtectedSet::new();
        set.add_all([ip("127.0.0.53"), ip("::1"), ip("::ffff:127.0.0.1")], "resolver");
        assert_eq!(set.into_vec().len(), 2);
    }

    #[test]
    fn an_ipv4_mapped_address_is_protected_as_ipv4() {
        let mut set = ProtectedSet::new();
        set.add_all([ip("::ffff:192.0.2.9")], "SSH client");
        assert!(set.into_vec().iter().any(|it| it.net == net("192.0.2.9/32")));
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
    fn the_set_of_this_host_has_what_was_configured_and_who_is_connected_to_sshd() {
        // 127.0.0.1 stands for the administrator here and is covered by loopback, so that the
        // connection itself is looked at.
        let sshd = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = sshd.local_addr().expect("address");
        let _client = TcpStream::connect(address).expect("connect");
        let _session = sshd.accept().expect("accept");
        let mut sockets = SockDiag::open().expect("netlink");
        let peers = sockets.peers(&[address.port()]).expect("peers");
        assert_eq!(peers.into_iter().collect::<Vec<_>>(), [ip("127.0.0.1")]);

        let configured = net("198.51.100.77/24");
        let mut addresses = Addresses::default();
        addresses.read(&mut sockets, &[address.port()], |source, read, last| {
            *last = read.unwrap_or_else(|error| panic!("{source}: {error}"));
        });
        let set = addresses.protected(&[configured]);
        let found = set.iter().find(|it| it.net == net("198.51.100.0/24"));
        assert_eq!(found.map(|it| it.what.as_str()), Some("configured"));
        assert!(set.iter().any(|it| it.what == "loopback"));
    }
}
