//! Events of the agent itself, beside those of the engine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use tcpguard_engine::{Listener, Mode, Severity};
use tcpguard_host::time::Time;

use super::ModeRevert;

/// An event of the agent with its facts. Its name is the same in JSON and in the journal.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[derive(IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum AgentEvent {
    /// An operator set a mode that reverts by itself.
    ModeChanged {
        /// User id of the operator.
        uid: u32,
        /// The mode before.
        from: Mode,
        /// The mode now.
        to: Mode,
        /// The automatic revert.
        ends: ModeRevert,
    },
    /// An operator confirmed the mode.
    ModeConfirmed {
        /// User id of the operator.
        uid: u32,
        /// The mode.
        mode: Mode,
        /// The automatic revert that remains; `null`: the mode stays.
        ends: Option<ModeRevert>,
    },
    /// The mode reverted by itself.
    ModeReverted {
        /// The mode before.
        from: Mode,
        /// The mode now.
        to: Mode,
        /// True if no operator confirmed the mode in time; false if its time was over.
        unconfirmed: bool,
    },
    /// The configuration was read again.
    ConfigReloaded {
        /// Keys with new values in effect.
        applied: Vec<String>,
        /// Keys with new values that a restart applies.
        waiting: Vec<String>,
    },
    /// The configuration was refused.
    ConfigRefused {
        /// The first mistake.
        error: String,
        /// Time at which the configuration in effect was read, at a start with the last valid one; `null`: the
        /// previous one stays in effect.
        valid_from: Option<Time>,
    },
    /// The attachment to an interface changed.
    InterfaceChanged {
        /// The interface.
        interface: String,
        /// The change.
        change: InterfaceChange,
    },
    /// The XDP program cannot be attached to an interface.
    AttachFailed {
        /// The interface.
        interface: String,
        /// The error.
        error: String,
    },
    /// The XDP program runs in generic mode, because native mode failed.
    GenericFallback {
        /// The interface.
        interface: String,
        /// The error of native mode.
        error: String,
    },
    /// An operator detached the XDP program.
    FilterDetached {
        /// User id of the operator.
        uid: u32,
        /// The interfaces.
        interfaces: Vec<String>,
    },
    /// The rules in the kernel differ from the wanted ones, and the kernel refuses the repair.
    RuleDrift {
        /// The change that cannot be repaired; `null`: the rules cannot be read.
        drift: Option<Drift>,
        /// The kernel's error.
        error: String,
    },
    /// The rules in the kernel are the wanted ones again.
    RuleDriftOver,
    /// Another process changed BPF state, and the agent repaired it.
    DriftRepaired {
        /// Number of the changes.
        count: u64,
        /// The first of them.
        drifts: Vec<Drift>,
    },
    /// Packets are dropped before XDP, those of clients among them.
    DroppedBeforeXdp {
        /// Packets per second dropped in NIC rings.
        ring_pps: f64,
        /// Packets per second dropped in CPU backlogs.
        backlog_pps: f64,
    },
    /// No more packets are dropped before XDP.
    DroppedBeforeXdpOver {
        /// Seconds for which they were.
        lasted_s: u64,
    },
    /// No socket listens any longer where clients try to connect.
    NothingListens {
        /// The listener.
        listener: Listener,
        /// SYNs per second that are refused.
        syn_pps: f64,
    },
    /// The clients of a listener are no longer refused.
    NothingListensOver {
        /// The listener.
        listener: Listener,
        /// True if a socket listens again; false if no client tries any longer.
        listens: bool,
        /// Seconds for which no socket listened.
        lasted_s: u64,
    },
}

/// A change of the attachment to an interface.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InterfaceChange {
    /// The interface is configured and does not exist.
    Missing,
    /// The interface was deleted.
    Deleted,
    /// The interface was renamed.
    Renamed {
        /// Its name before.
        from: String,
    },
    /// Programs on the interface are missing.
    Detached,
    /// The programs are attached again.
    Attached,
    /// Pins of the links were missing and are restored.
    Repinned,
    /// Another tc program ran before tcpguard's, which is first again.
    Reordered {
        /// The other programs.
        behind: Vec<String>,
    },
}

/// A change of BPF state by another process.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Drift {
    /// A rule was missing.
    RuleMissing {
        /// Its number.
        rule: u32,
    },
    /// A rule expired at another time.
    RuleExpiry {
        /// Its number.
        rule: u32,
    },
    /// A rule had other flags.
    RuleFlags {
        /// Its number.
        rule: u32,
    },
    /// A source rule was unexpected.
    UnexpectedSource {
        /// The prefix that it matched.
        net: String,
    },
    /// A source rule for all sources was unexpected.
    UnexpectedEverySource,
    /// A signature rule was unexpected.
    UnexpectedSignature,
    /// An entry that no SYN is looked up by was unexpected.
    UnexpectedEntry,
    /// The configuration record was changed.
    Configuration,
    /// Entries of listeners were changed.
    Listeners {
        /// Number of these entries.
        entries: u64,
    },
    /// The exempt prefixes were changed.
    ExemptPrefixes,
    /// The counter slots of interfaces were changed.
    InterfaceSlots,
    /// The pin of the tracepoint was missing.
    TracepointPin,
    /// The program that validates SYN cookies was missing.
    CookieProgram {
        /// The interface.
        interface: String,
    },
    /// Another program ran before the one that validates SYN cookies.
    CookieOrder {
        /// The interface.
        interface: String,
        /// The other programs.
        behind: Vec<String>,
    },
}

impl AgentEvent {
    /// The most changes that an event lists.
    const DRIFTS: usize = 8;

    /// The event that reports the repair of these changes.
    pub fn repaired(mut drifts: Vec<Drift>) -> Self {
        let count = drifts.len() as u64;
        drifts.truncate(Self::DRIFTS);
        Self::DriftRepaired { count, drifts }
    }

    /// The name in JSON and in the journal.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// The severity.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::AttachFailed { .. }
            | Self::DroppedBeforeXdp { .. }
            | Self::NothingListens { .. } => Severity::Critical,
            Self::ModeReverted { unconfirmed: true, .. }
            | Self::ConfigRefused { .. }
            | Self::GenericFallback { .. }
            | Self::FilterDetached { .. }
            | Self::RuleDrift { .. }
            | Self::DriftRepaired { .. } => Severity::Warning,
            Self::InterfaceChanged { change, .. } => match change {
                InterfaceChange::Renamed { .. } => Severity::Notice,
                _ => Severity::Warning,
            },
            Self::ModeChanged { .. }
            | Self::ModeConfirmed { .. }
            | Self::ModeReverted { unconfirmed: false, .. }
            | Self::ConfigReloaded { .. }
            | Self::RuleDriftOver
            | Self::DroppedBeforeXdpOver { .. }
            | Self::NothingListensOver { .. } => Severity::Notice,
        }
    }

    /// The interfaces that it is about.
    pub fn interfaces(&self) -> Vec<&str> {
        match self {
            Self::InterfaceChanged { interface, change: InterfaceChange::Renamed { from } } => {
                vec![from, interface]
            }
            Self::InterfaceChanged { interface, .. }
            | Self::AttachFailed { interface, .. }
            | Self::GenericFallback { interface, .. } => vec![interface],
            Self::FilterDetached { interfaces, .. } => {
                interfaces.iter().map(String::as_str).collect()
            }
            _ => Vec::new(),
        }
    }
}
