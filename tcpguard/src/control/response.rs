//! Responses that carry the engine's results.

use tcpguard_engine as engine;
use tcpguard_engine::{MapTime as _, RequestError};
use tcpguard_host::time::Clock;

use super::proto::{Refusal, RefusalKind, RefusedRule, Request, Response};
use crate::documents::{
    Allowance, Allowed, Blocked, Confirmed, Disallowed, Import, Listener, ModeShown, Ordered,
    Unblocked,
};
use crate::text::request_error;

/// The response to `request` that carries the engine's result.
pub fn response(
    request: &Request,
    result: Result<engine::Response, RequestError>,
    clock: Clock,
) -> Response {
    let time = |at| clock.time_at(at);
    let allowed = |allowed| Allowed::build(allowed, clock);
    let dry_run = request.is_dry_run();
    match result {
        Ok(engine::Response::Blocked { rule, replaces, clients }) => {
            let replaces = replaces.map(|rule| Box::new(rule.map_time(&time)));
            let rule = rule.map_time(&time);
            Response::Blocked(Box::new(Blocked { rule, replaces, dry_run, clients }))
        }
        Ok(engine::Response::Confirmed(stay)) => {
            Response::Confirmed(Confirmed { mode: None, ends: None, rules: stay.map_time(&time) })
        }
        Ok(engine::Response::Unblocked(removed)) => {
            Response::Unblocked(Unblocked { removed: removed.map_time(&time), dry_run })
        }
        Ok(engine::Response::Imported(imported)) => {
            Response::Imported(Import { imported, dry_run })
        }
        Ok(engine::Response::Allowed(one)) => {
            Response::Allowed(Allowance { allowed: allowed(&one) })
        }
        Ok(engine::Response::Disallowed(removed)) => {
            Response::Disallowed(Disallowed { removed: removed.iter().map(allowed).collect() })
        }
        Ok(engine::Response::MitigationOrdered(listener)) => {
            let listener = Listener::build(&listener, clock);
            Response::MitigationOrdered(Box::new(Ordered { listener }))
        }
        Ok(engine::Response::ModeSet { was }) => {
            let mode = match request {
                Request::SetMode { mode, .. } => *mode,
                _ => was,
            };
            Response::Mode(ModeShown { mode, was: Some(was), ends: None })
        }
        Err(error) => Response::Refused(refusal(&error)),
    }
}

fn refusal(error: &RequestError) -> Refusal {
    let rules = match error {
        RequestError::Import { refused } => {
            let rule = |(index, why): &(usize, RequestError)| RefusedRule {
                index: *index,
                message: request_error(why).message,
            };
            refused.iter().map(rule).collect()
        }
        _ => Vec::new(),
    };
    Refusal { rules, ..Refusal::of(kind(error), request_error(error)) }
}

fn kind(error: &RequestError) -> RefusalKind {
    match error {
        RequestError::Protected { .. }
        | RequestError::Clients { .. }
        | RequestError::TooWide { .. }
        | RequestError::Import { .. }
        | RequestError::Twice { .. } => RefusalKind::Protected,
        RequestError::NotFound { .. }
        | RequestError::NotAllowed { .. }
        | RequestError::NotPending { .. }
        | RequestError::NoListener { .. } => RefusalKind::NotFound,
        RequestError::DoneByRules { .. } => RefusalKind::Invalid,
        RequestError::Full { .. } | RequestError::AllowlistFull { .. } => RefusalKind::Full,
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use tcpguard_engine::{ClientsWithin, RuleId, Which, Whose};
    use tcpguard_support::hint_check;

    #[test]
    fn every_refusal_has_a_hint() {
        let net: IpNet = "192.0.2.0/24".parse().expect("a prefix");
        let listener =
            engine::Listener { addr: "192.0.2.1".parse().expect("an address"), port: 443 };
        let twice = || RequestError::Twice { net, first: 0 };
        let none = |which, wider, automatic| RequestError::NotFound {
            which,
            whose: Whose::Operators,
            wider,
            automatic,
        };
        for error in [
            RequestError::Protected { net, covers: net, what: "own address".to_owned() },
            RequestError::TooWide { net, shortest: 16 },
            RequestError::Clients {
                net,
                clients: ClientsWithin { validated: 51, last_minute: 43 },
            },
            RequestError::Import { refused: vec![(1, twice())] },
            twice(),
            none(Which::Within(net), None, 0),
            none(Which::Within(net), Some((RuleId(3), net)), 0),
            none(Which::Numbered(RuleId(3)), None, 0),
            none(Which::All, None, 2),
            RequestError::NotAllowed { net },
            RequestError::NotPending { net: None },
            RequestError::NotPending { net: Some(net) },
            RequestError::NoListener { listener },
            RequestError::DoneByRules { mitigation: engine::Mitigation::Source },
            RequestError::AllowlistFull { limit: 1024 },
            RequestError::Full { limit: 4096 },
        ] {
            let refusal = refusal(&error);
            assert!(hint_check::is_named(&refusal.hint), "{refusal:?}");
            // Every one there is stands above.
            match error {
                RequestError::Protected { .. }
                | RequestError::Clients { .. }
                | RequestError::TooWide { .. }
                | RequestError::Import { .. }
                | RequestError::Twice { .. }
                | RequestError::NotFound { .. }
                | RequestError::NotAllowed { .. }
                | RequestError::NotPending { .. }
                | RequestError::NoListener { .. }
                | RequestError::DoneByRules { .. }
                | RequestError::AllowlistFull { .. }
                | RequestError::Full { .. } => {}
            }
        }
    }
}
