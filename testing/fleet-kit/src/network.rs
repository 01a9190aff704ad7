//! The management network of a fleet: the bus and all that use it, apart from the links that floods arrive at.

use std::net::Ipv4Addr;

use anyhow::Result;
use tcpguard_kit::net::netns::Netns;

/// The interface of a host on the management network.
pub const MANAGEMENT: &str = "mgmt";
/// Files of the certificate authority, on the network's own machine.
const CONFIG: &str = "/run/openssl.cnf";
const AUTHORITY: &str = "/run/ca.pem";
const AUTHORITY_KEY: &str = "/run/ca.key";
const CERTIFICATE: &str = "/run/server.pem";
const KEY: &str = "/run/server.key";

/// A network of machines by number, with an authority that vouches for their addresses.
#[derive(Debug)]
pub struct Network {
    wire: Netns,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Network {
    /// A network without machines.
    ///
    /// # Errors
    /// Without root, iproute2 or openssl.
    pub fn new() -> Result<Self> {
        let wire = Netns::new("management network")?;
        wire.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
        wire.ip(&["link add br0 type bridge mcast_snooping 0", "link set br0 up"])?;
        let network = Self { wire };
        let extensions = "basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n";
        network.sign(extensions, &format!("-keyout {AUTHORITY_KEY} -out {AUTHORITY}"))?;
        Ok(network)
    }

    /// The address of machine `number`.
    pub const fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 90, 0, number)
    }

    /// Connects a machine as the one with this number.
    ///
    /// # Errors
    /// When there is one with this number already.
    pub fn join(&self, host: &Netns, number: u8) -> Result<()> {
        let (path, address) = (host.path(), Self::address(number));
        self.wire.ip(&[
            &format!("link add m{number} type veth peer name {MANAGEMENT} netns {path}"),
            &format!("link set m{number} master br0"),
            &format!("link set m{number} up"),
        ])?;
        host.ip(&[
            &format!("address add {address}/24 dev {MANAGEMENT}"),
            &format!("link set {MANAGEMENT} up"),
        ])
    }

    /// Loses all frames from and to a machine from now on. Its interface stays up, as behind a switch.
    pub fn isolate(&self, number: u8) -> Result<()> {
        self.wire.ip(&[&format!("link set m{number} nomaster")])
    }

    /// Ends [`Self::isolate`].
    pub fn reconnect(&self, number: u8) -> Result<()> {
        self.wire.ip(&[&format!("link set m{number} master br0")])
    }

    /// The certificate of the authority, in PEM.
    pub fn authority(&self) -> Result<String> {
        self.wire.read(AUTHORITY)
    }

    /// A certificate for the address of machine `number`.
    pub fn certificate(&self, number: u8) -> Result<Certificate> {
        let extensions = format!(
            "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n\
             extendedKeyUsage = serverAuth,clientAuth\nsubjectAltName = IP:{}\n",
            Self::address(number)
        );
        let by_authority = format!(
            "-subj /CN={} -CA {AUTHORITY} -CAkey {AUTHORITY_KEY} -keyout {KEY} -out {CERTIFICATE}",
            Self::address(number)
        );
        self.sign(&extensions, &by_authority)?;
        Ok(Certificate { certificate: self.wire.read(CERTIFICATE)?, key: self.wire.read(KEY)? })
    }

    /// Makes a key and a certificate of it, for two days.
    fn sign(&self, extensions: &str, arguments: &str) -> Result<()> {
        let config = format!(
            "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = tcpguard-test\n[it]\n{extensions}"
        );
        self.wire.write(CONFIG, &config)?;
        let line = format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -config {CONFIG} -extensions it {arguments}"
        );
        self.wire.exec(&line).map(drop)
    }
}
