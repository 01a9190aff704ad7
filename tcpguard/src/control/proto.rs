//! The messages. A client sends a [`Call`] and receives one [`Response`]; it may send more calls
//! on the same connection, one at a time.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{Listener, Order, Step};

use crate::config::Held;
use crate::status::{AlertEntry, Allowed, AttackInFull, Explanation, Imported, Mode, Rule, Status};

/// Version of these messages; a server refuses every other.
pub const VERSION: u32 = 1;
/// Longest request on the status socket, in bytes without the final NUL.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Longest request on the control socket, which only root reaches: as many rules as there can be,
/// each with a long reason.
pub const MAX_CHANGE: usize = 8 << 20;
/// Longest reason of a rule, in bytes.
pub const MAX_REASON: usize = 200;

/// One request with the version it is written in.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked for.
    pub request: Request,
}

/// What a client may ask for. Requests that change something are legal on the control socket only;
/// the others on both.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "method", content = "parameters", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The whole status. Always legal.
    Status,
    /// The rules. Always legal.
    Rules,
    /// The mode. Always legal.
    Mode,
    /// The alerts of the last 24 hours. Always legal.
    Alerts,
    /// What decides about a prefix. Always legal.
    Explain {
        /// Which sources.
        prefix: IpNet,
    },
    /// What an attack was judged by. Always legal.
    ExplainAttack {
        /// Its number.
        id: u64,
    },
    /// The settings that hold, and where each comes from. Always legal.
    Effective,
    /// Drop SYNs from a prefix. A change, unless `dry_run` is set.
    Block {
        /// Which sources.
        prefix: IpNet,
        /// For how long, in seconds; at least 1.
        for_s: u64,
        /// Why; at most [`MAX_REASON`] bytes without control characters.
        reason: String,
        /// Block even what is protected or very wide.
        force: bool,
        /// Only say what would happen.
        dry_run: bool,
    },
    /// Exempt a prefix from drops by source or signature. A change.
    Allow {
        /// Which sources.
        prefix: IpNet,
        /// For how long, in seconds; at least 1.
        for_s: u64,
        /// Why; at most [`MAX_REASON`] bytes without control characters.
        reason: String,
        /// Allow even what is very wide.
        force: bool,
    },
    /// Take back every exemption within a prefix that an operator asked for. A change.
    Disallow {
        /// Which sources.
        prefix: IpNet,
    },
    /// Take back every source rule within a prefix. A change.
    Unblock {
        /// Which sources.
        prefix: IpNet,
    },
    /// Take back every rule. A change.
    UnblockAll,
    /// Put these rules in the place of all that operators made, all at once or not at all. A change
    /// also when `dry_run` is set: only the control socket takes messages so long.
    ImportRules {
        /// The rules.
        rules: Vec<ImportedRule>,
        /// Leave the operators' other rules as they are.
        merge: bool,
        /// Also what is protected or very wide.
        force: bool,
        /// Only say what would happen.
        dry_run: bool,
    },
    /// Take a step for a listener, forbid it, or leave it to the guard again. A change.
    OrderStep {
        /// Which listener.
        listener: Listener,
        /// Which step.
        step: Step,
        /// What is to become of it.
        order: Order,
        /// For how long, in seconds; at least 1.
        for_s: u64,
    },
    /// Set the mode. A change.
    SetMode {
        /// The new mode.
        mode: Mode,
    },
    /// Read the configuration again and apply it. A change.
    Reload,
    /// Take the filter off interfaces until the agent starts again. A change.
    Detach {
        /// Their names; none for all.
        interfaces: Vec<String>,
    },
}

impl Request {
    /// Whether it changes what the guard does, which only the control socket allows.
    pub const fn is_change(&self) -> bool {
        match self {
            Self::Status
            | Self::Rules
            | Self::Mode
            | Self::Alerts
            | Self::Explain { .. }
            | Self::ExplainAttack { .. }
            | Self::Effective => false,
            Self::Block { dry_run, .. } => !*dry_run,
            Self::ImportRules { .. }
            | Self::Allow { .. }
            | Self::Disallow { .. }
            | Self::Unblock { .. }
            | Self::UnblockAll
            | Self::OrderStep { .. }
            | Self::SetMode { .. }
            | Self::Reload
            | Self::Detach { .. } => true,
        }
    }

    /// Whether it puts a rule set in the place of another.
    pub const fn replaces_rules(&self) -> bool {
        matches!(self, Self::ImportRules { dry_run: false, .. } | Self::UnblockAll)
    }

    /// The request on one line of a log.
    pub fn in_brief(&self) -> String {
        match self {
            Self::ImportRules { rules, merge, force, dry_run } => format!(
                "ImportRules {{ {} rules, merge: {merge}, force: {force}, dry_run: {dry_run} }}",
                rules.len()
            ),
            other => format!("{other:?}"),
        }
    }
}

