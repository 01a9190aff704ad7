//! The server of the bus: NATS in operator mode with TLS, on a machine of its own, and servers of sites behind it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tcpguard_kit::daemon;
use tcpguard_kit::net::netns::Netns;

use crate::client::Client;
use crate::keys::{Keys, Role, User};
use crate::network::Network;
use crate::{end, pause, resume, wait_for, write_secret};

/// Port of clients, and of the servers of sites.
pub const PORT: u16 = 4222;
const LEAF_PORT: u16 = 7422;
/// The server's files.
const CONFIG: &str = "/run/nats.conf";
const LOG: &str = "/run/nats.log";
const CREDENTIALS: &str = "/run/site.creds";
/// Files of the server's certificate, in its configuration.
const FILES: &str = "cert_file: \"/run/server.pem\", key_file: \"/run/server.key\"";
/// Name of the durable store.
const STORE: &str = "KV_rule";
/// Size of the durable store that an operator makes, in bytes.
pub const STORE_BYTES: u32 = 16 << 20;

/// The server's program, from `TCPGUARD_NATS_SERVER`.
pub fn program() -> Result<PathBuf> {
    daemon::agent::program(
        "TCPGUARD_NATS_SERVER",
        "`cargo xtask test` installs one and sets this (docs/fleet.md names the versions)",
    )
}

/// A server. It ends when dropped.
pub struct Bus {
    host: Netns,
    number: u8,
    owner: User,
    /// True if it has the durable store.
    is_hub: bool,
    server: Option<Child>,
}

impl Bus {
    /// Starts the hub of a fleet as machine `number`: it has the durable store, and accepts servers of sites.
    ///
    /// # Errors
    /// Without nats-server, or when it does not reply within 15 s.
    pub fn hub(network: &Network, number: u8, keys: &Keys) -> Result<Self> {
        let address = Network::address(number);
        let more = format!(
            "jetstream {{ store_dir: \"/run/nats\", max_file_store: 67108864, max_memory_store: 1048576 }}\n\
             leafnodes {{ listen: \"{address}:{LEAF_PORT}\", tls {{ {FILES} }} }}\n"
        );
        let mut hub = Self::new(network, number, keys, true, &more)?;
        hub.start()?;
        Ok(hub)
    }

    /// Starts the server of a site as machine `number`, a leaf of the hub.
    pub fn site(network: &Network, number: u8, keys: &Keys, hub: &Self) -> Result<Self> {
        let (address, account) = (hub.address(), keys.account());
        let more = format!(
            "leafnodes {{ reconnect: 1, remotes: [ {{ url: \"tls://{address}:{LEAF_PORT}\", \
             account: {account}, credentials: \"{CREDENTIALS}\", tls {{ ca_file: \"/run/ca.pem\" }} }} ] }}\n"
        );
        let mut site = Self::new(network, number, keys, false, &more)?;
        let link = keys.user(Role::Owner, &format!("site{number}"))?;
        write_secret(&site.host, CREDENTIALS, &link.credentials()?)?;
        site.start()?;
        Ok(site)
    }

    fn new(network: &Network, number: u8, keys: &Keys, is_hub: bool, more: &str) -> Result<Self> {
        let host = Netns::new(&format!("bus {number}"))?;
        network.join(&host, number)?;
        let certificate = network.certificate(number)?;
        host.write("/run/ca.pem", &network.authority()?)?;
        host.write("/run/server.pem", &certificate.certificate)?;
        write_secret(&host, "/run/server.key", &certificate.key)?;
        let (address, identities) = (Network::address(number), keys.configuration()?);
        // The clients of the kit speak without TLS, and have to prove who they are all the same.
        let config = format!(
            "server_name: bus{number}\n\
             listen: \"{address}:{PORT}\"\n\
             {identities}\
             tls {{ {FILES} }}\n\
             allow_non_tls: true\n\
             max_payload: 65536\n\
             write_deadline: \"2s\"\n\
             max_pending: 8388608\n\
             ping_interval: \"20s\"\n\
             log_file: \"{LOG}\"\n\
             {more}"
        );
        write_secret(&host, CONFIG, &config)?;
        let owner = keys.user(Role::Owner, "owner")?;
        Ok(Self { host, number, owner, is_hub, server: None })
    }

    /// Starts the server, or starts it again after [`Self::kill`]. Its store is on disk.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "the server runs already");
        let mut command = self.host.command(program()?)?;
        command.args(["-c", CONFIG]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().context("cannot start nats-server")?;
        self.server = Some(server);
        wait_for("a reply of the bus", Duration::from_secs(15), || {
            let server = self.server.as_mut().context("the server was started")?;
            if let Some(status) = server.try_wait()? {
                bail!("nats-server ended with {status}: {}", self.log());
            }
            Ok(self.replies().ok())
        })
    }

    fn replies(&self) -> Result<()> {
        let mut owner = self.client()?;
        if self.is_hub {
            let reply = owner.request("$JS.API.INFO", b"")?.json()?;
            ensure!(reply.get("error").is_none(), "no durable store: {reply}");
        }
        Ok(())
    }

    /// Kills the server. Connections are reset, as when the program crashes.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the server does not run")?;
        end(&mut server);
        Ok(())
    }

    /// Stops the server with SIGSTOP: connections stay open, and it neither reads nor writes.
    pub fn pause(&self) -> Result<()> {
        pause(self.server.as_ref().context("the server does not run")?)
    }

    /// Lets the server go on after [`Self::pause`].
    pub fn resume(&self) -> Result<()> {
        resume(self.server.as_ref().context("the server does not run")?)
    }

    /// Address of the server.
    pub const fn address(&self) -> Ipv4Addr {
        Network::address(self.number)
    }

    /// Number of its machine.
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Process id of the server.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.server.as_ref().context("the server does not run")?.id())
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        self.host.read(LOG).unwrap_or_default()
    }

    /// A connection of the owner of the bus, from the server's own machine.
    pub fn client(&self) -> Result<Client> {
        Client::connect(&self.host, self.address(), &self.owner)
    }

    /// Makes the durable store, of at most so many bytes.
    ///
    /// # Errors
    /// When there is one already.
    pub fn make_store(&self, bytes: u32) -> Result<()> {
        let configuration = json!({
            "name": STORE,
            "subjects": ["$KV.rule.>"],
            "max_msgs_per_subject": 1,
            "max_msg_size": 4096,
            "max_bytes": bytes,
            "max_age": 30 * 24 * 3600 * 1_000_000_000_u64,
            "discard": "new",
            "storage": "file",
            "num_replicas": 1,
            "allow_direct": true,
            "allow_rollup_hdrs": true,
            "republish": { "src": "$KV.rule.>", "dest": "tg.1.rule.>" },
        });
        let subject = format!("$JS.API.STREAM.CREATE.{STORE}");
        let reply = self.client()?.request(&subject, configuration.to_string().as_bytes())?;
        let reply = reply.json()?;
        ensure!(reply.get("error").is_none(), "the durable store is refused: {reply}");
        Ok(())
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of bus {}\n{}---", self.number, self.log());
        }
        if let Some(mut server) = self.server.take() {
            end(&mut server);
        }
    }
}
