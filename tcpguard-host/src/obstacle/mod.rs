//! Obstacles to SYN cookies: what each is called, its sentence and its remedy, wherever it is shown.
//!
//! The kernel accepts a connection only if it could have made the cookie itself, and the SYN-ACK must leave as the
//! listener's own do. Every reason against that is one of [`Obstacle`]. Most are known before an attack.

#[cfg(any(test, feature = "recorded"))]
mod example_tests;
mod finding;
mod words;

use tcpguard_engine::{Setback, Unanswered};

use crate::finding::Severity;
use crate::firewall::{Nat, Offence};
#[cfg(any(test, feature = "recorded"))]
pub use example_tests::{examples, redirect};
pub use finding::{Impeded, findings, named};

/// One obstacle to SYN cookies. It is displayed as its sentence, followed by its remedy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Obstacle {
    /// `tcp_syncookies` is 0, or the kernel has none.
    NoCookies {
        /// True if the kernel has them.
        switched_off: bool,
    },
    /// `tcp_syncookies` is 2 by an administrator's order, and no SYN-ACK of a socket can be seen.
    AlwaysCookies,
    /// Only the kernel itself makes cookies here, for this reason.
    NoBackend(String),
    /// The configuration forbids cookies at the listener.
    Barred,
    /// Options that its SYN-ACKs had were switched off since: the names of their sysctls.
    SwitchedOff(Vec<&'static str>),
    /// One of its sockets uses MPTCP.
    Mptcp {
        /// Reason for which the kernel's helper cannot make the cookies; `None`: it does.
        no_helper: Option<String>,
    },
    /// No socket of this host listens at its address and port.
    NotLocal,
    /// A rule translates the port that clients use to another one of this host.
    Redirected {
        offence: Box<Offence>,
        /// The port that clients use; `None`: the listener is the one behind the rule.
        port: Option<u16>,
    },
    /// The listener has not sent a SYN-ACK yet.
    NeverAnswered,
    /// Its clients complete handshakes, and no SYN-ACK of it was seen.
    Unseen,
    /// Its replies leave by an interface that is not attached.
    Elsewhere {
        /// Index of the interface.
        ifindex: u32,
    },
    /// Some of the services that reply at its address and port are not of this host.
    Shared,
    /// The sockets of a VRF are not found by the addresses and ports of their packets alone.
    Vrf { interface: String },
    /// Cookies might never get to the program that checks them.
    Behind {
        interface: String,
        /// The program that runs before it, in words.
        program: String,
    },
    /// The driver has no `XDP_TX`.
    NoTransmit { interface: String },
    /// The other end of a veth pair does not receive frames that XDP sends back.
    NotReceived { interface: String },
    /// The hardware takes the VLAN tag off that the reply would need.
    TagStripped {
        interface: String,
        /// The VLANs, in words.
        vlans: String,
    },
    /// The host translates addresses, and the kernel then takes no connection from a BPF program.
    Nat {
        nat: Nat,
        /// Reason for which the kernel's helper cannot make the cookies; `None`: it does.
        no_helper: Option<String>,
    },
    /// A rule of the host's packet filter depends on the SYN, which it would not see, or would have taken or changed it.
    Firewall {
        /// The rule, and the way in which it depends on the SYN.
        offence: Box<Offence>,
        /// True if the cookies are the XDP program's own, whose ACKs can be marked.
        own: bool,
        /// The mark that the configuration gives them; 0: none.
        mark: u32,
    },
    /// Cookies were to be sent, and no SYN got one.
    NoneAnswered {
        /// SYNs that got none.
        syns: u64,
        /// The reason of most.
        why: Unanswered,
    },
}

impl Obstacle {
    /// Every code.
    pub const CODES: [&str; 18] = [
        "cookies_forbidden",
        "firewall_rules",
        "mptcp",
        "nat",
        "no_backend",
        "none_answered",
        "not_local",
        "other_end",
        "redirected",
        "replies_elsewhere",
        "shared_port",
        "syn_ack_unseen",
        "syncookies",
        "tc_before",
        "tcp_options",
        "vlan_tags",
        "vrf",
        "xdp_tx",
    ];

    /// The code of its finding. It is that of the check of `tcpguard doctor`, where there is one.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoCookies { .. } | Self::AlwaysCookies => "syncookies",
            Self::NoBackend(_) => "no_backend",
            Self::Barred => "cookies_forbidden",
            Self::SwitchedOff(_) => "tcp_options",
            Self::Mptcp { .. } => "mptcp",
            Self::NotLocal => "not_local",
            Self::Redirected { .. } => "redirected",
            Self::NeverAnswered | Self::Unseen => "syn_ack_unseen",
            Self::Elsewhere { .. } => "replies_elsewhere",
            Self::Shared => "shared_port",
            Self::Vrf { .. } => "vrf",
            Self::Behind { .. } => "tc_before",
            Self::NoTransmit { .. } => "xdp_tx",
            Self::NotReceived { .. } => "other_end",
            Self::TagStripped { .. } => "vlan_tags",
            Self::Nat { .. } => "nat",
            Self::Firewall { .. } => "firewall_rules",
            Self::NoneAnswered { .. } => "none_answered",
        }
    }

    /// Returns whether it forbids cookies. Beside any other, the kernel's helper makes them.
    pub const fn forbids(&self) -> bool {
        !matches!(self, Self::Mptcp { no_helper: None } | Self::Nat { no_helper: None, .. })
    }

    /// The same obstacle, where the kernel's helper cannot make the cookies, for this reason.
    pub fn without_helper(self, why: String) -> Self {
        let no_helper = Some(why);
        match self {
            Self::Mptcp { .. } => Self::Mptcp { no_helper },
            Self::Nat { nat, .. } => Self::Nat { nat, no_helper },
            other => other,
        }
    }

    /// The same for the engine, which withholds cookies because of it.
    pub fn setback(&self) -> Setback {
        let (error, remedy) = (self.sentence(), Some(self.remedy()));
        Setback { error, remedy, soon: self.is_passing() }
    }

    /// Returns whether it may be gone in a second.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::NeverAnswered)
    }

    /// Severity of its finding: a notice where it was chosen, or where nothing can be done about it here.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::NoBackend(_)
            | Self::Barred
            | Self::SwitchedOff(_)
            | Self::NotLocal
            | Self::NeverAnswered
            | Self::Elsewhere { .. }
            | Self::Shared
            | Self::Vrf { .. }
            | Self::NotReceived { .. } => Severity::Notice,
            _ if !self.forbids() => Severity::Notice,
            _ => Severity::Warning,
        }
    }
}
