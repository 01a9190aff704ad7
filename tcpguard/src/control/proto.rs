//! The messages. A client sends a [`Call`] and receives one [`Response`]; it may send more calls
//! on the same connection, one at a time.

mod brief;
mod parse;

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use strum::{EnumTryAs, IntoStaticStr};
pub use tcpguard_engine::Request as Change;
use tcpguard_engine::{Mode, Which};
use tcpguard_host::hint::Failure;

use crate::config::Held;
use crate::documents::history::History;
use crate::documents::timeline::Timeline;
use crate::documents::{
    AlertPage, Allowance, Blocked, CapturedSyns, Confirmed, Detached, Disallowed, Explanation,
    FullIncident, Import, Incidents, ModeShown, Ordered, Reloaded, RuleList, Status, Unblocked,
};
pub use parse::{check, check_terms, parse};

/// Version of these messages; a server refuses every other.
pub const VERSION: u32 = 1;
/// Longest request on the status socket, in bytes without the final NUL.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Longest request on the control socket, which only root reaches: as many rules as there can be,
/// each with a long reason.
pub const MAX_CHANGE: usize = 64 << 20;
/// Longest time for which a mode can be set, in seconds: 30 days.
pub const MAX_MODE_S: u64 = 30 * 86_400;
/// Longest reason of a rule, in bytes.
pub const MAX_REASON: usize = 200;

/// One request with the version it is written in.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Version of the messages, [`VERSION`].
    pub version: u32,
    pub request: Request,
}

/// A request of a client. Requests that change something are legal on the control socket only. The
/// others are legal on both sockets.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "method", content = "parameters", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The whole status. Always legal.
    Status,
    /// The rules. Always legal.
    Rules,
    /// The mode. Always legal.
    Mode,
    /// The alerts that were raised after a certain one. Always legal.
    Alerts {
        /// Number of that alert; 0 for all that are remembered.
        since: u64,
    },
    /// The decisions about a prefix. Always legal.
    Explain {
        /// Prefix of the sources.
        prefix: IpNet,
        /// Port of this host to which the SYNs go; `null`: any.
        port: Option<u16>,
    },
    /// The open incidents and those on record. Always legal.
    Incidents,
    /// The evidence by which an attack was judged. Always legal.
    ExplainIncident {
        /// Number of the incident.
        id: u64,
    },
    /// The counters of an attack over time. Always legal.
    Timeline {
        /// Number of the incident.
        id: u64,
    },
    /// The rates of the last five minutes, second by second. Always legal.
    History,
    /// The settings that hold, and where each comes from. Always legal.
    Effective,
    /// The sampled headers of SYNs that XDP dropped or answered. A change, because they are sampled for 3 s from then
    /// on.
    CapturedSyns {
        /// Number of the last one that is known; `null`: those that arrive from now on.
        after: Option<u64>,
    },
    /// Change rules, exemptions or mitigations. A change, unless only its effect is asked for. An import is one
    /// in any case, because only the control socket takes messages so long.
    Change {
        /// The change, which the engine carries out. Reasons have at most [`MAX_REASON`] bytes without control
        /// characters, and a rule or exemption lives for at least 1 s.
        change: Change,
        /// True if only the effect is reported, without changing anything.
        dry_run: bool,
    },
    /// Set the mode: for good, or so that it reverts by itself to the last one that was set for good. A change.
    SetMode {
        mode: Mode,
        /// Time after which the mode reverts, in s; at most [`MAX_MODE_S`].
        for_s: Option<u64>,
        /// Time after which the mode reverts, in s, unless [`Request::Confirm`] comes before; shorter than
        /// `for_s`.
        rollback_after_s: Option<u64>,
    },
    /// Read the configuration again and apply it. A change.
    Reload,
    /// Detach the BPF programs from interfaces until the agent starts again. A change.
    Detach {
        /// Names of the interfaces; none for all.
        interfaces: Vec<String>,
    },
    /// Keep the changes that are pending confirmation. A change.
    Confirm {
        /// Prefix of the rules to keep; `null`: the mode and all rules.
        net: Option<IpNet>,
    },
}

impl Request {
    /// Returns whether it changes the behaviour of the agent, which only the control socket allows.
    pub const fn is_change(&self) -> bool {
        match self {
            Self::Status
            | Self::Rules
            | Self::Mode
            | Self::Alerts { .. }
            | Self::Explain { .. }
            | Self::Incidents
            | Self::ExplainIncident { .. }
            | Self::Timeline { .. }
            | Self::History
            | Self::Effective => false,
            Self::Change { change, dry_run } => {
                !*dry_run || matches!(change, Change::ImportRules { .. })
            }
            Self::SetMode { .. }
            | Self::Reload
            | Self::Detach { .. }
            | Self::Confirm { .. }
            | Self::CapturedSyns { .. } => true,
        }
    }

