//! Events: what an alert reports, and the actions that an incident lists.

use std::net::IpAddr;

use ipnet::IpNet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::facts::{EndFacts, IncidentFacts};
use crate::evidence::{IncidentClass, Severity};
use crate::input::{
    Family, FleetName, Listener, Matcher, Mitigation, Mode, Order, Origin, Ports, RuleId,
    RuleReason, describe,
};
use crate::mitigation::{Harm, HeldBack, MitigationReason};
use crate::rules::RemovalReason;

/// One event with its facts. Its name is the same in JSON and in the journal.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[derive(IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// A flood was detected.
    AttackStarted(Box<IncidentFacts>),
    /// A flood has grown, changed its class, or was acted on.
    AttackUpdated(Box<IncidentFacts>),
    /// A flood is over.
    AttackEnded(Box<EndFacts>),
    /// Handshakes fail without evidence of an attack.
    HandshakesDegraded(Box<IncidentFacts>),
    /// More is known of failed handshakes.
    HandshakesUpdated(Box<IncidentFacts>),
    /// Handshakes complete again.
    HandshakesRecovered(Box<EndFacts>),
    /// An incident of another class was detected.
    IncidentStarted(Box<IncidentFacts>),
    /// More is known of an incident of another class.
    IncidentUpdated(Box<IncidentFacts>),
    /// An incident of another class is over.
    IncidentEnded(Box<EndFacts>),
    /// A rule was installed.
    RuleInstalled {
        /// The rule.
        rule: NamedRule,
        /// Origin of the rule.
        origin: Origin,
        /// Reason for the rule.
        reason: RuleReason,
        /// The mode, which decides whether it drops.
        mode: Mode,
        /// Terms of an operator's rule.
        terms: Option<RuleTerms>,
    },
    /// An incident gets no rule, or not that rule.
    RuleDeclined {
        /// The rule; `None` where there is none to name.
        target: Option<Target>,
        /// The reason.
        why: RuleObstacle,
    },
    /// A rule would have been made, but the agent holds rules back.
    RuleAdvised {
        /// The rule.
        target: Target,
        /// The cause.
        why: HeldBack,
    },
    /// Rules were removed.
    RuleRemoved {
        /// Number of these rules.
        rules: u64,
        /// The rule where it is one.
        rule: Option<NamedRule>,
        /// The reason.
        why: RemovalReason,
    },
    /// The agent withdrew a rule because it did harm.
    RuleWithdrawn {
        /// The rule.
        rule: NamedRule,
        /// The harm.
        why: RemovalReason,
        /// Replacement of the rule.
        then: Fallback,
    },
    /// The kernel did not take rules.
    RuleFailed {
        /// The rule; `None` for the replacement of all rules.
        rule: Option<NamedRule>,
        /// The kernel's error.
        error: String,
        /// Seconds after which it is retried; `None`: it is not.
        retry_s: Option<u64>,
    },
    /// An operator imported rules.
    RulesImported {
        /// User id of the operator.
        uid: u32,
        /// Rules that were not there before.
        added: u32,
        /// Rules that were there before.
        kept: u32,
        /// Rules that were removed.
        removed: u32,
        /// Rules that are there now.
        total: u32,
        /// Imported rules that are pending confirmation.
        pending: u32,
        /// Seconds within which these must be confirmed.
        confirm_s: Option<u64>,
    },
    /// An operator confirmed rules.
    RuleConfirmed {
        /// User id of the operator.
        uid: u32,
        /// Number of these rules.
        rules: u64,
        /// The rule where it is one.
        rule: Option<NamedRule>,
        /// Seconds until it expires.
        left_s: Option<u64>,
    },
    /// A rule was rolled back because no operator confirmed it in time.
    RuleReverted {
        /// The rule.
        rule: NamedRule,
        /// The rule that it had replaced.
        restored: Option<Restored>,
    },
    /// A mitigation was started, or changed its rate.
    MitigationStarted {
        /// Listener of the mitigation.
        listener: Listener,
        /// True if it stands for others that are reported together with it.
        with_others: bool,
        /// The mitigation.
        mitigation: Mitigation,
        /// SYNs per second that a SYN rate limit lets pass.
        rate: Option<u32>,
        /// The reason.
        why: MitigationReason,
    },
    /// A mitigation was stopped.
    MitigationStopped {
        /// Listener of the mitigation.
        listener: Listener,
        /// True if it stands for others that are reported together with it.
        with_others: bool,
        /// The mitigation.
        mitigation: Mitigation,
        /// The reason.
        why: MitigationReason,
    },
    /// A mitigation was withdrawn because it did harm.
    MitigationWithdrawn {
        /// Listener of the mitigation.
        listener: Listener,
        /// The mitigation.
        mitigation: Mitigation,
        /// Family of the clients from whom it is withheld, while those of the other have it; `null` where it was
        /// stopped.
        family: Option<Family>,
        /// Server addresses whose clients it is withheld from, while those of the listener's other addresses have it;
        /// empty where it is withheld from all addresses.
        addresses: Vec<IpAddr>,
        /// The harm.
        harm: Harm,
        /// Seconds after which it is retried; `None`: not before the host's set-up changes.
        retry_s: Option<u64>,
    },
    /// A mitigation could not be started.
    MitigationFailed {
        /// Listener of the mitigation.
        listener: Listener,
        /// The mitigation.
        mitigation: Mitigation,
        /// The obstacle, in the words of the agent or the kernel.
        error: String,
        /// Remedy of the obstacle; left out where none is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remedy: Option<String>,
        /// Seconds after which it is retried; `None`: in a moment.
        retry_s: Option<u64>,
    },
    /// A mitigation would have been started in mode `enforce`.
    MitigationAdvised {
        /// The mitigation.
        mitigation: Mitigation,
        /// The reason.
        why: MitigationReason,
    },
    /// An operator ordered a mitigation, forbade it, or left it to the agent again.
    MitigationOrdered {
        /// Listener of the mitigation.
        listener: Listener,
        /// The mitigation.
        mitigation: Mitigation,
        /// The order.
        order: Order,
        /// User id of the operator.
        uid: u32,
        /// Seconds for which the order counts.
        lifetime_s: u64,
    },
    /// The accept queue of a listener is full beside a flood: the application keeps clients out, and no rule helps.
    ListenerOverloaded {
        /// The listener.
        listener: Listener,
        /// Connections in its accept queue; `None` where it cannot be read.
        accept_queue: Option<u32>,
        /// Connections that the queue has room for, likewise.
        accept_limit: Option<u32>,
    },
    /// An operator exempted sources.
    AllowAdded {
        /// The sources.
        #[schemars(with = "String")]
        net: IpNet,
        /// User id of the operator; 0 for an operator of the fleet.
        uid: u32,
        /// The rule of the fleet; left out: an operator of this host exempted them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fleet: Option<FleetName>,
        /// Seconds for which they are exempt.
        lifetime_s: u64,
        /// Reason, in the operator's words.
        reason: String,
    },
    /// An exemption ended.
    AllowRemoved {
        /// The sources.
        #[schemars(with = "String")]
        net: IpNet,
        /// User id of the operator who revoked it; `None`: it expired, or the fleet revoked it.
        uid: Option<u32>,
        /// The rule of the fleet that was revoked with it; left out: there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fleet: Option<FleetName>,
    },
    /// The mode was changed.
    ModeChanged {
        /// User id of the operator; `None`: the agent changed it.
        uid: Option<u32>,
        /// The mode before.
        from: Mode,
        /// The mode now.
        to: Mode,
    },
    /// The class of an incident changed.
    ClassChanged {
        /// The class now.
        class: IncidentClass,
    },
    /// A listener is reported in the incident of several.
    ListenerJoined {
        /// The listener.
        listener: Listener,
        /// Its class.
        class: IncidentClass,
    },
    /// Number of listeners that an incident concerned in all.
    ListenersCounted {
        /// Number of these listeners.
        listeners: u64,
    },
    /// A listener is excluded from the rules for every listener, because its clients match them.
    ListenerExempted {
        /// The listener.
        listener: Listener,
    },
    /// A source scans.
    ScannerFound {
        /// The source.
        source: IpAddr,
        /// Its one port; `None`: it tries many.
        port: Option<u16>,
        /// True if it tries many addresses.
        many_addresses: bool,
    },
    /// Handshakes failed evenly for so long that their share counts as baseline.
    BaselineRaised {
        /// The share, 0 to 1.
        share: f64,
    },
    /// SYNs to closed ports are limited.
    ClosedPortsLimited {
        /// SYNs per second that the stack still refuses.
        per_second: u32,
        /// True if the others are dropped; false if they would be in mode `enforce`.
        enforced: bool,
    },
    /// Unreadable frames are dropped.
    UnreadableDropped {
        /// True if they are dropped; false if they would be in mode `enforce`.
        enforced: bool,
    },
    /// The agent was restarted while the incident was open.
    AgentRestarted,
    /// The agent ended while the incident was open.
    AgentEnded,
}

