//! Documents about rules, exemptions, mitigations and the mode: the results of changes, as the agent reports them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{ClientsWithin, ImportReport, Mode};

use super::{Allowed, Listener, ModeRevert, Rule};

/// Document that `tcpguard rules list --json` prints.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RuleList {
    /// Rules that are wanted in the kernel and pass the filter options of the command.
    pub rules: Vec<Rule>,
    /// Prefixes of the allowlist that pass the same options.
    pub allowed: Vec<Allowed>,
}

/// Output of `tcpguard block --json`, once for each prefix.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Blocked {
    /// The new rule; in a dry run, the rule that would be made.
    pub rule: Rule,
    /// The rule on the same prefix for other ports that it replaces; `null` where there is none.
    pub replaces: Option<Box<Rule>>,
    /// True if this was a dry run, in which no rule was made.
    pub dry_run: bool,
    /// Numbers of validated clients that the rule cuts off.
    pub clients: ClientsWithin,
}

/// Output of `tcpguard unblock --json` and of `tcpguard rules flush --json`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Unblocked {
    /// The removed rules; in a dry run, the rules that would be removed.
    pub removed: Vec<Rule>,
    /// True if this was a dry run, in which no rule was removed.
    pub dry_run: bool,
}

/// Output of `tcpguard rules import --json`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Import {
    /// Changes that the import made, or would make.
    pub imported: ImportReport,
    /// True if nothing was changed (`--dry-run`).
    pub dry_run: bool,
}

/// Output of `tcpguard allow --json`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Allowance {
    /// Exemption that now exists.
    pub allowed: Allowed,
}

/// Output of `tcpguard disallow --json`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Disallowed {
    /// Exemptions that were removed.
    pub removed: Vec<Allowed>,
}

/// Output of `tcpguard mitigation --json`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Ordered {
    /// The listener, with its mitigations after the order.
    pub listener: Listener,
}

/// Output of `tcpguard mode --json`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ModeShown {
    /// The present mode.
    pub mode: Mode,
    /// The previous mode; absent where the mode was only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Mode>,
    /// Pending reversion of the mode, with its time; `null` when the mode stays.
    pub ends: Option<ModeRevert>,
}

/// Output of `tcpguard confirm --json`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Confirmed {
    /// The mode that was confirmed; `null` where it was not pending confirmation.
    pub mode: Option<Mode>,
    /// Reversion of that mode which is still to come (`--for`); `null` when the mode stays.
    pub ends: Option<ModeRevert>,
    /// Rules that were confirmed, and stay until they expire.
    pub rules: Vec<Rule>,
}

/// Document that `tcpguard reload --json` prints.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Reloaded {
    /// Configuration keys with new values that are in effect from now on.
    pub applied: Vec<String>,
    /// Configuration keys with new values that take effect only after a restart of the agent.
    pub waiting: Vec<String>,
}

/// Document that `tcpguard detach --json` prints.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Detached {
    /// Names of the interfaces from which the BPF programs were detached, sorted.
    pub detached: Vec<String>,
}
