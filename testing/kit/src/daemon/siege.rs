//! A fleet process that an attacker has taken over, at the socket of an agent.
//!
//! With [`VARIABLE`] set, every [`Agent`](crate::daemon::agent::Agent) of the tests listens to such a process, so that
//! tests of one host show whether it changes anything there.

use std::env;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;
use tcpguard_common::abi::{Fingerprint, Mask};
use tcpguard_engine::{
    FleetAction, FleetMessage, FleetName, FleetRule, Hint, Ports, SharedSignature,
};

use super::agent::RUNTIME_DIR;
use crate::net::netns::Netns;

/// Name of the agent's socket for the fleet process.
pub const SOCKET: &str = "fleet.sock";
/// The port of the attacks in documents of a fleet.
pub const PORT: u16 = 443;
/// Environment variable that lays siege to every agent.
pub const VARIABLE: &str = "TCPGUARD_SIEGE";
/// The section of the configuration with which an agent listens to its fleet process, here to root.
pub const LISTENING: &str = "[fleet]\nlisten = true\ngroup = \"root\"\n";
/// Limit of a write. Without it, a connection whose lines are not read would never see the end.
const PATIENCE: Duration = Duration::from_millis(200);
/// Time between two tries to connect.
const RETRY: Duration = Duration::from_millis(50);
/// Time between two messages beside tests that measure something else: a thousand a second.
const PACE: Duration = Duration::from_millis(1);

/// A signature of SYNs without options. Each window is another one.
pub fn signature(window: u16) -> SharedSignature {
    let print = Fingerprint { window, wscale: 255, ttl: 64, ..Fingerprint::default() };
    SharedSignature::of(Mask::NoTtl, &print)
}

/// Connections that send hostile messages, until it is dropped.
#[derive(Debug)]
pub struct Siege {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Siege {
    /// Opens `connections` to the agent on `host`, each with a message per `pace`, or as many as the agent reads, and
    /// with rules against these sources.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn lay(host: &Netns, connections: usize, pace: Duration, against: IpNet) -> Result<Self> {
        let mut siege = Self { stop: Arc::default(), threads: Vec::new() };
        for _ in 0..connections {
            let stop = Arc::clone(&siege.stop);
            siege.threads.push(host.spawn("siege", move || besiege(&stop, pace, against))?);
        }
        Ok(siege)
    }

    /// The siege that [`VARIABLE`] lays to the agent on `host`.
    pub(crate) fn by_environment(host: &Netns) -> Result<Option<Self>> {
        // A smaller rule would be in force, as the threat model has it.
        let everyone = "0.0.0.0/0".parse()?;
        is_set().then(|| Self::lay(host, 1, PACE, everyone)).transpose()
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("siege: {error:#}"),
                Err(_) => eprintln!("siege: a panic"),
            }
        }
    }
}

/// The configuration with the section of the fleet, if [`VARIABLE`] is set and it has none of its own.
pub(crate) fn configured(config: &str) -> String {
    match is_set() && !config.contains("[fleet]") {
        true => format!("{config}\n{LISTENING}"),
        false => config.to_owned(),
    }
}

fn is_set() -> bool {
    env::var_os(VARIABLE).is_some_and(|value| !value.is_empty())
}

/// Sends until it is stopped. The agent may close the connection, or restart: then there is another.
fn besiege(stop: &AtomicBool, pace: Duration, against: IpNet) -> Result<()> {
    let path = Path::new(RUNTIME_DIR).join(SOCKET);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = UnixStream::connect(&path) else {
            sleep(RETRY);
            continue;
        };
        stream.set_write_timeout(Some(PATIENCE))?;
        while !stop.load(Ordering::Relaxed) && stream.write_all(&hostile(number, against)?).is_ok()
        {
            number += 1;
            sleep(pace);
        }
    }
    Ok(())
}

/// Messages of a process that wants to do harm: hints about every signature, rules against clients, and garbage.
fn hostile(number: u64, against: IpNet) -> Result<Vec<u8>> {
    let hint = FleetMessage::Hint(Hint {
        port: PORT,
        signature: signature(number as u16),
        reporters: u16::MAX,
        ttl_s: 60,
    });
    let rule = FleetMessage::Rule(FleetRule {
        name: FleetName { role: "ops".to_owned(), serial: number },
        action: FleetAction::Block,
        net: against,
        ports: Ports::EVERY,
        lifetime_s: u64::MAX,
        reason: "x".repeat(200),
    });
    let mut line = match number % 4 {
        0 | 1 => serde_json::to_vec(&hint)?,
        2 => serde_json::to_vec(&rule)?,
        _ => vec![b'{'; 3000],
    };
    line.push(b'\n');
    Ok(line)
}
