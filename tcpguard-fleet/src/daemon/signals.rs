//! Signals to the process.

use tcpguard_host::hint::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the process waits for.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// A request by a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// SIGTERM or SIGINT: to end.
    End,
    /// SIGHUP: to read the configuration again.
    Reload,
}

impl Signals {
    /// Takes over the signals. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> Result<Self, Failure> {
        let of = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(format!("cannot wait for signals: {error}"), "journalctl -k")
            })
        };
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hangup: of(SignalKind::hangup())?,
        })
    }

    /// The next request.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
