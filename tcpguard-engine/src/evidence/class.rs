//! The class of an incident, and its severity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumCount, IntoStaticStr, VariantArray};

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

impl IncidentClass {
    /// All classes.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.first_chunk().unwrap();

    /// The name in JSON and the journal.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns whether it is a SYN flood: the classes for which something is dropped.
    pub const fn is_flood(self) -> bool {
        match self {
            Self::RandomSpoofed
            | Self::SingleSource
            | Self::FewSource
            | Self::Distributed
            | Self::ClosedPorts
            | Self::Evasion => true,
            Self::Scan
            | Self::FlashCrowd
            | Self::ListenerOverload
            | Self::HandshakeDegraded
            | Self::Reflection => false,
        }
    }

    /// Returns whether it concerns the whole host and no listener: nothing is known of handshakes there, and no
    /// rule is made.
    pub const fn is_of_host(self) -> bool {
        matches!(self, Self::Scan | Self::Reflection | Self::ClosedPorts | Self::Evasion)
    }

    /// Returns whether it is about real clients that are too many, rather than about failed handshakes.
    pub const fn is_pressure(self) -> bool {
        matches!(self, Self::FlashCrowd | Self::ListenerOverload)
    }

    /// Returns its severity.
    pub const fn severity(self) -> Severity {
        match self {
            Self::RandomSpoofed
            | Self::SingleSource
            | Self::FewSource
            | Self::Distributed
            | Self::Evasion => Severity::Critical,
            Self::ListenerOverload
            | Self::HandshakeDegraded
            | Self::Reflection
            | Self::ClosedPorts => Severity::Warning,
            Self::Scan | Self::FlashCrowd => Severity::Notice,
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
