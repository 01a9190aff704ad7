//! Responses to requests of operators, and reasons for which one is refused.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::ListenerReport;
use crate::input::{ClientsWithin, Listener, Mitigation, Mode, RuleId, Which, Whose};
use crate::rules::{AllowReport, RuleReport};

/// Changes that an import made, or would make ([`crate::Request::ImportRules`]).
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ImportReport {
    /// Number of rules that were not there before.
    pub added: u32,
    /// Number of rules that replace one on the same prefix and ports. They keep its hits.
    pub kept: u32,
    /// Number of rules that were removed.
    pub removed: u32,
    /// Number of rules that are there now, of any origin.
    pub total: u32,
    /// Number of imported rules that are pending confirmation: they end soon without it.
    pub pending_confirmation: u32,
}

/// Result of a [`crate::Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The rule that now exists.
    Blocked {
        /// The rule.
        rule: RuleReport,
        /// The rule for other ports that it replaced.
        replaces: Option<Box<RuleReport>>,
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

/// Reason that a [`crate::Request`] was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequestError {
    /// `net` has addresses in common with a protected prefix.
    Protected {
        /// The requested prefix.
        net: IpNet,
        /// The protected prefix.
        covers: IpNet,
        /// Description of that prefix ("default gateway", "own address", …).
        what: String,
    },
    /// `net` holds validated clients.
    Clients {
        /// The requested prefix.
        net: IpNet,
        /// The validated clients within it.
        clients: ClientsWithin,
    },
    /// `net` is wider than rules may be without force: see [`crate::Limits`].
    TooWide {
        /// The requested prefix.
        net: IpNet,
        /// Length of the shortest prefix that needs no force.
        shortest: u8,
    },
    /// Some rules of an import cannot be; none of it was done.
    Import {
        /// Refused rules, by their position in the request counted from 0, and the reasons.
        refused: Vec<(usize, RequestError)>,
    },
    /// A prefix that stands in an import a second time.
    Twice {
        /// The prefix that stands there twice.
        net: IpNet,
        /// Position of the first one in the request, counted from 0.
        first: usize,
    },
    /// No rule matches.
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
    NotPending {
        /// The requested prefix. `None`: anywhere.
        net: Option<IpNet>,
    },
    /// Nothing within `net` is on the allowlist.
    NotAllowed {
        /// The requested prefix.
        net: IpNet,
    },
    /// No such listener is monitored.
    NoListener {
        /// The requested listener.
        listener: Listener,
    },
    /// A mitigation that cannot be started by an operator's order.
    DoneByRules {
        /// The mitigation that was ordered.
        mitigation: Mitigation,
    },
    /// The allowlist is full.
    AllowlistFull {
        /// Number of slots of the allowlist.
        limit: u32,
    },
    /// There are as many rules as there can be.
    Full {
        /// Number of rules for which there is room.
        limit: u32,
    },
}
