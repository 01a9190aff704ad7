//! Documents that hosts exchange over the message bus, and the subjects under which they do.
//!
//! A document is a JSON object of at most [`MAX_BYTES`]. Its `schema` names its kind and major version. Within a
//! major version readers skip fields that they do not know. A missing field, a field twice, and a value out of its
//! range are errors: nothing of such a document is used.
//!
//! Rates are per second, shares are 0 to 1, and times are RFC 3339 in UTC.

mod announced;
mod check;
mod envelope;
mod error;
mod host;
mod id;
mod incident;
mod kind;
mod names;
mod part;
mod relief;
mod rule;
mod selector;
mod sender;
mod signature;
mod string_form;
mod subject;
#[cfg(test)]
pub(crate) mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_host::json;

pub use announced::{Announced, AnnouncedRoute, RouteState};
pub use envelope::Envelope;
pub use error::DocumentError;
pub use host::{Agent, FleetCounts, Host};
pub use id::{Id, IdError};
pub use incident::{Incident, IncidentFacts};
pub use kind::Kind;
pub use names::{HostId, Label, NameError};
pub use part::Part;
pub use relief::{Relief, ReliefRoute};
pub use rule::{RuleBody, RuleKey, RuleKeyError, RuleKind, SignedRule};
pub use selector::{HostSelector, SelectorError};
pub use sender::Sender;
pub use signature::{Signature, SignatureEvidence, signature_id, without_ttl};
pub use subject::{Mismatch, Subject, SubjectError};

/// Largest document, in bytes. The longest of each kind that a host writes fits, and it is half of the largest message
/// that the bus takes (`payload` and `max_msg_size` of its set-up).
pub const MAX_BYTES: usize = 2048;

/// A document of the bus.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "schema")]
pub enum Document {
    /// A signature of a flood, as one host sees it.
    #[serde(rename = "tcpguard.fleet.signature/1")]
    Signature(Signature),
    /// An incident of one host.
    #[serde(rename = "tcpguard.fleet.incident/1")]
    Incident(Incident),
    /// A host: its versions, mode and state.
    #[serde(rename = "tcpguard.fleet.host/1")]
    Host(Host),
    /// An operator's rule, signed.
    #[serde(rename = "tcpguard.fleet.rule/1")]
    Rule(SignedRule),
    /// Relief that a host asks of the routers before it.
    #[serde(rename = "tcpguard.fleet.relief/1")]
    Relief(Relief),
    /// Routes that a controller announces for one host.
    #[serde(rename = "tcpguard.fleet.announced/1")]
    Announced(Announced),
}

/// The beginning of every document.
#[derive(Deserialize)]
struct Head {
    schema: String,
}

impl Document {
    /// Parses a document.
    ///
    /// # Errors
    /// When it is too long, is not JSON of a known schema, or has a field out of its range.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_BYTES {
            return Err(DocumentError::TooLong { bytes: bytes.len() });
        }
        let malformed = |error: serde_json::Error| DocumentError::Malformed(error.to_string());
        let Head { schema } = serde_json::from_slice(bytes).map_err(malformed)?;
        if !Kind::ALL.iter().any(|kind| kind.schema() == schema) {
            return Err(DocumentError::UnknownSchema(schema));
        }
        let document: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        document.check()?;
        Ok(document)
    }

    /// The document as it is sent.
    ///
    /// # Errors
    /// When it would be too long, or has a field out of its range: no receiver would take it.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        self.check()?;
        let bytes =
            json::bytes(self).map_err(|error| DocumentError::Malformed(error.to_string()))?;
        match bytes.len() {
            length if length > MAX_BYTES => Err(DocumentError::TooLong { bytes: length }),
            _ => Ok(bytes),
        }
    }

    /// Kind of the document.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Signature(_) => Kind::Signature,
            Self::Incident(_) => Kind::Incident,
            Self::Host(_) => Kind::Host,
            Self::Rule(_) => Kind::Rule,
            Self::Relief(_) => Kind::Relief,
            Self::Announced(_) => Kind::Announced,
        }
    }

    /// The sender; `None` for a rule, which has a signer.
    pub const fn envelope(&self) -> Option<&Envelope> {
        match self {
            Self::Signature(Signature { envelope, .. })
            | Self::Incident(Incident { envelope, .. })
            | Self::Host(Host { envelope, .. })
            | Self::Relief(Relief { envelope, .. })
            | Self::Announced(Announced { envelope, .. }) => Some(envelope),
            Self::Rule(_) => None,
        }
    }

    fn check(&self) -> Result<(), DocumentError> {
        if let Some(envelope) = self.envelope() {
            envelope.check()?;
        }
        match self {
            Self::Signature(signature) => signature.evidence.check(),
            Self::Incident(incident) => incident.facts.check(),
            Self::Host(host) => host.check(),
            Self::Rule(rule) => rule.check(),
            Self::Relief(relief) => relief.check(),
            Self::Announced(announced) => announced.check(),
        }
    }
}
