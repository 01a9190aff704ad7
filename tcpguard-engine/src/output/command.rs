//! Effects that the engine orders. The agent's executor is the only interpreter.

use ipnet::IpNet;

use crate::incident::{Event, IncidentReport};
use crate::input::{
    ListenerId, Mitigation, Mode, RouteQuestion, Rule, RuleId, Timestamp, Withheld,
};
use crate::mitigation::CleanUp;
use crate::rules::RemovalReason;

/// One effect, in the order in which it must happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Put this rule into the kernel, with its hit counters at zero. A rule that is already there
    /// under this id has the same matcher; it changes origin and end without a gap, and its counters
    /// go on.
    InstallRule(Rule),
    /// Let this rule, already in the kernel, live until then.
    RenewRule {
        /// ID of the rule.
        id: RuleId,
        /// New time at which it expires.
        expires: Timestamp,
    },
    /// Take this rule out of the kernel.
    RemoveRule {
        /// The rule as it was installed.
        rule: Rule,
        /// The reason.
        why: RemovalReason,
    },
    /// Let exactly these rules be in the kernel, from one packet to the next: a SYN that any rule of both
    /// sets matches is matched by one of them at any time. A rule that was there under the same id has the
    /// same matcher, and its counters go on. The counters of others begin at zero. When the kernel refuses,
    /// nothing may have changed: see [`crate::Engine::replacement_failed`].
    ReplaceRules {
        /// All rules of the new set.
        rules: Vec<Rule>,
        /// The earlier rules that are not among them.
        removed: Vec<Rule>,
        /// The reason.
        why: RemovalReason,
    },
    /// Exempt exactly these prefixes, beside the protected ones, from drops by source or signature,
    /// each until its time. The list is the whole allowlist.
    SetAllowed(Vec<(IpNet, Timestamp)>),
    /// Start this mitigation for a listener, or change its rate. When it cannot start, nothing of it may be left:
    /// see [`crate::Engine::mitigation_failed`].
    StartMitigation {
        /// Listener of the mitigation.
        listener: ListenerId,
        /// The mitigation; never one that acts by rules.
        mitigation: Mitigation,
        /// SYNs a second of clients that are not validated, for [`Mitigation::Budget`]; else 0.
        rate: u32,
    },
    /// Stop this mitigation.
    StopMitigation {
        /// Listener of the mitigation.
        listener: ListenerId,
        /// The mitigation.
        mitigation: Mitigation,
    },
    /// Exclude this listener from signature rules for every listener from now on, or no longer. A new listener is not
    /// excluded, nor is one that an earlier run has excluded.
    ExemptListener {
        /// Listener that is excluded, or no longer.
        listener: ListenerId,
        /// True if the listener is excluded from now on.
        exempt: bool,
    },
    /// Let SYNs beyond the limits of replies go to this listener's stack from now on, or those with a token alone. At a
    /// new listener they need one. An earlier run leaves no listener where they pass without.
    PassExcess {
        /// Listener with cookies.
        listener: ListenerId,
        /// True if they pass.
        pass: bool,
    },
    /// Send no cookies to these clients at this listener from now on, and cookies to the others where they are active. At
    /// a new listener, and at one of an earlier run, there are no such clients.
    WithholdCookies {
        /// Listener, which may have cookies.
        listener: ListenerId,
        /// The clients.
        from: Vec<Withheld>,
    },
    /// Set the kernel's action on a rule match.
    SetMode(Mode),
    /// Let so many SYNs a second to closed ports go to the host's own stack, which refuses them; `None`:
    /// all of them. The others are dropped in enforce mode and counted in the others.
    LimitClosedPorts {
        /// SYNs a second, on all CPUs together.
        per_second: Option<u32>,
        /// True if the stack's resets leave where they are not seen. A port is then held to be closed when a SYN
        /// comes there.
        unseen: bool,
    },
    /// Drop frames with headers that go on beyond the parser's bounds, as far as the configuration leaves
    /// that to the engine, or stop dropping them.
    DropBeyondBounds(bool),
    /// Track one flow in `2^shift` in detail from now on.
    SetSampling {
        /// The new shift.
        shift: u8,
    },
    /// Keep the headers of some SYNs to this listener from now on, and hand them to
    /// [`crate::Engine::handle_headers`] before each sample.
    SampleSyns {
        /// Listener of the SYNs.
        listener: ListenerId,
        /// Share of the SYNs: one in `2^shift`; `None`: none.
        shift: Option<u8>,
    },
    /// Read the sampled flows and hand them to [`crate::Engine::handle_flows`] in this same poll.
    InspectFlows,
    /// Ask the kernel for the routes of replies to these sources, and hand the result to
    /// [`crate::Engine::handle_routes`] in this same poll. Where the kernel cannot be asked, nothing need be
    /// done: then counts decide whether replies are seen.
    LookUpRoutes(Vec<RouteQuestion>),
    /// Count the half-open handshakes of local listeners at the next poll (a walk over all sockets).
    CountHalfOpen,
    /// Remove the flood's half-open entries of this local listener from the kernel's SYN queue.
    CleanHalfOpen {
        /// Listener of the SYN queue.
        listener: ListenerId,
        /// Criteria for the entries to remove.
        clean_up: CleanUp,
        /// Greatest number of entries to remove.
        limit: u32,
    },
    /// Send an alert.
    Alert {
        /// The event.
        event: Event,
        /// The incident it belongs to, as it is now.
        incident: Option<Box<IncidentReport>>,
    },
}

impl Command {
    /// Returns whether it changes the rules in the kernel.
    pub const fn changes_rules(&self) -> bool {
        matches!(
            self,
            Self::InstallRule(_)
                | Self::RenewRule { .. }
                | Self::RemoveRule { .. }
                | Self::ReplaceRules { .. }
        )
    }
}
