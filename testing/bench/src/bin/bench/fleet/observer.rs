//! Messages on the bus, counted by an observer with a connection of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, ensure};
use tcpguard_fleet_kit::client::Client;

/// Counts every message of tcpguard until dropped.
pub struct Observer {
    counts: Arc<Mutex<Counts>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Messages by the kind of their subject: `sig`, `inc`, `host`, `rule`.
pub type Counts = BTreeMap<String, u64>;

impl Observer {
    /// Begins to count, by this connection.
    pub fn start(mut client: Client) -> Result<Self> {
        let refused = client.subscribe("tg.1.>")?;
        ensure!(refused.is_none(), "the observer may not listen: {refused:?}");
        let (counts, stop) =
            (Arc::new(Mutex::new(Counts::new())), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&counts), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // The server may be gone for a while: then there is nothing to count.
                let Ok(next) = client.next(Duration::from_millis(100)) else { return };
                let Some(message) = next else { continue };
                let kind = message.subject.split('.').nth(2).unwrap_or_default().to_owned();
                *counted.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() +=
                    1;
            }
        });
        Ok(Self { counts, stop, thread: Some(thread) })
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Messages of this kind so far.
    pub fn count(&self, kind: &str) -> u64 {
        self.counts().get(kind).copied().unwrap_or_default()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the observer panicked");
        }
    }
}