/// One rule of [`Request::ImportRules`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedRule {
    /// Which sources.
    pub prefix: IpNet,
    /// For how long, in seconds; at least 1.
    pub for_s: u64,
    /// Why; at most [`MAX_REASON`] bytes without control characters.
    pub reason: String,
}

/// What the agent answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "result", content = "parameters", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Rules`].
    Rules {
        /// Every rule wanted in the kernel.
        rules: Vec<Rule>,
        /// The allow-list.
        allowed: Vec<Allowed>,
    },
    /// To [`Request::Allow`].
    Allowed {
        /// The exemption that now exists.
        allowed: Allowed,
    },
    /// To [`Request::Disallow`].
    Disallowed {
        /// The exemptions that were removed.
        allowed: Vec<Allowed>,
    },
    /// To [`Request::Mode`].
    Mode {
        /// The mode now.
        mode: Mode,
    },
    /// To [`Request::Alerts`].
    Alerts {
        /// Oldest first.
        alerts: Vec<AlertEntry>,
    },
    /// To [`Request::Explain`].
    Explained(Box<Explanation>),
    /// To [`Request::ExplainAttack`].
    AttackExplained(Box<AttackInFull>),
    /// To [`Request::Effective`].
    Effective {
        /// The main file of the configuration, if there is one.
        path: Option<PathBuf>,
        /// The files of the configuration, in the order in which they were read.
        files: Vec<PathBuf>,
        /// Every setting, in the order of the file.
        settings: Vec<Held>,
    },
    /// To [`Request::Block`].
    Blocked {
        /// The rule that now exists, or would.
        rule: Rule,
        /// Whether it only would.
        dry_run: bool,
    },
    /// To [`Request::Unblock`] and [`Request::UnblockAll`].
    Unblocked {
        /// The rules that were removed.
        rules: Vec<Rule>,
    },
    /// To [`Request::ImportRules`].
    Imported {
        /// What it did, or would do.
        imported: Imported,
        /// Whether it only would.
        dry_run: bool,
    },
    /// To [`Request::OrderStep`]: the listener with its steps as they are now.
    StepOrdered(Box<crate::status::Listener>),
    /// To [`Request::SetMode`].
    ModeSet {
        /// The mode before.
        was: Mode,
        /// The mode now.
        mode: Mode,
    },
    /// To [`Request::Reload`].
    Reloaded {
        /// Keys of the configuration whose new values hold from now on.
        applied: Vec<String>,
        /// Keys whose new values hold after a restart.
        waiting: Vec<String>,
    },
    /// To [`Request::Detach`].
    Detached {
        /// The interfaces that had the filter on.
        interfaces: Vec<String>,
    },
    /// To anything that was not done.
    Refused(Refusal),
}

/// Why something was not done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people: the situation and the way out.
    pub message: String,
    /// What is wrong with which rule of [`Request::ImportRules`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RefusedRule>,
}

/// A rule that cannot be imported.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RefusedRule {
    /// Its place in the request, counted from 0.
    pub index: usize,
    /// The situation and the way out.
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
    /// Too many connections or requests at once.
    Busy,
    /// It would hit something that must not be hit.
    Protected,
    /// There is nothing to do it to.
    NotFound,
    /// There is no room for another rule.
    Full,
    /// The configuration contains mistakes.
    Invalid,
    /// The agent is stopping.
    Stopping,
    /// The kernel refused.
    Failed,
}

impl Refusal {
    /// A refusal of the request as a whole.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), rules: Vec::new() }
    }
}

impl Response {
    /// A [`Response::Refused`].
    pub fn refused(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(kind, message))
    }
}

/// Reads a call.
///
/// # Errors
///
/// A refusal that says what is wrong with it.
pub fn parse(message: &[u8]) -> Result<Request, Refusal> {
    let refuse = |kind, message: String| Err(Refusal::new(kind, message));
    /// Only the version, so that the answer to a newer client names it rather than a new field.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    match serde_json::from_slice::<Version>(message) {
        Ok(Version { version }) if version != VERSION => {
            return refuse(
                RefusalKind::Version,
                format!(
                    "this agent speaks protocol version {VERSION}, the client {version}; use the \
                     tcpguard command of the same release, or: systemctl restart tcpguard"
                ),
            );
        }
        _ => {}
    }
    let call: Call = match serde_json::from_slice(message) {
        Ok(call) => call,
        Err(error) => {
            return refuse(RefusalKind::BadRequest, format!("the request cannot be read: {error}"));
        }
    };
    match &call.request {
        Request::Block { reason, for_s, .. } | Request::Allow { reason, for_s, .. } => {
            if let Err(message) = check(reason, *for_s) {
                return refuse(RefusalKind::BadRequest, message);
            }
        }
        Request::ImportRules { rules, .. } => {
            let wrong = rules.iter().enumerate().filter_map(|(index, rule)| {
                let message = check(&rule.reason, rule.for_s).err()?;
                Some(RefusedRule { index, message })
            });
            let rules: Vec<RefusedRule> = wrong.collect();
            if !rules.is_empty() {
                let message = format!("{} of the rules cannot be imported", rules.len());
                return Err(Refusal { rules, ..Refusal::new(RefusalKind::BadRequest, message) });
            }
        }
        _ => {}
    }
    Ok(call.request)
}

