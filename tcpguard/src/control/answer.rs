//! Between the messages and the engine.

use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine as engine;
use tcpguard_engine::{Force, RequestError};

use super::proto::{
    ImportedRule, OnTrial, Refusal, RefusalKind, RefusedRule, Request, Response, RuleOrigin,
};
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
        | Request::Timeline { .. }
        | Request::Effective
        | Request::Reload
        | Request::Detach { .. }
        | Request::AlertsSince { .. }
        | Request::ExplainPort { .. }
        | Request::SetModeFor { .. }
        | Request::ConfirmMode { .. } => None,
        Request::Block { prefix, ports, for_s, reason, force, on_trial, dry_run: _ } => {
            Some(engine::Request::Block {
                net: *prefix,
                ports: *ports,
                lifetime: Duration::from_secs(*for_s),
                reason: reason.clone(),
                uid,
                force: forced(*force, *on_trial),
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
        Request::UnblockSome { prefix, origin, dry_run: _ } => Some(match (*prefix, *origin) {
            (Some(net), None) => engine::Request::Unblock { net },
            (None, None) => engine::Request::UnblockAll,
            (net, Some(origin)) => {
                engine::Request::UnblockOrigin { net, automatic: origin == RuleOrigin::Auto }
            }
        }),
        Request::ImportRules { rules, merge, force, on_trial, dry_run: _ } => {
            let rule = |rule: &ImportedRule| engine::RuleToImport {
                net: rule.prefix,
                ports: rule.ports,
                lifetime: Duration::from_secs(rule.for_s),
                reason: rule.reason.clone(),
            };
            Some(engine::Request::ImportRules {
                rules: rules.iter().map(rule).collect(),
                merge: *merge,
                uid,
                force: forced(*force, *on_trial),
            })
        }
        Request::ConfirmRules { prefix } => {
            Some(engine::Request::ConfirmRules { net: *prefix, uid })
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

fn forced(force: bool, on_trial: Option<OnTrial>) -> Force {
    match (force, on_trial) {
        (false, _) => Force::No,
        (true, None) => Force::ForGood,
        (true, Some(OnTrial { within_s, caller })) => {
            Force::OnTrial { within: Duration::from_secs(within_s), caller }
        }
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
        Ok(engine::Response::Confirmed(stay)) => Response::Confirmed { rules: rules(stay) },
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
            ends: None,
        },
        Err(error) => Response::Refused(match (request, &error) {
            (
                Request::UnblockSome { prefix, origin: Some(origin), .. },
                RequestError::NotFound { .. },
            ) => Refusal::new(RefusalKind::NotFound, none_of_origin(*prefix, *origin)),
            _ => refusal(&error),
        }),
    }
}

fn none_of_origin(prefix: Option<IpNet>, origin: RuleOrigin) -> String {
    let origin = origin.name();
    let place =
        prefix.map_or_else(|| "there is".to_owned(), |prefix| format!("within {prefix} lies"));
    format!("{place} no rule of origin {origin}; see what exists: tcpguard rules list")
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
        | RequestError::NotOnTrial { .. }
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
            format!(
                "{} of the rules cannot be imported, so none was; try it without a change: tcpguard \
                 rules import FILE --dry-run",
                refused.len()
            )
        }
        RequestError::Twice { net, .. } => {
            format!("{net} is there twice; leave one, or see what is there: tcpguard rules list")
        }
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
        RequestError::NotOnTrial { net } => {
            let within = net.map_or_else(String::new, |net| format!(" within {net}"));
            format!(
                "no rule{within} waits to be confirmed, and what nobody confirmed in time has gone back; \
                 see what exists: tcpguard rules list"
            )
        }
        RequestError::NotAllowed { net } => {
            format!("nothing within {net} is on the allow-list; see what is: tcpguard rules list")
        }
        RequestError::AllowListFull { limit } => format!(
            "all {limit} places of the allow-list are taken; make room: tcpguard unallow PREFIX, or allow \
             wider prefixes"
        ),
        RequestError::Full { limit } => format!(
            "there is room for {limit} rules, of which one for certain ports counts once for each; take some \
             back: tcpguard unblock PREFIX, or raise policy.rules, then: systemctl restart tcpguard"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::way_on;

    #[test]
    fn every_refusal_says_how_to_go_on() {
        let net: IpNet = "192.0.2.0/24".parse().expect("a prefix");
        let listener =
            engine::Listener { addr: "192.0.2.1".parse().expect("an address"), port: 443 };
        let twice = || RequestError::Twice { net, first: 0 };
        for error in [
            RequestError::Protected { net, covers: net, what: "own address".to_owned() },
            RequestError::TooWide { net },
            RequestError::Import { refused: vec![(1, twice())] },
            twice(),
            RequestError::NotFound { net },
            RequestError::NotAllowed { net },
            RequestError::NotOnTrial { net: None },
            RequestError::NotOnTrial { net: Some(net) },
            RequestError::NoListener { listener },
            RequestError::DoneByRules { step: engine::Step::Source },
            RequestError::AllowListFull { limit: 1024 },
            RequestError::Full { limit: 4096 },
        ] {
            let refusal = refusal(&error);
            let words = refusal.rules.iter().map(|rule| &rule.message).chain([&refusal.message]);
            for said in words {
                assert!(way_on::is_named(said), "{said}");
            }
            // Every one there is stands above.
            match error {
                RequestError::Protected { .. }
                | RequestError::TooWide { .. }
                | RequestError::Import { .. }
                | RequestError::Twice { .. }
                | RequestError::NotFound { .. }
                | RequestError::NotAllowed { .. }
                | RequestError::NotOnTrial { .. }
                | RequestError::NoListener { .. }
                | RequestError::DoneByRules { .. }
                | RequestError::AllowListFull { .. }
                | RequestError::Full { .. } => {}
            }
        }
        for prefix in [Some(net), None] {
            let said = none_of_origin(prefix, RuleOrigin::Auto);
            assert!(way_on::is_named(&said), "{said}");
        }
    }
}
