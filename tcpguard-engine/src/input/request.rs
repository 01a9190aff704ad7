//! Requests of operators to the engine, and its responses.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mitigation::{Mitigation, Order};
use super::mode::Mode;
use super::ports::Ports;
use super::rule::{Matcher, Rule, RuleId};
use super::sample::Listener;

/// A change asked for on the control socket.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Drop SYNs from `net` to `ports` for `lifetime` from now. If just that is blocked already, that
    /// rule becomes this one. If an operator blocks other ports of the same prefix, this replaces that
    /// rule. Rules of the agent stay beside one for certain ports.
    Block {
        /// Sources to block.
        net: IpNet,
        /// Local ports to which their SYNs are dropped.
        ports: Ports,
        /// Lifetime of the rule, cut to [`crate::Limits::MAX_MANUAL_RULE`].
        lifetime: Duration,
        /// Reason, in the operator's words.
        reason: String,
        /// Permission for the rule to touch a protected or very wide prefix, or to hold clients.
        force: Force,
        /// The validated clients within `net`, which the rule would cut off. The agent counts them.
        #[serde(skip)]
        clients: ClientsWithin,
    },
    /// Remove rules. An open incident asks for its own again after [`crate::Limits::REMOVED`] at the
    /// earliest, or after [`Order::Auto`] for their mitigation at its listener, or a mode, is requested.
    Unblock {
        /// Rules to remove.
        which: Which,
        /// Origin of the rules among these.
        whose: Whose,
    },
    /// Replace all rules that operators made with these, all at once or not at all. Rules of the agent and
    /// of the fleet stay, but for those over exactly the same prefix and ports, which become the operator's.
    ImportRules {
        /// The rules.
        rules: Vec<RuleToImport>,
        /// True if the operators' other rules stay as they are: then rules are only added and changed.
        merge: bool,
        /// Permission for the rules to touch a protected or very wide prefix.
        force: Force,
    },
    /// Let rules stay that wait for an operator's confirmation. The agent asks for it, as the mode may wait for the
    /// same confirmation.
    #[serde(skip)]
    ConfirmRules {
        /// Prefix of the rules that may stay; without it all of them may.
        net: Option<IpNet>,
    },
    /// Exempt sources from drops by source or signature for `lifetime` from now. Automatic rules
    /// that touch them are taken back; if they are allowed already, this replaces it.
    Allow {
        /// Sources to exempt.
        net: IpNet,
        /// Lifetime of the exemption, cut to [`crate::Limits::MAX_ALLOW`].
        lifetime: Duration,
        /// Reason, in the operator's words.
        reason: String,
        /// True if the prefix may be very wide.
        force: bool,
    },
    /// Revoke every exemption within `net` that an operator asked for.
    Disallow {
        /// Sources that are no longer exempt.
        net: IpNet,
    },
    /// Start a mitigation for a listener, or forbid it, for `lifetime` from now; or leave it to the agent
    /// again. A mitigation that rules do can only be forbidden: `Block` does the opposite.
    OrderMitigation {
        /// Listener of the mitigation.
        listener: Listener,
        /// Mitigation that is ordered.
        mitigation: Mitigation,
        /// The order for the mitigation.
        order: Order,
        /// Lifetime of the order, cut to [`crate::Limits::MAX_ORDER`].
        lifetime: Duration,
    },
    /// Change the effect of a matching rule. The agent asks for it, as it keeps the time of a mode.
    #[serde(skip)]
    SetMode {
        /// The new mode.
        mode: Mode,
    },
}

/// Validated clients within a prefix: sources that completed a handshake within the last 10 minutes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ClientsWithin {
    /// Number of validated clients.
    pub validated: u32,
    /// Number of these that completed a handshake within the last minute.
    pub last_minute: u32,
}

/// Choice of the rules to remove.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Which {
    /// Rules over sources that lie within.
    Within(IpNet),
    /// The rule with this number.
    Numbered(RuleId),
    /// All rules, in one step.
    All,
}

/// Origin of the rules to remove.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Whose {
    /// Rules that operators made.
    Operators,
    /// Rules that the agent made for incidents.
    Incidents,
    /// Rules that operators of the fleet made.
    Fleet,
    /// Rules of every origin.
    All,
}

/// Permission for a rule that would cut off sources that the host or its operator needs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Force {
    /// A rule that touches a protected or allowed prefix, or is very wide, is refused.
    No,
    /// Such a rule is made, but it ends unless [`Request::ConfirmRules`] comes in time. The rule that it
    /// replaced is then restored. A rule that needs no force stays as it was asked for.
    PendingConfirmation {
        /// Time in which it must be confirmed.
        within: Duration,
        /// Address from which the operator is logged in: an operator who is cut off cannot confirm.
        caller: Option<IpAddr>,
    },
    /// Such a rule is made, without a confirmation.
    ForGood,
}

/// One rule of [`Request::ImportRules`], or that of [`Request::Block`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleToImport {
    /// Sources to block.
    pub net: IpNet,
    /// Local ports to which their SYNs are dropped.
    pub ports: Ports,
    /// Lifetime from now, cut to [`crate::Limits::MAX_MANUAL_RULE`]. `None`: [`crate::Limits::MANUAL_RULE`],
    /// or as long as it is there already if that is longer.
    pub lifetime: Option<Duration>,
    /// Reason, in the operator's words; `None`: as it is there already.
    pub reason: Option<String>,
}

impl RuleToImport {
    /// Returns whether that is this rule.
    pub(crate) fn is(&self, rule: &Rule) -> bool {
        rule.matcher == Matcher::Source(self.net.trunc(), self.ports)
    }
}