/// A rule with its number.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct NamedRule {
    /// Its number.
    pub id: RuleId,
    /// SYNs that it matches.
    pub target: Target,
}

/// SYNs that a rule matches.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// SYNs from these sources.
    Source {
        /// The sources.
        #[schemars(with = "String")]
        net: IpNet,
        /// Local ports; empty: every port.
        #[schemars(with = "Vec<u16>")]
        ports: Ports,
    },
    /// SYNs with this signature.
    Signature {
        /// Fields of the signature, in p0f-like words.
        signature: String,
    },
}

impl Target {
    /// The SYNs that a rule with this matcher matches.
    pub fn of(matcher: &Matcher) -> Self {
        match matcher {
            Matcher::Source(net, ports) => Self::Source { net: *net, ports: *ports },
            Matcher::Signature { mask, fingerprint, .. } => {
                Self::Signature { signature: describe(*mask, fingerprint) }
            }
        }
    }
}

/// Terms of an operator's rule.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RuleTerms {
    /// Seconds until it expires.
    pub lifetime_s: u64,
    /// Seconds within which it must be confirmed; `None`: it needs no confirmation.
    pub confirm_s: Option<u64>,
    /// The rule that it replaces.
    pub replaces: Option<RuleId>,
}

/// Reason that a rule is not made.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RuleObstacle {
    /// All rule slots are taken.
    SlotsTaken,
    /// The most frequent signature covers too little of the flood.
    SmallCoverage {
        /// Its share of the failed handshakes, 0 to 1.
        coverage: f64,
    },
    /// Clients have the same fingerprint.
    ClientsMatch,
    /// The SYNs are retransmitted, as those of clients are.
    Retransmitted,
    /// An earlier rule of this kind did harm.
    Refused,
    /// No signature separates the flood from clients.
    Inseparable,
    /// The SYNs can be answered, and a SYN proves nothing about its source.
    Answered,
    /// No other source sends SYNs.
    Alone,
    /// The incident has as many rules against sources as it may have.
    SourceLimit {
        /// The number of listeners.
        limit: u64,
    },
    /// The source is exempt.
    Exempt {
        /// The exemption, as protected prefixes and the allowlist describe it.
        what: String,
    },
    /// Clients at the same address complete handshakes.
    ClientsBehind,
}

