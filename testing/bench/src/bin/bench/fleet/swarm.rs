//! Many participants in one process, each with a connection of its own to the real server.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tcpguard_fleet::bus::{Credentials, Nats, Settings};
use tcpguard_fleet_kit::documents;
use tcpguard_fleet_kit::keys::Role;
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_fleet_kit::wait_for;
use tcpguard_kit::net::netns::Netns;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::participant::Participant;

/// Number of the first participant's name: those before it are machines.
const FIRST: u16 = 1000;
/// Directory of the credentials, on the swarm's machine.
const DIRECTORY: &str = "/run/swarm";

/// Participants that run until dropped.
pub struct Swarm {
    attacks: Vec<watch::Sender<Option<u16>>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Results of all participants.
#[derive(Default)]
pub struct Shared {
    connections: Mutex<Vec<Nats>>,
    learned: Mutex<Vec<Learned>>,
    /// Documents that they published.
    pub published: AtomicU64,
    /// Documents that they received.
    pub received: AtomicU64,
    /// Documents among these that they refused.
    pub refused: AtomicU64,
}

/// The first hint of a participant about a signature.
#[derive(Clone, Copy, Debug)]
pub struct Learned {
    /// Window of the signature.
    pub window: u16,
    /// Time in nanoseconds since boot.
    pub at: u64,
}

impl Shared {
    pub fn note_connection(&self, nats: &Nats) {
        lock(&self.connections).push(nats.clone());
    }

    pub fn note_learned(&self, learned: Learned) {
        lock(&self.learned).push(learned);
    }
}

impl Swarm {
    /// Starts so many participants on `machine`. They connect after this returns.
    ///
    /// # Errors
    /// When credentials cannot be written.
    pub fn start(
        fleet: &Fleet,
        machine: &Netns,
        participants: u16,
        redundancy: usize,
    ) -> Result<Self> {
        let limits = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits })?;
        let shared = Arc::new(Shared::default());
        let (mut attacks, mut all) = (Vec::new(), Vec::new());
        let mut credentials = Vec::new();
        for number in 0..participants {
            let name = documents::name(FIRST + number);
            let path = format!("{DIRECTORY}/{name}.creds");
            credentials.push((path.clone(), fleet.keys.user(Role::Host, &name)?.credentials()?));
            let bus = Settings {
                servers: vec![format!("tls://{}:4222", fleet.bus.address())],
                host: name.clone(),
                credentials: Credentials::File(path.into()),
                authorities: Some("/run/fleet-ca.pem".into()),
            };
            let (sender, attack) = watch::channel(None);
            attacks.push(sender);
            let (number, shared) = (usize::from(number), Arc::clone(&shared));
            all.push(Participant { number, name, bus, redundancy, attack, shared });
        }
        machine.run(|| {
            std::fs::create_dir_all(DIRECTORY)?;
            credentials.iter().try_for_each(|(path, text)| Ok(std::fs::write(path, text)?))
        })?;
        let thread = machine.spawn("swarm", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(all))
        })?;
        Ok(Self { attacks, shared, thread: Some(thread) })
    }

    /// Number of the participants.
    pub fn size(&self) -> usize {
        self.attacks.len()
    }

    /// Has a participant be attacked with this window, or by nothing.
    pub fn attack(&self, number: usize, window: Option<u16>) {
        // A participant that has ended is reported by the thread.
        let _ = self.attacks[number].send(window);
    }

    /// Likewise, all of them at once.
    pub fn attack_all(&self, window: Option<u16>) {
        (0..self.size()).for_each(|number| self.attack(number, window));
    }

    /// Number of those that have a connection.
    pub fn connected(&self) -> usize {
        lock(&self.shared.connections).iter().filter(|nats| nats.link().is_connected).count()
    }

    /// Waits until all have a connection.
    pub fn wait_until_connected(&self, limit: Duration) -> Result<()> {
        wait_for("all are connected", limit, || {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                bail!("a participant has ended");
            }
            Ok((self.connected() == self.size()).then_some(()))
        })
    }

    /// The times at which participants got the first hint about the signature with this window, in ns since boot.
    pub fn learned(&self, window: u16) -> Vec<u64> {
        let learned = lock(&self.shared.learned);
        learned.iter().filter(|one| one.window == window).map(|one| one.at).collect()
    }

    /// Waits until all but `others` have the hint about this signature, or the time is over.
    pub fn wait_until_learned(&self, window: u16, others: usize, limit: Duration) -> Vec<u64> {
        let wanted = self.size() - others;
        // What was learned by then is the result.
        let _ = wait_for("all have learned it", limit, || {
            Ok((self.learned(window).len() >= wanted).then_some(()))
        });
        self.learned(window)
    }

    /// Results of all participants.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.attacks.clear();
        let Some(thread) = self.thread.take() else { return };
        match thread.join() {
            Ok(Ok(())) => {}
            failure => eprintln!("the swarm failed: {failure:?}"),
        }
    }
}

async fn run(all: Vec<Participant>) -> Result<()> {
    let mut tasks = JoinSet::new();
    for participant in all {
        tasks.spawn(participant.run());
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a participant panicked")??;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
