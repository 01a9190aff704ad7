//! Parses a message into a call, and checks the contents of the call.

use std::time::Duration;

use serde::Deserialize;
use tcpguard_host::hint::Failure;

use crate::text::not_imported;

use super::{
    Call, Change, MAX_MODE_S, MAX_REASON, Refusal, RefusalKind, RefusedRule, Request, VERSION,
};

/// Hint for a message of another version.
const RESTART: &str =
    "use the tcpguard command of the same release, or: systemctl restart tcpguard";
/// Shortest lifetime of a rule or an exemption.
const LEAST: Duration = Duration::from_secs(1);

/// Reads a call.
///
/// # Errors
///
/// A refusal that names the mistake.
pub fn parse(message: &[u8]) -> Result<Request, Refusal> {
    let refuse = |kind, message: String| Err(Refusal::new(kind, message, RESTART));
    let invalid = |failure| Refusal::of(RefusalKind::BadRequest, failure);
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
                    "version mismatch between command and agent: protocol {version}, agent {VERSION}"
                ),
            );
        }
        _ => {}
    }
    let call: Call = match serde_json::from_slice(message) {
        Ok(call) => call,
        Err(error) => {
            return refuse(RefusalKind::BadRequest, format!("invalid request: {error}"));
        }
    };
    match &call.request {
        Request::Change {
            change: Change::Block { reason, lifetime, .. } | Change::Allow { reason, lifetime, .. },
            ..
        } => {
            check(reason, *lifetime).map_err(invalid)?;
        }
        Request::SetMode { for_s, rollback_after_s, .. } => {
            check_terms(*for_s, *rollback_after_s).map_err(invalid)?;
        }
        Request::Change { change: Change::ImportRules { rules, .. }, .. } => {
            let wrong = rules.iter().enumerate().filter_map(|(index, rule)| {
                let reason = rule.reason.as_deref().unwrap_or_default();
                let failure = check(reason, rule.lifetime.unwrap_or(LEAST)).err()?;
                Some(RefusedRule { index, message: failure.message })
            });
            let rules: Vec<RefusedRule> = wrong.collect();
            if !rules.is_empty() {
                let failure = not_imported(rules.len());
                return Err(Refusal { rules, ..Refusal::of(RefusalKind::BadRequest, failure) });
            }
        }
        _ => {}
    }
    Ok(call.request)
}

/// Checks the times after which a mode reverts by itself, if there are any.
pub fn check_terms(for_s: Option<u64>, rollback_after_s: Option<u64>) -> Result<(), Failure> {
    if for_s == Some(0) || rollback_after_s == Some(0) {
        return Err(Failure::new("a temporary mode lasts at least 1s", "use --for 10m"));
    }
    for (time, option) in [(for_s, "--for"), (rollback_after_s, "--rollback-after")] {
        if time > Some(MAX_MODE_S) {
            let hint = format!("for a permanent mode, leave out {option}");
            return Err(Failure::new("a temporary mode lasts at most 30d", hint));
        }
    }
    match (for_s, rollback_after_s) {
        (Some(lasts), Some(within)) if within >= lasts => Err(Failure::new(
            "the mode would expire before its rollback",
            "use a shorter --rollback-after, or a longer --for",
        )),
        _ => Ok(()),
    }
}

/// Checks the reason and the lifetime of a rule or an exemption.
pub fn check(reason: &str, lifetime: Duration) -> Result<(), Failure> {
    if reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        let message = format!("the reason must be one line of at most {MAX_REASON} bytes");
        return Err(Failure::new(message, "use a shorter --reason"));
    }
    if lifetime < LEAST {
        return Err(Failure::new("the lifetime must be at least 1s", "use --for 1h"));
    }
    Ok(())
}
