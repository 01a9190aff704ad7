//! What an operator may ask of the engine, and what it answers.

use std::time::Duration;

use ipnet::IpNet;

use crate::report::{Mode, RuleReport};

/// A change asked for on the control socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Drop SYNs from `net` for `lifetime`.
    Block {
        /// Which sources.
        net: IpNet,
        /// For how long, at most [`crate::Limits::MAX_MANUAL_RULE`].
        lifetime: Duration,
        /// Why, in the operator's words.
        reason: String,
        /// Who asked.
        uid: u32,
        /// Block even what is protected or very wide.
        force: bool,
    },
    /// Take back every rule within `net` (source rules only), of either origin.
    Unblock {
        /// Which sources.
        net: IpNet,
    },
    /// Take back every rule.
    UnblockAll,
    /// Change what happens when a rule matches.
    SetMode {
        /// The new mode.
        mode: Mode,
        /// Who asked.
        uid: u32,
    },
}

/// What came of a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The rule that now exists.
    Blocked(RuleReport),
    /// The rules that were removed; never empty.
    Unblocked(Vec<RuleReport>),
    /// The mode before.
    ModeSet {
        /// What it was.
        was: Mode,
    },
}

/// Why a [`Request`] was refused. Each message names the situation and the way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequestError {
    /// `net` covers a protected prefix.
    Protected {
        /// What was asked for.
        net: IpNet,
        /// What it covers.
        covers: IpNet,
        /// What that is ("default gateway", "own address", …).
        what: String,
    },
    /// `net` is wider than rules may be without force.
    TooWide {
        /// What was asked for.
        net: IpNet,
    },
    /// No rule matches.
    NotFound {
        /// What was asked for.
        net: IpNet,
    },
    /// All rule slots are taken.
    Full {
        /// How many there are.
        limit: u32,
    },
}
