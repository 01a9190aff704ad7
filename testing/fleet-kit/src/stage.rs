//! A fleet: the bus with its durable store, and hosts on the management network.

use anyhow::Result;
use tcpguard_kit::net::netns::Netns;

use crate::bus::{Bus, STORE_BYTES};
use crate::client::Client;
use crate::documents::{self, Peer};
use crate::keys::{Keys, Role};
use crate::network::Network;
use crate::write_secret;

/// Files of a host.
const CREDENTIALS: &str = "/run/fleet.creds";
const AUTHORITY: &str = "/run/fleet-ca.pem";
/// Number of the bus on the management network.
const BUS: u8 = 1;

/// A fleet without hosts. Its machines end when it is dropped.
pub struct Fleet {
    /// The server of the bus, machine 1.
    pub bus: Bus,
    /// The management network.
    pub network: Network,
    /// Identities on the bus.
    pub keys: Keys,
}

impl Fleet {
    /// A fleet with a bus that has its durable store.
    ///
    /// # Errors
    /// Without root, nats-server or openssl.
    pub fn new() -> Result<Self> {
        Self::with_store(STORE_BYTES)
    }

    /// Likewise, with a durable store of at most so many bytes.
    pub fn with_store(bytes: u32) -> Result<Self> {
        let (network, keys) = (Network::new()?, Keys::default());
        let bus = Bus::hub(&network, BUS, &keys)?;
        bus.make_store(bytes)?;
        Ok(Self { bus, network, keys })
    }

    /// A new machine with this number, known to the bus by this role.
    pub fn machine(&self, number: u8, role: Role) -> Result<Netns> {
        let host = Netns::new(&documents::name(number))?;
        self.admit(&host, number, role)?;
        Ok(host)
    }

    /// Connects a machine to the management network, and gives it credentials for this role.
    pub fn admit(&self, host: &Netns, number: u8, role: Role) -> Result<()> {
        self.network.join(host, number)?;
        let user = self.keys.user(role, &documents::name(number))?;
        write_secret(host, CREDENTIALS, &user.credentials()?)?;
        host.write(AUTHORITY, &self.network.authority()?)
    }

    /// The configuration of machine `number`, with more sections behind it.
    pub fn config(&self, number: u8, more: &str) -> String {
        self.config_at(&self.bus, number, "site1", more)
    }

    /// The configuration of a machine at this site with this server.
    pub fn config_at(&self, bus: &Bus, number: u8, site: &str, more: &str) -> String {
        let (name, server) = (documents::name(number), bus.address());
        format!(
            "host = \"{name}\"\n\
             site = \"{site}\"\n\
             [bus]\n\
             servers = [\"tls://{server}:4222\"]\n\
             credentials = \"{CREDENTIALS}\"\n\
             authorities = \"{AUTHORITY}\"\n\
             {more}"
        )
    }

    /// A connection to the bus as machine `number`, from the machine `from`, which speaks the protocol by hand.
    pub fn client(&self, from: &Netns, number: u8, role: Role) -> Result<Client> {
        let user = self.keys.user(role, &documents::name(number))?;
        Client::connect(from, self.bus.address(), &user)
    }

    /// Another host of the fleet, with number `number`: a machine, a connection of its own, and its documents.
    pub fn peer(&self, number: u8) -> Result<(Netns, Client, Peer)> {
        let host = self.machine(number, Role::Host)?;
        let client = self.client(&host, number, Role::Host)?;
        Ok((host, client, Peer::new(number)?))
    }
}