/// Replacement of a withdrawn rule.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fallback {
    /// SYN cookies answer its SYNs.
    Cookies,
    /// Hardly any other SYNs hit it, so nothing needs to.
    Nothing,
    /// The rule may be made again.
    Retry {
        /// Seconds until then.
        after_s: u64,
    },
}

/// A rule that takes the place of one that was rolled back.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Restored {
    /// SYNs that it matches.
    pub target: Target,
    /// Its number; `None`: all rule slots were taken.
    pub rule: Option<RuleId>,
}

impl Event {
    /// The event that reports an incident which was last reported as `before`.
    pub(crate) fn news(before: Option<IncidentClass>, facts: IncidentFacts) -> Self {
        let degraded = |class| class == IncidentClass::HandshakeDegraded;
        let other = |class: IncidentClass| !class.is_flood() && !degraded(class);
        let (class, facts) = (facts.class, Box::new(facts));
        match before {
            Some(before) if class.is_flood() && before.is_flood() => Self::AttackUpdated(facts),
            _ if class.is_flood() => Self::AttackStarted(facts),
            Some(before) if degraded(class) && degraded(before) => Self::HandshakesUpdated(facts),
            _ if degraded(class) => Self::HandshakesDegraded(facts),
            Some(before) if other(before) => Self::IncidentUpdated(facts),
            _ => Self::IncidentStarted(facts),
        }
    }

    /// The event that reports the end of an incident.
    pub(crate) fn end(facts: EndFacts) -> Self {
        match facts.class {
            IncidentClass::HandshakeDegraded => Self::HandshakesRecovered(Box::new(facts)),
            class if class.is_flood() => Self::AttackEnded(Box::new(facts)),
            _ => Self::IncidentEnded(Box::new(facts)),
        }
    }

    /// The name in JSON and in the journal.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// The severity of its alert.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::AttackStarted(facts)
            | Self::AttackUpdated(facts)
            | Self::HandshakesDegraded(facts)
            | Self::HandshakesUpdated(facts)
            | Self::IncidentStarted(facts)
            | Self::IncidentUpdated(facts) => facts.class.severity(),
            Self::RuleWithdrawn { .. }
            | Self::RuleFailed { .. }
            | Self::RuleReverted { .. }
            | Self::MitigationWithdrawn { .. }
            | Self::MitigationFailed { .. }
            | Self::ListenerOverloaded { .. } => Severity::Warning,
            _ => Severity::Notice,
        }
    }

    /// The rule that it is about, where it is one.
    pub const fn rule(&self) -> Option<&NamedRule> {
        match self {
            Self::RuleInstalled { rule, .. }
            | Self::RuleWithdrawn { rule, .. }
            | Self::RuleReverted { rule, .. } => Some(rule),
            Self::RuleRemoved { rule, .. }
            | Self::RuleFailed { rule, .. }
            | Self::RuleConfirmed { rule, .. } => rule.as_ref(),
            _ => None,
        }
    }

    /// The prefix that it is about, where a rule or exemption for one is.
    pub fn prefix(&self) -> Option<IpNet> {
        match (self, self.rule().map(|rule| &rule.target)) {
            (Self::AllowAdded { net, .. } | Self::AllowRemoved { net, .. }, _)
            | (_, Some(Target::Source { net, .. })) => Some(*net),
            _ => None,
        }
    }
}