    /// Returns whether it only asks for the effect of a change.
    pub const fn is_dry_run(&self) -> bool {
        matches!(self, Self::Change { dry_run: true, .. })
    }

    /// Returns whether it replaces a rule set by another one.
    pub const fn replaces_rules(&self) -> bool {
        matches!(
            self,
            Self::Change {
                change: Change::ImportRules { .. } | Change::Unblock { which: Which::All, .. },
                dry_run: false,
            }
        )
    }
}

impl From<Change> for Request {
    fn from(change: Change) -> Self {
        Self::Change { change, dry_run: false }
    }
}

/// The agent's response: an object with one key, the word for its type. As a field beside its content, the
/// word might come after it. To be ready for that, the code that reads a status would exist twice.
#[derive(Clone, Debug, Deserialize, EnumTryAs, IntoStaticStr, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Response {
    /// Response to [`Request::Status`].
    Status(Box<Status>),
    /// Response to [`Request::Rules`]: every rule wanted in the kernel, and the allowlist.
    Rules(RuleList),
    /// Response to [`Change::Allow`].
    Allowed(Allowance),
    /// Response to [`Change::Disallow`].
    Disallowed(Disallowed),
    /// Response to [`Request::Mode`] and [`Request::SetMode`].
    Mode(ModeShown),
    /// Response to [`Request::Explain`].
    Explained(Box<Explanation>),
    /// Response to [`Request::Incidents`].
    Incidents(Box<Incidents>),
    /// Response to [`Request::ExplainIncident`].
    IncidentExplained(Box<FullIncident>),
    /// Response to [`Request::Timeline`].
    Timeline(Box<Timeline>),
    /// Response to [`Request::History`].
    History(Box<History>),
    /// Response to [`Request::CapturedSyns`].
    CapturedSyns(CapturedSyns),
    /// Response to [`Request::Effective`].
    Effective(Effective),
    /// Response to [`Change::Block`].
    Blocked(Box<Blocked>),
    /// Response to [`Change::Unblock`].
    Unblocked(Unblocked),
    /// Response to [`Request::Confirm`].
    Confirmed(Confirmed),
    /// Response to [`Change::ImportRules`].
    Imported(Import),
    /// Response to [`Change::OrderMitigation`]: the listener with its mitigations as they are now.
    MitigationOrdered(Box<Ordered>),
    /// Response to [`Request::Reload`].
    Reloaded(Reloaded),
    /// Response to [`Request::Detach`].
    Detached(Detached),
    /// Response to [`Request::Alerts`].
    Alerts(AlertPage),
    /// Response to a request that was not carried out. It is the same in every version, so that both sides of an
    /// upgrade can read why they do not understand each other.
    Refused(Refusal),
}

/// The settings of an agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Effective {
    /// The main file of the configuration, if there is one.
    pub path: Option<PathBuf>,
    /// The files of the configuration, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// Every setting, in the order of the file.
    pub settings: Vec<Held>,
}

/// Refusal of a request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusal {
    /// Kind of the refusal, for programs.
    pub kind: RefusalKind,
    /// Message for people: the operation that failed, and the cause.
    pub message: String,
    /// The command or option that helps.
    pub hint: String,
    /// The rules of [`Change::ImportRules`] that are refused, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RefusedRule>,
}

/// A rule that cannot be imported.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RefusedRule {
    /// Its position in the request, counted from 0.
    pub index: usize,
    /// The reason.
    pub message: String,
}

/// Kinds of [`Refusal`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The message cannot be read, is too long or came too slowly.
    BadRequest,
    /// The message is of another version.
    Version,
    /// A change was asked for on the status socket.
    ReadOnly,
    /// There are too many connections or requests at once.
    Busy,
    /// The request would hit something that must not be hit.
    Protected,
    /// The request names something that does not exist, such as a rule or a listener.
    NotFound,
    /// There is no room for another rule.
    Full,
    /// The configuration contains mistakes.
    Invalid,
    /// The agent is stopping.
    Stopping,
    Failed,
    /// The request is done, and may be forgotten with this agent: it is not on the disk.
    Unstored,
}

impl Refusal {
    /// A refusal of the request as a whole.
    pub fn new(kind: RefusalKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: hint.into(), rules: Vec::new() }
    }

    /// A refusal because of `failure`.
    pub fn of(kind: RefusalKind, failure: Failure) -> Self {
        Self::new(kind, failure.message, failure.hint)
    }
}

impl Response {
    /// A [`Response::Refused`].
    pub fn refused(kind: RefusalKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(kind, message, hint))
    }

    /// Returns the word under which it is written: `{"mode":…}`.
    pub fn word(&self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests;
