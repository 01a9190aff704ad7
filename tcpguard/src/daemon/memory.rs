//! The memory of an agent that does not run: some requests can be answered from its files. The files are
//! read as they are. Nothing is set aside or written.

use std::path::Path;
use std::{fs, io};

use tcpguard_engine::{Ports, signature_in_words};
use tcpguard_host::durable::seal::Damage;
use tcpguard_host::time::Time;

use super::state::{self, State, StoredMatcher, StoredOrigin, StoredRule};
use super::{alerts, incidents};
use crate::control::{RefusalKind, Request, Response};
use crate::daemon::kept_timelines;
use crate::documents::{Allowed, Rule};

/// An answer, and of when it is.
#[derive(Debug)]
pub struct Remembered {
    /// The response that the agent would have sent then.
    pub response: Response,
    /// Time at which the file was written.
    pub written: Time,
}

/// The response to a request from the files in the state directory `dir`; `None`: they have none to it.
pub fn response(dir: &Path, request: &Request) -> Result<Option<Remembered>, Damage> {
    match request {
        Request::Rules => found(rules(dir)),
        Request::Alerts { since } => found(alerts::read(dir).and_then(|all| {
            let [first, last] = [all.first(), all.last()].map(|one| one.map_or(0, |it| it.seq));
            let written = written(&dir.join(alerts::NAME))?;
            let alerts = all.into_iter().filter(|alert| alert.seq > *since).collect();
            let response = Response::Alerts { run: 0, first, last, now: written, alerts };
            Ok(Remembered { response, written })
        })),
        Request::ExplainIncident { id } => found(incidents::read(dir).and_then(|all| {
            let incident = all.into_iter().find(|full| full.incident.id == *id);
            let response = match incident {
                Some(incident) => Response::IncidentExplained(Box::new(incident)),
                None => {
                    let message = format!(
                        "no attack #{id} is on record; older ones: journalctl -t tcpguard \
                         TCPGUARD_INCIDENT_ID={id}"
                    );
                    Response::refused(RefusalKind::NotFound, message)
                }
            };
            Ok(Remembered { response, written: written(&dir.join(incidents::NAME))? })
        })),
        Request::Timeline { id } => {
            found(kept_timelines::find(dir, *id).and_then(|(line, path)| {
                let response = Response::Timeline(Box::new(line));
                Ok(Remembered { response, written: written(&path)? })
            }))
        }
        _ => Ok(None),
    }
}

fn found(read: Result<Remembered, Damage>) -> Result<Option<Remembered>, Damage> {
    match read {
        Err(Damage::Missing) => Ok(None),
        read => read.map(Some),
    }
}

/// Returns the time at which the file at `path` was written.
fn written(path: &Path) -> Result<Time, Damage> {
    let modified = fs::metadata(path).and_then(|file| file.modified()).map_err(Damage::Refused)?;
    let at = jiff::Timestamp::try_from(modified);
    at.map(Time).map_err(|error| Damage::Refused(io::Error::other(error)))
}

/// Rules and allowlist as they were written, including those that have expired since.
fn rules(dir: &Path) -> Result<Remembered, Damage> {
    let State { written, rules, allowed, .. } = state::read_in(dir)?;
    let left = |until: Time| until.0.duration_since(written.0).as_secs().max(0).unsigned_abs();
    let rule = |stored: StoredRule| {
        let StoredRule { slot, matches, origin, reason, created, expires, confirmation, .. } =
            stored;
        let (kind, matches, ports) = described(&matches)?;
        let (origin, incident) = match origin {
            StoredOrigin::Incident(id) => ("incident", Some(id)),
            StoredOrigin::Operator(_) => ("operator", None),
        };
        Some(Rule {
            id: slot,
            kind: kind.to_owned(),
            matches,
            ports,
            origin: origin.to_owned(),
            incident,
            reason,
            created_at: created,
            expires_at: expires,
            expires_in_s: left(expires),
            confirmed_until: confirmation.map(|confirmation| confirmation.until),
            // The counters are in the kernel.
            hits: 0,
            completed: 0,
            accepted_retransmits: 0,
        })
    };
    let allowed = allowed.into_iter().map(|allowed| Allowed {
        prefix: allowed.net.to_string(),
        reason: allowed.reason,
        uid: allowed.uid,
        created_at: written,
        expires_at: allowed.expires,
        expires_in_s: left(allowed.expires),
    });
    let (rules, allowed) = (rules.into_iter().filter_map(rule).collect(), allowed.collect());
    Ok(Remembered { response: Response::Rules { rules, allowed }, written })
}

/// Kind, text and ports of the match of a rule; `None` for a match that only a later version knows.
fn described(matches: &StoredMatcher) -> Option<(&'static str, String, Ports)> {
    Some(match *matches {
        StoredMatcher::Source(net) => ("source", net.to_string(), Ports::EVERY),
        StoredMatcher::SourceToPorts { net, ports } => ("source", net.to_string(), ports),
        StoredMatcher::Signature { .. } => {
            let (listener, mask, fingerprint) = matches.signature()?;
            let words = signature_in_words(mask, &fingerprint, &listener);
            ("signature", words, Ports::EVERY)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_alerts_and_incidents_are_as_the_agent_left_them() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let ask = |request: &Request| response(dir, request).expect("readable");
        for request in [
            Request::Rules,
            Request::Alerts { since: 0 },
            Request::ExplainIncident { id: 2 },
            Request::Timeline { id: 1 },
        ] {
            assert!(ask(&request).is_none(), "{request:?}: there is nothing");
        }
        assert!(ask(&Request::Status).is_none(), "only an agent knows");

        let state = state::tests::state();
        state::store(dir, &state).unwrap();
        let Some(Remembered { response: Response::Rules { rules, allowed }, written }) =
            ask(&Request::Rules)
        else {
            panic!("rules")
        };
        assert_eq!(written, state.written);
        assert_eq!((rules.len(), allowed.len()), (state.rules.len(), state.allowed.len()));
        assert!(rules.iter().any(|rule| rule.kind == "source"), "{rules:?}");

        incidents::tests::stored(dir, [1, 2]);
        kept_timelines::tests::stored(&dir.join(kept_timelines::DIRECTORY), 1);
        let Some(Remembered { response: Response::IncidentExplained(incident), .. }) =
            ask(&Request::ExplainIncident { id: 2 })
        else {
            panic!("an incident")
        };
        assert_eq!(incident.incident.id, 2);
        let unknown = ask(&Request::ExplainIncident { id: 9 }).map(|found| found.response);
        assert!(matches!(unknown, Some(Response::Refused(_))), "{unknown:?}");
        let line = ask(&Request::Timeline { id: 1 }).map(|found| found.response);
        assert!(matches!(line, Some(Response::Timeline(_))), "{line:?}");
        assert!(ask(&Request::Timeline { id: 2 }).is_none());

        fs::write(dir.join("incidents.jsonl"), "tcpguard 1 5 00000000\n{}").unwrap();
        assert!(matches!(response(dir, &Request::ExplainIncident { id: 2 }), Err(Damage::Bad(_))));
        assert!(dir.join("incidents.jsonl").exists(), "a question changes nothing");
    }
}
