//! The class of an incident with its facts, and its severity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumCount, IntoStaticStr, VariantArray};

use super::verdict::{INDICATORS_ATTACK, INDICATORS_DROP};
use crate::listener::PressureKind;

/// Severity of a problem, an incident or an alert.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Severity {
    /// Problem or event that is worth knowing.
    Notice,
    /// Problem or event that needs an operator's attention.
    Warning,
    /// Problem or event by which clients suffer, or would.
    Critical,
}

impl Severity {
    /// The name in JSON and the journal.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Class of an incident.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[derive(EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum IncidentClass {
    /// SYNs from random, spoofed sources.
    RandomSpoofed,
    /// One source dominates.
    SingleSource,
    /// A few sources or networks dominate.
    FewSource,
    /// Many sources without indicators of spoofing: a botnet.
    Distributed,
    /// A source tries many ports or addresses at which nothing listens.
    Scan,
    /// Far more clients than in the baseline, and they are served.
    FlashCrowd,
    /// The application does not accept as fast as clients connect.
    ListenerOverload,
    /// Handshakes fail, but nothing says that it is an attack: a broken client path.
    HandshakeDegraded,
    /// Replies to SYNs that this host never sent: a third party spoofs its address.
    Reflection,
    /// SYNs to ports at which nothing listens, so many that refusing them takes the stack's time.
    ClosedPorts,
    /// SYNs in frames that the XDP program cannot read and the stack can.
    Evasion,
}

/// The facts of a class. Its words are those of the component that shows it.
#[derive(Clone, Copy, Debug)]
pub struct ClassFacts {
    /// Severity of its incidents.
    pub severity: Severity,
    /// Packets and handshakes that it is about.
    pub scope: Scope,
    /// Origin of the source addresses.
    pub origin: SourceOrigin,
    /// Measures that stop it.
    pub stopped_by: StoppedBy,
}

/// Packets and handshakes that a class is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Failed handshakes with a listener.
    Handshakes,
    /// Real clients of a listener, which are too many.
    Clients,
    /// SYNs to ports and addresses of the host at which nothing listens.
    ClosedPorts,
    /// Replies to SYNs that the host never sent.
    Replies,
    /// SYNs in frames that the XDP program cannot read.
    UnreadableFrames,
}

/// Origin of the source addresses of an incident.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceOrigin {
    /// The sources are spoofed: blocking them blocks their holders.
    Spoofed,
    /// The sources send the packets themselves.
    Real,
    /// The origin is not known.
    Unknown,
}

/// Measures that stop incidents of a class.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoppedBy {
    /// Nothing: it is no flood.
    Nothing,
    /// Limits in the kernel, for the whole host.
    Limits,
    /// Rules against signatures.
    Signatures,
    /// The same, where one that no client has suffices.
    UnsharedSignatures,
    /// Rules against signatures and against sources.
    Sources,
}

impl IncidentClass {
    /// All classes.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.first_chunk().unwrap();

    /// Its facts: the one place that lists them for each class.
    pub const fn facts(self) -> ClassFacts {
        use Scope::{Clients, ClosedPorts, Handshakes, Replies, UnreadableFrames};
        use Severity::{Critical, Notice, Warning};
        use SourceOrigin::{Real, Spoofed, Unknown};
        use StoppedBy::{Limits, Nothing, Signatures, Sources, UnsharedSignatures};
        let (severity, scope, origin, stopped_by) = match self {
            Self::RandomSpoofed => (Critical, Handshakes, Spoofed, Signatures),
            Self::SingleSource | Self::FewSource => (Critical, Handshakes, Unknown, Sources),
            Self::Distributed => (Critical, Handshakes, Real, UnsharedSignatures),
            Self::Scan => (Notice, ClosedPorts, Unknown, Nothing),
            Self::FlashCrowd => (Notice, Clients, Unknown, Nothing),
            Self::ListenerOverload => (Warning, Clients, Unknown, Nothing),
            Self::HandshakeDegraded => (Warning, Handshakes, Unknown, Nothing),
            Self::Reflection => (Warning, Replies, Real, Nothing),
            Self::ClosedPorts => (Warning, ClosedPorts, Unknown, Limits),
            Self::Evasion => (Critical, UnreadableFrames, Unknown, Limits),
        };
        ClassFacts { severity, scope, origin, stopped_by }
    }

    /// The name in JSON and the journal.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns whether it is a SYN flood: the classes for which something is dropped.
    pub const fn is_flood(self) -> bool {
        !matches!(self.facts().stopped_by, StoppedBy::Nothing)
    }

    /// Returns whether routers of a provider can stop it.
    pub const fn is_of_provider(self) -> bool {
        self.is_flood() || matches!(self.facts().scope, Scope::Replies)
    }

    /// Returns whether it concerns the whole host and no listener: nothing is known of handshakes there, and no
    /// rule is made.
    pub const fn is_of_host(self) -> bool {
        !matches!(self.facts().scope, Scope::Handshakes | Scope::Clients)
    }

    /// Returns whether it is about real clients that are too many, rather than about failed handshakes.
    pub const fn is_pressure(self) -> bool {
        matches!(self.facts().scope, Scope::Clients)
    }

    /// Returns its severity.
    pub const fn severity(self) -> Severity {
        self.facts().severity
    }

    /// Indicators from which SYNs of it may be dropped.
    pub(crate) const fn indicators_to_drop(self) -> u32 {
        match self.facts().stopped_by {
            StoppedBy::UnsharedSignatures => INDICATORS_ATTACK,
            _ => INDICATORS_DROP,
        }
    }
}

impl PressureKind {
    /// The class of an incident that is only this.
    pub const fn class(self) -> IncidentClass {
        match self {
            Self::Overload => IncidentClass::ListenerOverload,
            Self::FlashCrowd => IncidentClass::FlashCrowd,
        }
    }
}
