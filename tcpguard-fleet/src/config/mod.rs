//! The operator's configuration, `/etc/tcpguard/fleet.toml`.
//!
//! [`Config::read`] reads the file. Every mistake is reported at once, each with its line. Secrets are in files of
//! their own, which only their owner may read.

mod file;
mod identity;
mod problem;
mod value;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use tcpguard_host::hint::Failure;
use tcpguard_host::toml_value::{Parsed, some};

pub use identity::host as machine_host;
pub use problem::ConfigError;

use crate::bus;
use crate::document::{HostId, Label};
use crate::relief::controller::bounds;
use crate::relief::edge;
use crate::relief::speaker::peering::Peering;
use crate::trust::Roles;
use value::AbsolutePath;

/// Path of the file when the command line names no other.
pub const DEFAULT_PATH: &str = "/etc/tcpguard/fleet.toml";
/// Socket of the agent for this process.
pub const DEFAULT_AGENT_SOCKET: &str = "/run/tcpguard/fleet.sock";

/// The configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this host on the bus; `None`: it follows from the id of the machine.
    pub host: Option<HostId>,
    /// Site of this host.
    pub site: Option<Label>,
    /// The bus.
    pub bus: Bus,
    /// Socket of the agent.
    pub agent: PathBuf,
    /// Roles of operators.
    pub roles: Roles,
    /// Role and key of an operator who signs rules on this machine.
    pub operator: Operator,
    /// Receivers of events.
    pub hooks: Vec<Hook>,
    /// Relief that this host asks for; `None`: it asks for none.
    pub edge: Option<Edge>,
    /// The controller of routers; `None`: this host is none.
    pub relief: Option<Relief>,
}

/// The bus.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bus {
    /// Addresses of its servers.
    pub servers: Vec<String>,
    /// Proof of this host's name.
    pub credentials: bus::Credentials,
    /// Certificates of the authorities of servers; `None`: those of the system.
    pub authorities: Option<PathBuf>,
}

/// Role and key of an operator.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Operator {
    /// The role.
    #[serde(deserialize_with = "some::<Parsed<Label>, _>")]
    pub role: Option<Label>,
    /// File with the key.
    #[serde(deserialize_with = "some::<AbsolutePath, _>")]
    pub key: Option<PathBuf>,
}

/// A receiver of events.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hook {
    /// A program, by its absolute path and its arguments.
    Command(Vec<String>),
    /// A URL.
    Webhook {
        /// The URL.
        url: String,
        /// File with the key of signatures.
        key: Option<PathBuf>,
        /// File with a token.
        token: Option<PathBuf>,
        /// File with the certificates of authorities; `None`: those of the system.
        authorities: Option<PathBuf>,
    },
}

/// Relief that a host asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Load from which it asks, and routes that it may ask for.
    pub settings: edge::Settings,
    /// Prefixes of addresses that its services can do without.
    pub spare: Vec<IpNet>,
    /// Speed of its links in bits per second; `None`: that which the kernel reports.
    pub link_bps: Option<f64>,
}

/// A controller of routers.
#[derive(Clone, Debug)]
pub struct Relief {
    /// File with its credentials; `None`: those of this host.
    pub credentials: Option<PathBuf>,
    /// Its bounds.
    pub bounds: bounds::Settings,
    /// Its BGP speaker; `None`: only a dry run is possible.
    pub speaker: Option<Speaker>,
}

/// A BGP speaker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Speaker {
    /// Its kind.
    pub kind: SpeakerKind,
    /// Its program.
    pub program: PathBuf,
    /// Its session. The password is in a file.
    pub peering: Peering,
    /// File with the password of the session.
    pub password: Option<PathBuf>,
}

/// Kind of a BGP speaker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum SpeakerKind {
    /// GoBGP, 3 or later.
    GoBgp,
    /// ExaBGP, 4.2 or later.
    ExaBgp,
}

impl SpeakerKind {
    /// Path of the program in its package.
    const fn program(self) -> &'static str {
        match self {
            Self::GoBgp => "/usr/bin/gobgpd",
            Self::ExaBgp => "/usr/sbin/exabgp",
        }
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or has mistakes: then all of them.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        file::parse(path, &text).map_err(ConfigError::Invalid)
    }

    /// Name of this host on the bus.
    ///
    /// # Errors
    /// When neither the configuration nor the machine has one.
    pub fn host(&self) -> Result<HostId, Failure> {
        self.host.clone().map_or_else(identity::host, Ok)
    }

    /// The settings of the bus for a process under this name.
    ///
    /// # Errors
    /// When no server is configured.
    pub fn bus(&self, name: &str) -> Result<bus::Settings, Failure> {
        let Bus { servers, credentials, authorities } = self.bus.clone();
        if servers.is_empty() {
            let hint = format!("set servers under [bus] in {DEFAULT_PATH}");
            return Err(Failure::new("no server of the bus is configured", hint));
        }
        Ok(bus::Settings { servers, host: name.to_owned(), credentials, authorities })
    }
}

impl Edge {
    /// Returns whether a service can do without this address.
    pub fn is_spare(&self, address: IpAddr) -> bool {
        self.spare.iter().any(|prefix| prefix.contains(&address))
    }
}
