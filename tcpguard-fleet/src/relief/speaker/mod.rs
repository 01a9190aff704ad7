//! BGP speakers: processes that hold the session to a router, and announce and withdraw routes for a controller.
//!
//! A speaker is a child of this process and dies with it, since neither GoBGP nor ExaBGP withdraws anything when
//! only its client dies (measured). It serves relief alone: a production daemon would die too.

pub mod child;
pub mod dry_run;
pub mod exabgp;
pub mod gobgp;
pub mod peering;

use std::future::Future;
use std::io;
use std::time::Duration;

use crate::relief::controller::{Change, Entry};

/// Time for one request to a speaker. GoBGP takes 1.1 ms for a route (measured).
const TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a speaker to start: GoBGP listens after a tenth of a second, ExaBGP is written in Python.
const START: Duration = Duration::from_secs(10);
/// Time between two tries to reach a speaker that starts.
const START_RETRY: Duration = Duration::from_millis(50);

/// A BGP speaker.
pub trait Speaker {
    /// Applies one change to the table. A route that is there already, or is gone already, is no error.
    ///
    /// # Errors
    /// When the speaker does not reply in time, or refuses the change.
    fn apply(&mut self, change: &Change) -> impl Future<Output = Result<(), SpeakerError>> + Send;

    /// Reads the routes that it announces.
    ///
    /// # Errors
    /// When the speaker does not reply in time, or refuses the request.
    fn table(&mut self) -> impl Future<Output = Result<Vec<Entry>, SpeakerError>> + Send;

    /// Reads whether the session to the router is established.
    ///
    /// # Errors
    /// As for [`Self::table`].
    fn is_established(&mut self) -> impl Future<Output = Result<bool, SpeakerError>> + Send;
}

/// An error of a speaker. A change that is refused concerns one route. After any other error the speaker is started anew:
/// its end withdraws its routes for certain.
#[derive(Debug, thiserror::Error)]
pub enum SpeakerError {
    /// The speaker cannot be started, or its files cannot be written.
    #[error("cannot start {program}: {cause}")]
    Start {
        /// The program.
        program: String,
        /// The reason.
        cause: io::Error,
    },
    /// There is no connection to it.
    #[error("no connection to the BGP speaker: {0}")]
    Disconnected(String),
    /// No reply in time.
    #[error("the BGP speaker did not reply within {}s", .0.as_secs())]
    Timeout(Duration),
    /// The speaker refused a request.
    #[error("the BGP speaker refused {0}")]
    Refused(String),
    /// The speaker would keep routes after its end.
    #[error("graceful restart is on for {0}: routes would stay when the BGP speaker dies")]
    GracefulRestart(String),
}

/// The result of a request, if there is one in time.
async fn in_time<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, SpeakerError>> + Send,
) -> Result<T, SpeakerError> {
    match tokio::time::timeout(limit, request).await {
        Ok(result) => result,
        Err(_) => Err(SpeakerError::Timeout(limit)),
    }
}
