//! Rules: what is dropped, on whose word, why and until when.

use std::fmt;

use ipnet::IpNet;
use tcpguard_common::fastpath::{Fingerprint, Mask};

use crate::evidence::describe;
use crate::{Listener, ListenerId, Ports, Step, Timestamp};

/// Names a rule for as long as it exists; also its slot in the kernel's rule tables.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
pub struct RuleId(pub u32);

/// One drop rule. Every rule ends by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name.
    pub id: RuleId,
    /// Which SYNs it drops.
    pub matcher: Matcher,
    /// On whose word.
    pub origin: Origin,
    /// Made in spite of a protected address that it covers, which is not spared either. What has
    /// become protected since a rule was made was never forced.
    pub forced: bool,
    /// Why, in words.
    pub reason: String,
    /// When it was made.
    pub created: Timestamp,
    /// When the kernel stops applying it, unless it is renewed.
    pub expires: Timestamp,
    /// There while nobody has said that it may stay; [`Rule::expires`] is then the moment by which
    /// somebody must have.
    pub trial: Option<Trial>,
}

/// What becomes of a rule that waits for an operator's word.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// When it ends if it may stay.
    pub until: Timestamp,
    /// The operator's rule in whose place it came, which comes back if nobody says so in time.
    pub instead_of: Option<Box<Rule>>,
}

impl Trial {
    /// What comes back at `now`.
    pub fn comes_back(self, now: Timestamp) -> Option<Rule> {
        self.instead_of.map(|rule| *rule).filter(|rule| rule.expires > now)
    }
}

/// Which SYNs a rule drops.
///
/// There is no automatic rule against the *sources* of a random-source flood: each address is used
/// about once, so a ban comes after the fact, fills the table, and cuts off whoever the attacker
/// chose to forge.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Matcher {
    /// From these sources to these local ports. Rules of the guard's own are for every port.
    Source(IpNet, Ports),
    /// To this listener, looking like this under this mask.
    Signature {
        /// The listener under attack; [`ListenerId::HOST`]: every one.
        listener: ListenerId,
        /// Which fields count.
        mask: Mask,
        /// Their values; fields that do not count are zero.
        fingerprint: Fingerprint,
    },
}

impl Matcher {
    /// How many of the kernel's entries it takes.
    pub fn entries(&self) -> usize {
        match self {
            Self::Source(_, ports) => ports.entries().count(),
            Self::Signature { .. } => 1,
        }
    }

    /// The step whose means it is.
    pub const fn step(&self) -> Step {
        match self {
            Self::Source(..) => Step::Source,
            Self::Signature { .. } => Step::Signature,
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

/// What a signature rule matches, in words: what SYNs look like, and the listener that they are for, which for
/// [`Listener::HOST`] is every one.
pub fn signature_in_words(mask: Mask, fingerprint: &Fingerprint, listener: &Listener) -> String {
    let look = describe(mask, fingerprint);
    if *listener == Listener::HOST {
        return format!("{look} to every listener");
    }
    format!("{look} to {listener}")
}

/// A user in words: `root`, or `uid 1000`. Other names stand in files, which logic does not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct User(pub u32);

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("root"),
            uid => write!(f, "uid {uid}"),
        }
    }
}

/// On whose word a rule exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Made for an incident, ends with it.
    Incident(u64),
    /// `tcpguard block`, by this user id.
    Operator {
        /// User id of the caller on the control socket.
        uid: u32,
    },
}
