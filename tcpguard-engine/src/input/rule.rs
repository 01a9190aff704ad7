//! Rules: the SYNs that they drop, their origin, their reason and their end.

use std::fmt;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_common::abi::{Fingerprint, Mask};

use super::describe::describe;
use super::fleet::FleetName;
use super::mitigation::Mitigation;
use super::ports::Ports;
use super::sample::{Listener, ListenerId};
use super::time::Timestamp;

/// Names a rule for as long as it exists; also its slot in the kernel's rule tables.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct RuleId(pub u32);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One drop rule. Every rule expires.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Rule {
    /// Its name.
    pub id: RuleId,
    /// SYNs that it drops.
    pub matcher: Matcher,
    /// Its origin.
    pub origin: Origin,
    /// Made in spite of a protected address that it covers. That address is not exempt from it either. A rule
    /// is not forced over a prefix that became protected after the rule was made.
    pub forced: bool,
    /// Reason for which it was made.
    pub reason: RuleReason,
    /// Time at which it was made.
    pub created: Timestamp,
    /// Time at which the kernel stops applying it, unless it is renewed.
    pub expires: Timestamp,
    /// Its future, while it waits for an operator's confirmation. [`Rule::expires`] is then the time by which
    /// it must be confirmed.
    pub confirmation: Option<RuleConfirmation>,
}

/// Future of a rule that waits for an operator's confirmation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RuleConfirmation {
    /// Time at which it ends if it may stay.
    pub until: Timestamp,
    /// The operator's rule that it replaced. It is restored if no confirmation comes in time.
    pub instead_of: Option<Box<Rule>>,
}

impl RuleConfirmation {
    /// The rule to restore at `now`.
    pub fn to_restore(self, now: Timestamp) -> Option<Rule> {
        self.instead_of.map(|rule| *rule).filter(|rule| rule.expires > now)
    }
}

/// The SYNs that a rule drops.
///
/// There is no automatic rule against the *sources* of a flood with random spoofed sources. Each address is
/// used about once, so a rule would come after the fact and fill the table. It would also cut off the hosts
/// whose addresses the attacker chose to spoof.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matcher {
    /// SYNs from these sources to these local ports. Rules of the agent are for every port.
    Source(IpNet, Ports),
    /// SYNs to this listener, with this fingerprint under this mask.
    Signature {
        /// The listener under attack; [`ListenerId::HOST`]: every one.
        listener: ListenerId,
        /// Mask of the fields that count.
        #[serde(with = "mask_code")]
        mask: Mask,
        /// Values of these fields; fields that do not count are zero.
        #[serde(with = "fingerprint_words")]
        fingerprint: Fingerprint,
    },
}

/// A mask by its code, as in the kernel's tables.
mod mask_code {
    use serde::de::{Deserialize, Deserializer, Error as _};
    use serde::ser::Serializer;
    use tcpguard_common::abi::Mask;

    pub fn serialize<S: Serializer>(mask: &Mask, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(mask.code())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mask, D::Error> {
        let code = u8::deserialize(deserializer)?;
        Mask::from_code(code).ok_or_else(|| D::Error::custom(format!("{code} is no mask")))
    }
}

/// A fingerprint by its words, as in the kernel's tables.
mod fingerprint_words {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Serialize, Serializer};
    use tcpguard_common::abi::Fingerprint;

    pub fn serialize<S: Serializer>(it: &Fingerprint, serializer: S) -> Result<S::Ok, S::Error> {
        it.words().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(it: D) -> Result<Fingerprint, D::Error> {
        <[u64; 3]>::deserialize(it).map(Fingerprint::from_words)
    }
}

impl Matcher {
    /// Returns the number of the kernel's entries that it takes.
    pub fn entries(&self) -> usize {
        match self {
            Self::Source(_, ports) => ports.entries().count(),
            Self::Signature { .. } => 1,
        }
    }

    /// The mitigation to which it belongs.
    pub const fn mitigation(&self) -> Mitigation {
        match self {
            Self::Source(..) => Mitigation::Source,
            Self::Signature { .. } => Mitigation::Signature,
        }
    }

    /// The sources that it names; a signature names none.
    pub const fn prefix(&self) -> Option<IpNet> {
        match self {
            Self::Source(net, _) => Some(*net),
            Self::Signature { .. } => None,
        }
    }
}

/// The matcher of a signature rule, in words: the fingerprint of the SYNs and their listener, which for
/// [`Listener::HOST`] is every one.
pub fn signature_in_words(mask: Mask, fingerprint: &Fingerprint, listener: &Listener) -> String {
    let look = describe(mask, fingerprint);
    if *listener == Listener::HOST {
        return format!("{look} to every listener");
    }
    format!("{look} to {listener}")
}

/// Reason for which a rule is made.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RuleReason {
    /// An operator made or imported it.
    Given {
        /// Reason, in the operator's words.
        text: String,
    },
    /// An operator imported it without a reason.
    Imported,
    /// The agent found it in the kernel without a record.
    Found,
    /// Flood SYNs have its signature.
    Signature {
        /// Their share of the failed handshakes, 0 to 1.
        coverage: f64,
        /// Reason that the signature may be dropped.
        basis: SignatureBasis,
    },
    /// Flood SYNs come from its source, and more arrive than can be answered.
    Source {
        /// Their share of the failed handshakes, 0 to 1.
        share: f64,
    },
}

impl RuleReason {
    /// Returns whether a hint of other hosts stands in for an indicator.
    pub const fn rests_on_hint(&self) -> bool {
        matches!(self, Self::Signature { basis: SignatureBasis::Hinted, .. })
    }
}

/// Reason that a signature may be dropped.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureBasis {
    /// No client has it.
    NoClient,
    /// The SYN queue is full, so that no client is answered.
    FullQueue,
    /// No client with it is seen where SYN-ACKs are not seen.
    NoReplySeen,
    /// The signature was that of the last attack.
    LastAttack,
    /// No client has it. One indicator is missing, and other hosts of the fleet report the signature.
    Hinted,
}

/// Origin of a rule.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made for an incident, ends with it.
    Incident(u64),
    /// `tcpguard block`, by this user id.
    Operator {
        /// User id of the caller on the control socket.
        uid: u32,
    },
    /// Made by an operator of the fleet, for each of its hosts.
    Fleet(FleetName),
}
