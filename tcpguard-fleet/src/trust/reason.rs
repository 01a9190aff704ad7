//! Reasons for which a document is refused, and their counts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::document::DocumentError;

/// Reason for which a document is refused.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// Its subject is none of tcpguard's.
    Subject,
    /// The message is longer than a document may be.
    TooLong,
    /// The message is not JSON of the type that its schema names.
    Malformed,
    /// Its schema is unknown: probably one of a later version.
    UnknownSchema,
    /// A field is out of its range.
    OutOfRange,
    /// The message does not belong to its subject.
    Mismatch,
    /// Its time differs too much from that of this host.
    ClockSkew,
    /// The message is not newer than the last of its sender.
    Replayed,
    /// Its sender sends too many.
    Rate,
    /// All senders together send too many.
    TotalRate,
    /// Its sender is muted.
    Muted,
    /// The number of known senders is at its limit.
    TooManyPeers,
    /// Another host uses the name of this one.
    SameHost,
    /// Its sender has as many signatures as one host may have.
    PeerSignatures,
    /// There are as many signatures as possible, and none of less value.
    SignaturesFull,
    /// A rule of a role that this host does not know.
    UnknownRole,
    /// A rule by a key that the role does not have.
    UnknownKey,
    /// A rule with an invalid signature.
    BadSignature,
    /// A rule of a kind that the role may not make.
    NotPermitted,
    /// A rule for a wider prefix than the role may name.
    TooWide,
    /// A rule that ends later than the role may say.
    EndsTooLate,
    /// A rule that has ended.
    Expired,
    /// A rule that a later one has replaced.
    Superseded,
    /// There are as many rules as possible.
    RulesFull,
}

impl Reason {
    /// The name in JSON and metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns whether the sender is to blame, and not this host's limits.
    pub const fn is_by_sender(self) -> bool {
        !matches!(self, Self::TotalRate | Self::Muted | Self::TooManyPeers | Self::SignaturesFull)
    }
}

impl From<&DocumentError> for Reason {
    fn from(error: &DocumentError) -> Self {
        match error {
            DocumentError::TooLong { .. } => Self::TooLong,
            DocumentError::Malformed(_) => Self::Malformed,
            DocumentError::UnknownSchema(_) => Self::UnknownSchema,
            DocumentError::OutOfRange { .. } => Self::OutOfRange,
        }
    }
}

/// Numbers of refused documents by reason.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Refusals(BTreeMap<Reason, u64>);

impl Refusals {
    /// Counts a document that is refused.
    pub fn count(&mut self, reason: Reason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// Number of all refused documents.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Number of documents that were refused for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0.get(&reason).copied().unwrap_or_default()
    }

    /// The counts, without those that are zero.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_the_same_name_in_json() {
        let mut refusals = Refusals::default();
        for reason in [Reason::TooLong, Reason::SameHost, Reason::EndsTooLate, Reason::TooLong] {
            let json = serde_json::to_string(&reason).expect("JSON");
            assert_eq!(json, format!("\"{}\"", reason.name()));
            refusals.count(reason);
        }
        assert_eq!((refusals.total(), refusals.of(Reason::TooLong)), (4, 2));
        assert_eq!(refusals.iter().count(), 3);
    }
}
