//! The processes of a fleet: [`edge`] on every host, [`collector`] once or twice in a fleet, and [`controller`] next to
//! the routers of a site.
//!
//! Each is one task that owns its state, with tasks around it for the bus, the agent, hooks and its socket, all behind
//! bounded queues. The runtime has one thread: a BGP speaker lives as long as the thread that started it.

pub mod client;
pub mod collector;
pub mod controller;
pub mod edge;
mod link;
mod notify;
pub mod request;
mod server;
mod signals;
pub mod status;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::hint::Failure;
use tcpguard_host::linux::boot_time;
use tcpguard_host::time::Clock;

use crate::bus::{Credentials, Nats};
use crate::config::Config;
use crate::document::HostId;
use crate::hook::secret::Secret;

/// Directory of the sockets when the command line names no other directory.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/tcpguard-fleet";
/// Directory of the state that must survive a restart when the command line names no other one.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/tcpguard-fleet";
/// Name of the socket of a host's process.
pub const EDGE_SOCKET: &str = "edge.sock";
/// Name of the socket of a collector.
pub const COLLECTOR_SOCKET: &str = "collector.sock";
/// Name of the socket of a controller.
pub const CONTROLLER_SOCKET: &str = "controller.sock";

/// Requests that wait for the state.
const REQUESTS: usize = 8;

/// Files and directories of a process.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The configuration.
    pub config: PathBuf,
    /// Directory of the sockets, and of the files of a BGP speaker.
    pub runtime_dir: PathBuf,
    /// Directory of the state.
    pub state_dir: PathBuf,
}

/// Both clocks now.
pub fn clock() -> Clock {
    Clock { now: boot_time(), wall: jiff::Timestamp::now() }
}

/// Name of this machine.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Waits until a moment. For one that is past it is ready at once: a timer would need a turn of the runtime, which a
/// flood of documents could put off for ever.
async fn wait_until(due: Timestamp) {
    let wait = due.since(boot_time());
    if wait > Duration::ZERO {
        tokio::time::sleep(wait).await;
    }
}

/// Connects to the bus of the configuration as this host.
///
/// # Errors
/// When the configuration has none, or a secret can be read by others.
pub async fn connect(config: &Config, host: &HostId) -> Result<Nats, Failure> {
    let settings = config.bus(host.as_str())?;
    match &settings.credentials {
        Credentials::None => {}
        // The client reads the file itself, and does not look at its mode.
        Credentials::File(secret) | Credentials::Certificate { key: secret, .. } => {
            Secret::read(secret)?;
        }
    }
    Nats::connect(&settings).await.map_err(|error| {
        let hint = "check [bus] in /etc/tcpguard/fleet.toml";
        Failure::new(format!("cannot use the bus: {error}"), hint)
    })
}
