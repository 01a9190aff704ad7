//! Requests of operators to the engine, and its responses.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::report::{AllowReport, ListenerReport, Mode, RuleReport};
use crate::{Listener, Matcher, Mitigation, Order, Ports, Rule, RuleId};

/// A change asked for on the control socket.
#[derive(Clone, Debug, PartialEq)]
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
        /// User id of the operator.
        uid: u32,
        /// Permission for the rule to touch a protected or very wide prefix, or to hold clients.
        force: Force,
        /// The validated clients within `net`, which the rule would cut off.
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
    /// Replace all rules that operators made with these, all at once or not at all. Rules of the agent
    /// stay, but for those over exactly the same prefix and ports, which become the operator's.
    ImportRules {
        /// The rules.
        rules: Vec<RuleToImport>,
        /// True if the operators' other rules stay as they are: then rules are only added and changed.
        merge: bool,
        /// User id of the operator.
        uid: u32,
        /// Permission for the rules to touch a protected or very wide prefix.
        force: Force,
    },
    /// Let rules stay that wait for an operator's confirmation.
    ConfirmRules {
        /// Prefix of the rules that may stay; without it all of them may.
        net: Option<IpNet>,
        /// User id of the operator.
        uid: u32,
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
        /// User id of the operator.
        uid: u32,
        /// True if the prefix may be very wide.
        force: bool,
    },
    /// Revoke every exemption within `net` that an operator asked for.
    Disallow {
        /// Sources that are no longer exempt.
        net: IpNet,
        /// User id of the operator.
        uid: u32,
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
        /// User id of the operator.
        uid: u32,
    },
    /// Change the effect of a matching rule.
    SetMode {
        /// The new mode.
        mode: Mode,
        /// User id of the operator.
        uid: u32,
    },
}

/// Validated clients within a prefix: sources that completed a handshake within the last 10 minutes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct ClientsWithin {
    /// Number of these clients.
    pub known: u32,
    /// Number of these that completed a handshake within the last minute.
    pub last_minute: u32,
}

impl std::fmt::Display for ClientsWithin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = if self.known == 1 { "" } else { "s" };
        write!(f, "{} validated client{s}", self.known)?;
        write!(f, " ({} connected within the last minute)", self.last_minute)
    }
}

/// Choice of the rules to remove.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    /// Rules over sources that lie within.
    Within(IpNet),
    /// The rule with this number.
    Numbered(RuleId),
    /// All rules, in one step.
    All,
}

/// Origin of the rules to remove.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// Rules that operators made.
    Operators,
    /// Rules that the agent made for incidents.
    Incidents,
    /// Rules of either origin.
    All,
}

/// Permission for a rule that would cut off sources that the host or its operator needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
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

/// Result of [`Request::ImportRules`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ImportReport {
    /// Rules that were not there before.
    pub added: u32,
    /// Rules over a prefix that was blocked to the same ports before, with the new lifetime and reason.
    /// Their hits go on.
    pub kept: u32,
    /// Rules that are there no longer.
    pub removed: u32,
    /// Rules that are there now, of any origin.
    pub total: u32,
    /// Number of imported rules that wait for an operator's confirmation.
    pub pending_confirmation: u32,
}

/// Result of a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The rule that now exists.
    Blocked {
        /// The rule.
        rule: RuleReport,
        /// The clients that it cuts off.
        clients: ClientsWithin,
    },
    /// The rules that were removed; never empty.
    Unblocked(Vec<RuleReport>),
    /// Result of the import of operators' rules.
    Imported(ImportReport),
    /// The rules that stay now; never empty.
    Confirmed(Vec<RuleReport>),
    /// The exemption that now exists.
    Allowed(AllowReport),
    /// The exemptions that were removed; never empty.
    Disallowed(Vec<AllowReport>),
    /// The listener with its mitigations as they are now.
    MitigationOrdered(Box<ListenerReport>),
    /// The mode before.
    ModeSet {
        /// The mode before.
        was: Mode,
    },
}

/// Reason that a [`Request`] was refused. Each message names the situation and the way out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// `net` has addresses in common with a protected prefix.
    #[error(
        "{net} touches {covers}, which is protected ({what}): block something else, or force it"
    )]
    Protected {
        /// The requested prefix.
        net: IpNet,
        /// The protected prefix.
        covers: IpNet,
        /// Description of that prefix ("default gateway", "own address", …).
        what: String,
    },
    /// `net` holds validated clients.
    #[error("{net} holds {clients}: block something else, or force it")]
    Clients {
        /// The requested prefix.
        net: IpNet,
        /// The validated clients within it.
        clients: ClientsWithin,
    },
    /// `net` is wider than rules may be without force: see [`crate::Limits`].
    #[error("{net} is wider than a rule may be: block smaller prefixes, or force it")]
    TooWide {
        /// The requested prefix.
        net: IpNet,
    },
    /// Some rules of an import cannot be; none of it was done.
    #[error("{} of the rules cannot be imported, so none was", .refused.len())]
    Import {
        /// Refused rules, by their position in the request counted from 0, and the reasons.
        refused: Vec<(usize, RequestError)>,
    },
    /// A prefix that stands in an import a second time.
    #[error("{net} is there twice: leave one")]
    Twice {
        /// The prefix that stands there twice.
        net: IpNet,
        /// Position of the first one in the request, counted from 0.
        first: usize,
    },
    /// No rule matches.
    #[error("there is no such rule: see which exist")]
    NotFound {
        /// The rules to remove.
        which: Which,
        /// Origin of these rules.
        whose: Whose,
        /// A rule over a wider prefix, which drops the requested sources.
        wider: Option<(RuleId, IpNet)>,
        /// Number of rules for incidents that there are, where those of operators were asked for.
        automatic: u32,
    },
    /// No rule waits for an operator's word.
    #[error("no rule waits to be confirmed: see which exist")]
    NotPending {
        /// The requested prefix. `None`: anywhere.
        net: Option<IpNet>,
    },
    /// Nothing within `net` is on the allowlist.
    #[error("nothing within {net} is on the allowlist: see what is")]
    NotAllowed {
        /// The requested prefix.
        net: IpNet,
    },
    /// No such listener is followed.
    #[error(
        "nothing listens at {listener} that the guard follows: see tcpguard status --listeners"
    )]
    NoListener {
        /// The requested listener.
        listener: Listener,
    },
    /// A mitigation that cannot be started by an operator's order.
    #[error(
        "{} is done by rules: block a prefix by hand (tcpguard block PREFIX), or forbid the step",
        .mitigation.name()
    )]
    DoneByRules {
        /// The mitigation that was ordered.
        mitigation: Mitigation,
    },
    /// The allowlist is full.
    #[error(
        "all {limit} places of the allowlist are taken: take some back, or allow wider prefixes"
    )]
    AllowListFull {
        /// Number of slots of the allowlist.
        limit: u32,
    },
    /// There are as many rules as there can be.
    #[error(
        "there is room for {limit} rules, of which one for certain ports counts once for each: take some \
         back first, or make more room (policy.rules)"
    )]
    Full {
        /// Number of rules for which there is room.
        limit: u32,
    },
}
