//! The sender of a document, and its order among the sender's documents.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_host::time::Time;

use super::check;
use super::error::DocumentError;
use super::kind::Kind;
use super::names::{HostId, Label};

/// The sender of a document, and its order among the sender's documents.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Envelope {
    /// The sender. It is also the last token of the subject, for which the bus vouches.
    pub host: HostId,
    /// The sender's site, by its own configuration; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Label>,
    /// Number of the sender's run: the time at which its process started, in ms since 1970, and always more than
    /// that of an earlier run.
    pub boot: u64,
    /// Number of the document in the run, rising over all kinds.
    pub seq: u64,
    /// Time of sending, by the sender's clock.
    pub at: Time,
    /// Time for which the content is valid, in s from its reception. A receiver caps it.
    pub ttl_s: u32,
}

impl Envelope {
    /// Time for which a receiver keeps the content of a document of this kind.
    pub fn ttl(&self, kind: Kind) -> Duration {
        Duration::from_secs(self.ttl_s.into()).min(kind.max_ttl())
    }

    pub(super) fn check(&self) -> Result<(), DocumentError> {
        check::whole("boot", self.boot)?;
        check::whole("seq", self.seq)?;
        check::within("ttl_s", self.ttl_s, 1..=3600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_capped_by_the_receiver() {
        let envelope = |ttl_s| Envelope {
            host: "a1b2c3d4".parse().expect("a host"),
            site: None,
            boot: 1,
            seq: 1,
            at: Time("2026-11-20T14:05:31Z".parse().expect("a time")),
            ttl_s,
        };
        let ttl = |ttl_s| envelope(ttl_s).ttl(Kind::Signature).as_secs();
        assert_eq!([5, 60, 3600].map(ttl), [5, 60, 60]);
        assert_eq!(envelope(60).check(), Ok(()));
        assert!(envelope(0).check().is_err());
    }
}
