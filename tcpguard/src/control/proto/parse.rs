//! Parses a message into a call, and checks the contents of the call.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Call, Change, MAX_MODE_S, MAX_REASON, Refusal, RefusalKind, RefusedRule, Request, VERSION,
};

/// Shortest lifetime of a rule or an exemption.
const LEAST: Duration = Duration::from_secs(1);

/// Reads a call.
///
/// # Errors
///
/// A refusal that names the mistake.
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
            let why = format!(
                "the request cannot be read: {error}; use the tcpguard command of the same release, or: \
                 systemctl restart tcpguard"
            );
            return refuse(RefusalKind::BadRequest, why);
        }
    };
    match &call.request {
        Request::Change {
            change: Change::Block { reason, lifetime, .. } | Change::Allow { reason, lifetime, .. },
            ..
        } => {
            if let Err(message) = check(reason, *lifetime) {
                return refuse(RefusalKind::BadRequest, message);
            }
        }
        Request::SetMode { for_s, confirm_s, .. } => {
            if let Err(message) = check_terms(*for_s, *confirm_s) {
                return refuse(RefusalKind::BadRequest, message);
            }
        }
        Request::Change { change: Change::ImportRules { rules, .. }, .. } => {
            let wrong = rules.iter().enumerate().filter_map(|(index, rule)| {
                let reason = rule.reason.as_deref().unwrap_or_default();
                let message = check(reason, rule.lifetime.unwrap_or(LEAST)).err()?;
                Some(RefusedRule { index, message })
            });
            let rules: Vec<RefusedRule> = wrong.collect();
            if !rules.is_empty() {
                let message = format!(
                    "{} of the rules cannot be imported; try it without a change: tcpguard rules import \
                     FILE --dry-run",
                    rules.len()
                );
                return Err(Refusal { rules, ..Refusal::new(RefusalKind::BadRequest, message) });
            }
        }
        _ => {}
    }
    Ok(call.request)
}

/// Checks the times after which a mode reverts by itself, if there are any.
pub fn check_terms(for_s: Option<u64>, confirm_s: Option<u64>) -> Result<(), String> {
    if for_s == Some(0) || confirm_s == Some(0) {
        return Err("a mode lasts at least a second; give --for 10m".to_owned());
    }
    if for_s.max(confirm_s) > Some(MAX_MODE_S) {
        return Err("--for and --confirm are limited to 30 days; without --for it stays".to_owned());
    }
    match (for_s, confirm_s) {
        (Some(lasts), Some(word)) if word >= lasts => Err(
            "the mode would revert before the time to confirm it ends; give a shorter --confirm or a \
                 longer --for"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Checks the reason and the lifetime of a rule or an exemption.
pub fn check(reason: &str, lifetime: Duration) -> Result<(), String> {
    if reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(format!(
            "a reason is one line of at most {MAX_REASON} bytes; shorten it (--reason)"
        ));
    }
    if lifetime < LEAST {
        return Err("nothing lives for less than a second; give --for 1h".to_owned());
    }
    Ok(())
}
