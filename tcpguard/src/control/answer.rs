//! Between the messages and the engine.

use std::time::Duration;

use tcpguard_engine as engine;
use tcpguard_engine::RequestError;

use super::proto::{ImportedRule, Refusal, RefusalKind, RefusedRule, Request, Response};
use crate::status::{Allowed, Clock, Listener, Rule};

/// What `request`, asked for by user `uid`, means to the engine; `None` when it is no matter of the
/// engine's.
pub fn engine_request(request: &Request, uid: u32) -> Option<engine::Request> {
    match request {
        Request::Status
        | Request::Rules
        | Request::Mode
        | Request::Alerts
        | Request::Explain { .. }
        | Request::ExplainAttack { .. }
        | Request::Effective
        | Request::Reload
        | Request::Detach { .. } => None,
        Request::Block { prefix, for_s, reason, force, dry_run: _ } => {
            Some(engine::Request::Block {
                net: *prefix,
                lifetime: Duration::from_secs(*for_s),
                reason: reason.clone(),
                uid,
                force: *force,
            })
        }
        Request::Allow { prefix, for_s, reason, force } => Some(engine::Request::Allow {
            net: *prefix,
            lifetime: Duration::from_secs(*for_s),
            reason: reason.clone(),
            uid,
            force: *force,
        }),
        Request::Disallow { prefix } => Some(engine::Request::Disallow { net: *prefix, uid }),
        Request::Unblock { prefix } => Some(engine::Request::Unblock { net: *prefix }),
        Request::UnblockAll => Some(engine::Request::UnblockAll),
        Request::ImportRules { rules, merge, force, dry_run: _ } => {
            let rule = |rule: &ImportedRule| engine::RuleToImport {
                net: rule.prefix,
                lifetime: Duration::from_secs(rule.for_s),
                reason: rule.reason.clone(),
            };
            Some(engine::Request::ImportRules {
                rules: rules.iter().map(rule).collect(),
                merge: *merge,
                uid,
                force: *force,
            })
        }
        Request::OrderStep { listener, step, order, for_s } => Some(engine::Request::OrderStep {
            listener: *listener,
            step: *step,
            order: *order,
            lifetime: Duration::from_secs(*for_s),
            uid,
        }),
        Request::SetMode { mode } => Some(engine::Request::SetMode { mode: (*mode).into(), uid }),
    }
}

/// The answer to `request` that carries what the engine said.
pub fn response(
    request: &Request,
    result: Result<engine::Response, RequestError>,
    clock: Clock,
) -> Response {
    let rules = |rules: Vec<engine::RuleReport>| {
        rules.iter().map(|rule| Rule::build(rule, clock)).collect()
    };
    match result {
        Ok(engine::Response::Blocked(rule)) => Response::Blocked {
            rule: Rule::build(&rule, clock),
            dry_run: matches!(request, Request::Block { dry_run: true, .. }),
        },
        Ok(engine::Response::Unblocked(removed)) => Response::Unblocked { rules: rules(removed) },
        Ok(engine::Response::Imported(report)) => Response::Imported {
            imported: report.into(),
            dry_run: matches!(request, Request::ImportRules { dry_run: true, .. }),
        },
        Ok(engine::Response::Allowed(allowed)) => {
            Response::Allowed { allowed: Allowed::build(&allowed, clock) }
        }
        Ok(engine::Response::Disallowed(removed)) => Response::Disallowed {
            allowed: removed.iter().map(|allowed| Allowed::build(allowed, clock)).collect(),
        },
        Ok(engine::Response::StepOrdered(listener)) => {
            Response::StepOrdered(Box::new(Listener::build(&listener, clock)))
        }
        Ok(engine::Response::ModeSet { was }) => Response::ModeSet {
            was: was.into(),
            mode: match request {
                Request::SetMode { mode } => *mode,
                _ => was.into(),
            },
        },
        Err(error) => Response::Refused(refusal(&error)),
    }
}

fn refusal(error: &RequestError) -> Refusal {
    let rules = match error {
        RequestError::Import { refused } => {
            let rule = |(index, why): &(usize, RequestError)| RefusedRule {
                index: *index,
                message: words(why),
            };
            refused.iter().map(rule).collect()
        }
        _ => Vec::new(),
    };
    Refusal { rules, ..Refusal::new(kind(error), words(error)) }
}

fn kind(error: &RequestError) -> RefusalKind {
    match error {
        RequestError::Protected { .. }
        | RequestError::TooWide { .. }
        | RequestError::Import { .. }
        | RequestError::Twice { .. } => RefusalKind::Protected,
        RequestError::NotFound { .. }
        | RequestError::NotAllowed { .. }
        | RequestError::NoListener { .. } => RefusalKind::NotFound,
        RequestError::DoneByRules { .. } => RefusalKind::Invalid,
        RequestError::Full { .. } | RequestError::AllowListFull { .. } => RefusalKind::Full,
    }
}

fn words(error: &RequestError) -> String {
    match error {
        RequestError::Protected { net, covers, what } => format!(
            "{net} covers {covers}, which is protected ({what}); block a smaller prefix, or add \
             --force if you are sure"
        ),
        RequestError::TooWide { net } => format!(
            "{net} is wider than a rule may be; block smaller prefixes, or add --force if you are sure"
        ),
        RequestError::Import { refused } => {
            format!("{} of the rules cannot be imported, so none was", refused.len())
        }
        RequestError::Twice { net, .. } => format!("{net} is there twice; leave one"),
        RequestError::NoListener { listener } => format!(
            "nothing that the guard follows listens at {listener}; see what does: \
             tcpguard status --listeners"
        ),
        RequestError::DoneByRules { step } => format!(
            "{} is done by rules, which can only be forbidden here; to drop a source: tcpguard block \
             PREFIX",
            step.name()
        ),
        RequestError::NotFound { net } => {
            format!("no rule lies within {net}; see what exists: tcpguard rules list")
        }
        RequestError::NotAllowed { net } => {
            format!("nothing within {net} is on the allow-list; see what is: tcpguard rules list")
        }
        RequestError::AllowListFull { limit } => format!(
            "all {limit} places of the allow-list are taken; make room: tcpguard unallow PREFIX, or allow \
             wider prefixes"
        ),
        RequestError::Full { limit } => format!(
            "all {limit} rules are taken; make room: tcpguard rules list, tcpguard unblock PREFIX"
        ),
    }
}