/// What a rule's or exemption's reason and lifetime in seconds must be.
///
/// # Errors
///
/// What is wrong with them, and what mends it.
pub fn check(reason: &str, for_s: u64) -> Result<(), String> {
    if reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(format!("a reason is one line of at most {MAX_REASON} bytes; shorten it"));
    }
    if for_s == 0 {
        return Err("nothing lives for less than a second; give --for 1h".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(message: &str) -> (RefusalKind, String) {
        let refusal = parse(message.as_bytes()).expect_err(message);
        (refusal.kind, refusal.message)
    }

    #[test]
    fn a_call_survives_the_wire() {
        for request in [
            Request::Status,
            Request::ExplainAttack { id: 7 },
            Request::Block {
                prefix: "192.0.2.0/24".parse().unwrap(),
                for_s: 60,
                reason: "scan".to_owned(),
                force: false,
                dry_run: true,
            },
            Request::Unblock { prefix: "2001:db8::/32".parse().unwrap() },
            Request::Allow {
                prefix: "2001:db8::/48".parse().unwrap(),
                for_s: 60,
                reason: "monitoring".to_owned(),
                force: false,
            },
            Request::Disallow { prefix: "2001:db8::/32".parse().unwrap() },
            Request::UnblockAll,
            Request::ImportRules {
                rules: vec![ImportedRule {
                    prefix: "192.0.2.0/24".parse().unwrap(),
                    for_s: 60,
                    reason: "scan".to_owned(),
                }],
                merge: true,
                force: false,
                dry_run: false,
            },
            Request::SetMode { mode: Mode::Enforce },
            Request::Reload,
            Request::Effective,
            Request::Detach { interfaces: vec!["eth0".to_owned()] },
        ] {
            let call = Call { version: VERSION, request: request.clone() };
            let message = serde_json::to_vec(&call).unwrap();
            assert_eq!(parse(&message), Ok(request));
        }
    }

    #[test]
    fn only_the_control_socket_takes_the_filter_off() {
        assert!(Request::Detach { interfaces: Vec::new() }.is_change());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for message in [
            "",
            "GET / HTTP/1.1",
            "{}",
            r#"{"version":1}"#,
            r#"{"version":1,"request":{"method":"shutdown"}}"#,
            r#"{"version":1,"request":{"method":"status"},"extra":1}"#,
            r#"{"version":1,"request":{"method":"unblock","parameters":{"prefix":"10.0.0.0/8","extra":1}}}"#,
            r#"{"version":1,"request":{"method":"unblock","parameters":{"prefix":"10.0.0.0/99"}}}"#,
        ] {
            assert_eq!(refusal(message).0, RefusalKind::BadRequest, "{message}");
        }
    }

    #[test]
    fn another_version_is_named_before_anything_else() {
        let (kind, message) = refusal(r#"{"version":2,"request":{"method":"new","x":1}}"#);
        assert_eq!(kind, RefusalKind::Version);
        assert!(
            message.starts_with("this agent speaks protocol version 1, the client 2;"),
            "{message}"
        );
    }

    #[test]
    fn a_reason_cannot_forge_log_lines() {
        let call = |reason: &str, for_s| {
            let request = Request::Block {
                prefix: "192.0.2.1/32".parse().unwrap(),
                for_s,
                reason: reason.to_owned(),
                force: false,
                dry_run: false,
            };
            serde_json::to_string(&Call { version: VERSION, request }).unwrap()
        };
        assert_eq!(refusal(&call("a\n2026 CRIT all is lost", 1)).0, RefusalKind::BadRequest);
        assert_eq!(refusal(&call("\u{1b}[2J", 1)).0, RefusalKind::BadRequest);
        assert_eq!(refusal(&call(&"x".repeat(MAX_REASON + 1), 1)).0, RefusalKind::BadRequest);
        assert_eq!(refusal(&call("fine", 0)).0, RefusalKind::BadRequest);
        let rule = |reason: &str| ImportedRule {
            prefix: "192.0.2.1/32".parse().unwrap(),
            for_s: 1,
            reason: reason.to_owned(),
        };
        let rules = vec![rule("fine"), rule("a\nb"), rule("fine"), rule("\u{7f}")];
        let request = Request::ImportRules { rules, merge: false, force: false, dry_run: false };
        let message = serde_json::to_vec(&Call { version: VERSION, request }).unwrap();
        let wrong = parse(&message).expect_err("two reasons").rules;
        assert_eq!(wrong.iter().map(|rule| rule.index).collect::<Vec<_>>(), [1, 3]);
        assert!(parse(call("fine", 1).as_bytes()).is_ok());
    }
}
