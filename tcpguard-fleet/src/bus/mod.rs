//! The message bus of a fleet: an interface that asks no more of an engine than messages to all who listen and a
//! small durable store, and its implementation by NATS.

mod credentials;
mod nats;
mod store;
#[cfg(test)]
pub(crate) mod tests;

use std::future::Future;
use std::io;

use thiserror::Error;
use tokio::sync::{mpsc, watch};

pub use credentials::{Claims, Credentials};
#[cfg(test)]
pub(crate) use nats::WAITING;
pub use nats::{BusStatus, Nats, Settings};

/// A message that was received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Received {
    /// Subject under which it was published.
    pub subject: String,
    /// The document, not examined yet.
    pub document: Vec<u8>,
}

/// A document of the durable store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// Key of the document in the store.
    pub key: String,
    /// Position in the store. A later document has a higher one.
    pub sequence: u64,
    /// The document. `None` if it was deleted.
    pub document: Option<Vec<u8>>,
}

/// An error of the bus.
#[derive(Debug, Error)]
pub enum BusError {
    /// A file or address of the settings cannot be used.
    #[error("{what}: {cause}")]
    Settings {
        /// The file or address.
        what: String,
        /// The reason.
        cause: io::Error,
    },
    /// There is no connection at present.
    #[error("no connection to the bus")]
    Disconnected,
    /// No reply in time.
    #[error("the bus did not reply within {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// The server refused the request.
    #[error("the bus refused the request: {0}")]
    Refused(String),
    /// The reply cannot be read.
    #[error("the bus sent a reply that cannot be read: {0}")]
    Unreadable(String),
}

/// A bus. No method waits for longer than a few seconds.
pub trait Bus: Clone + Send + Sync + 'static {
    /// The number of connections so far. It changes with each new one.
    fn connections(&self) -> watch::Receiver<u64>;

    /// Publishes a document for all that listen to its subject. A document that cannot be sent now is dropped,
    /// because its next repetition is newer.
    ///
    /// # Errors
    /// When there is no connection, or its buffer stays full.
    fn publish(
        &self,
        subject: &str,
        document: Vec<u8>,
    ) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Listens to subjects: `*` stands for one token, `>` for all that follow. Messages that come faster than they
    /// are taken out are dropped and counted.
    ///
    /// # Errors
    /// When the subscription cannot be made.
    fn subscribe(
        &self,
        pattern: &str,
    ) -> impl Future<Output = Result<mpsc::Receiver<Received>, BusError>> + Send;

    /// The documents of the store behind position `after`, each key's last one, at most `limit`.
    ///
    /// # Errors
    /// When there is no connection, no reply, or no store.
    fn stored(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Stored>, BusError>> + Send;

    /// Stores a document and returns its position. `None` deletes the key.
    ///
    /// # Errors
    /// When the store is full, or the credentials do not permit it.
    fn store(
        &self,
        key: &str,
        document: Option<Vec<u8>>,
    ) -> impl Future<Output = Result<u64, BusError>> + Send;
}
