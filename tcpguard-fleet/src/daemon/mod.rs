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
pub mod request;
mod role;
mod server;
mod signals;
pub mod status;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::hint::Failure;
use tcpguard_host::linux::boot_time;
use tcpguard_host::time::Clock;

use crate::bus::{BusError, BusStatus, Claims, Credentials, Nats};
use crate::config::Config;
use crate::document::HostId;
use crate::hook::secret::Secret;

/// Directory of the sockets when the command line names no other directory.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/tcpguard-fleet";
/// Directory of the state that must survive a restart when the command line names no other one.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/tcpguard-fleet";
/// Directories of a controller when the command line names no others. Another process of a fleet that was taken over can
/// read neither the configuration of the BGP speaker nor its socket.
const CONTROLLER_RUNTIME_DIR: &str = "/run/tcpguard-fleet-relief";
/// Directory of the state, see [`CONTROLLER_RUNTIME_DIR`].
const CONTROLLER_STATE_DIR: &str = "/var/lib/tcpguard-fleet-relief";
/// Name of the socket of a host's process.
pub const EDGE_SOCKET: &str = "edge.sock";
/// Name of the socket of a collector.
pub const COLLECTOR_SOCKET: &str = "collector.sock";
/// Name of the socket of a controller.
pub const CONTROLLER_SOCKET: &str = "controller.sock";

/// Time between two steps of a process without news, each of which is a sign of life.
const TICK: Duration = Duration::from_secs(1);
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

/// Reason for which a process does not start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StartError {
    /// The configuration, or a secret that it names, has to be changed first.
    Configuration(Failure),
    /// Another try may succeed.
    Failed(Failure),
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Paths {
    /// Returns the files and directories of a controller.
    #[must_use]
    pub fn of_controller(&self) -> Self {
        let unless_named = |directory: &Path, default: &str, own: &str| match directory {
            directory if directory == Path::new(default) => own.into(),
            directory => directory.to_owned(),
        };
        let (runtime_dir, state_dir) = (&self.runtime_dir, &self.state_dir);
        Self {
            config: self.config.clone(),
            runtime_dir: unless_named(runtime_dir, DEFAULT_RUNTIME_DIR, CONTROLLER_RUNTIME_DIR),
            state_dir: unless_named(state_dir, DEFAULT_STATE_DIR, CONTROLLER_STATE_DIR),
        }
    }

    /// Returns the path of a socket by its name.
    pub fn socket(&self, name: &str) -> PathBuf {
        match name {
            CONTROLLER_SOCKET => self.of_controller().runtime_dir.join(name),
            _ => self.runtime_dir.join(name),
        }
    }
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
pub async fn connect(config: &Config, host: &HostId) -> Result<Nats, StartError> {
    let settings = config.bus(host.as_str()).map_err(StartError::Configuration)?;
    match &settings.credentials {
        Credentials::None => {}
        // The client reads the file itself, and does not look at its mode.
        Credentials::File(secret) | Credentials::Certificate { key: secret, .. } => {
            let secret = Secret::read(secret).map_err(StartError::Configuration)?;
            let claims = str::from_utf8(secret.bytes()).ok().and_then(Claims::read);
            let end = claims.as_ref().and_then(Claims::end);
            if let Some(finding) = end.and_then(|end| status::ending(end, clock().wall)) {
                log::warn!("{}", finding.text);
            }
            let name = claims.and_then(|claims| claims.name);
            if let Some(name) = name.filter(|name| name != host.as_str()) {
                log::warn!(
                    "the credentials are of {name}, and this host is {host} on the bus. Set host = \
                     \"{name}\", or sign new ones: tcpguard-fleet enroll {host}"
                );
            }
        }
    }
    Nats::connect(&settings).await.map_err(|error| {
        let hint = "check [bus] in /etc/tcpguard/fleet.toml";
        let failure = Failure::new(format!("cannot use the bus: {error}"), hint);
        match error {
            BusError::Settings { .. } => StartError::Configuration(failure),
            _ => StartError::Failed(failure),
        }
    })
}

/// The failure of a verb without a connection to the bus.
pub fn no_connection(bus: BusStatus) -> Failure {
    let why = bus.last_error.unwrap_or_else(|| "no reply".to_owned());
    let hint = "check [bus] in /etc/tcpguard/fleet.toml, and its credentials";
    Failure::new(format!("no connection to the bus: {why}"), hint)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_bus_that_only_another_configuration_can_reach_is_named_as_such() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, secret) = (directory.path().join("fleet.toml"), directory.path().join("creds"));
        fs::write(&secret, "no credentials").expect("written");
        let servers = "[bus]\nservers = [\"tls://nats.example.net:4222\"]\n";
        let named = format!("{servers}credentials = \"{}\"\n", secret.display());
        let host: HostId = "a1b2c3d4".parse().expect("a host");
        for (text, mode, why) in [
            ("", 0o600, "no server of the bus"),
            (&*named, 0o640, "can be read by others"),
            (&*named, 0o600, "cannot use the bus"),
        ] {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&secret, Permissions::from_mode(mode)).expect("permitted");
            let config = Config::read(&path).expect("a configuration");
            match connect(&config, &host).await.map(|_| ()) {
                Err(StartError::Configuration(failure)) => {
                    assert!(failure.message.contains(why), "{failure}");
                }
                other => panic!("{why}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_controller_shares_no_directory_unless_one_is_named() {
        let paths = |runtime_dir: &str, state_dir: &str| Paths {
            config: "/etc/tcpguard/fleet.toml".into(),
            runtime_dir: runtime_dir.into(),
            state_dir: state_dir.into(),
        };
        let default = paths(DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR);
        let controller = default.of_controller();
        assert_eq!(controller.runtime_dir, Path::new("/run/tcpguard-fleet-relief"));
        assert_eq!(controller.state_dir, Path::new("/var/lib/tcpguard-fleet-relief"));
        let unit = include_str!("../../../packaging/systemd/tcpguard-fleet-relief.service");
        for line in [
            "User=tcpguard-fleet-relief",
            "RuntimeDirectory=tcpguard-fleet-relief",
            "RuntimeDirectoryMode=0700",
            "StateDirectory=tcpguard-fleet-relief",
            "StateDirectoryMode=0700",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}");
        }
        assert_eq!(default.socket(EDGE_SOCKET), Path::new("/run/tcpguard-fleet/edge.sock"));
        let socket = Path::new("/run/tcpguard-fleet-relief/controller.sock");
        assert_eq!(default.socket(CONTROLLER_SOCKET), socket);
        let named = paths("/run/a", "/run/b");
        assert_eq!(named.socket(CONTROLLER_SOCKET), Path::new("/run/a/controller.sock"));
    }
}
