//! One participant: the product's own state machine and its own connection, without an agent and without a process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use tcpguard_engine::FleetReport;
use tcpguard_fleet::agent;
use tcpguard_fleet::bus::{self, Bus as _, Nats, Received};
use tcpguard_fleet::document::Sender;
use tcpguard_fleet::share::{Effect, Settings, Share};
use tcpguard_fleet::trust::Roles;
use tcpguard_fleet_kit::documents::{self, clock};
use tcpguard_host::linux::boot_time;
use tcpguard_kit::measure::clock::boot_ns;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::swarm::{Learned, Shared};

/// Time between two tries to subscribe.
const RETRY: Duration = Duration::from_secs(1);

/// A participant and the terms of its part in the fleet.
pub struct Participant {
    /// Its number in the swarm, from 0.
    pub number: usize,
    /// Its name on the bus.
    pub name: String,
    /// Servers and credentials.
    pub bus: bus::Settings,
    /// Other hosts whose reports of a signature are enough.
    pub redundancy: usize,
    /// Window of the signature with which it is attacked; `None`: it is not.
    pub attack: watch::Receiver<Option<u16>>,
    /// Results of all participants.
    pub shared: Arc<Shared>,
}

impl Participant {
    /// Takes part until the attack's sender is gone.
    ///
    /// # Errors
    /// When the settings of the bus cannot be used.
    pub async fn run(mut self) -> Result<()> {
        let nats = Nats::connect(&self.bus).await?;
        self.shared.note_connection(&nats);
        let mut share = self.share()?;
        share.handle_evidence(clock(), agent::evidence(clock(), &documents::calm_report()));
        let (sender, mut received) = mpsc::channel(256);
        for pattern in share.subscriptions() {
            tokio::spawn(listen(nats.clone(), pattern, sender.clone()));
        }
        let mut hinted = BTreeSet::new();
        loop {
            let wait = share.due(boot_time()).since(boot_time());
            tokio::select! {
                biased;
                changed = self.attack.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let window = *self.attack.borrow_and_update();
                    let report = report(window)?;
                    share.handle_evidence(clock(), agent::evidence(clock(), &report));
                }
                () = sleep(wait) => share.handle_time(clock()),
                Some(Received { subject, document }) = received.recv() => {
                    self.shared.received.fetch_add(1, Ordering::Relaxed);
                    if share.handle_document(clock(), &subject, &document).is_err() {
                        self.shared.refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            while let Some(effect) = share.next_effect() {
                match effect {
                    Effect::Publish { subject, document } => {
                        self.shared.published.fetch_add(1, Ordering::Relaxed);
                        // One that fails is repeated with the next interval.
                        let _ = nats.publish(&subject, document).await;
                    }
                    Effect::Hint(hint) => {
                        let window = hint.signature.window.unwrap_or_default();
                        if hinted.insert(window) {
                            let learned = Learned { window, at: boot_ns() };
                            self.shared.note_learned(learned);
                        }
                    }
                    // There is no agent, no file and no second set of subscriptions.
                    _ => {}
                }
            }
        }
    }

    fn share(&self) -> Result<Share> {
        let settings = Settings {
            host: self.name.parse().context("a name of a host")?,
            boot: Sender::boot(clock(), 0),
            site: None,
            hostname: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: Roles::default(),
            redundancy: self.redundancy,
        };
        Ok(Share::new(settings, clock(), self.number as u64 + 1))
    }
}

/// The report of an agent that is attacked with this window, or is not.
fn report(window: Option<u16>) -> Result<FleetReport> {
    let mut report = documents::calm_report();
    if let Some(window) = window {
        report.incidents = vec![documents::incident(window.into(), "192.0.2.10", window)?];
    }
    Ok(report)
}

/// Forwards the documents of a subscription, which is made when there is a connection.
async fn listen(nats: Nats, pattern: String, sender: mpsc::Sender<Received>) {
    loop {
        if let Ok(mut documents) = nats.subscribe(&pattern).await {
            while let Some(document) = documents.recv().await {
                if sender.send(document).await.is_err() {
                    return;
                }
            }
        }
        sleep(RETRY).await;
    }
}
