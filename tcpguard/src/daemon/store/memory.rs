//! The memory of an agent that does not run: some requests can be answered from its files. The files are
//! read as they are. Nothing is set aside or written.

use std::path::Path;
use std::{fs, io};

use tcpguard_engine::{MapTime as _, RuleReport};
use tcpguard_host::durable::seal::Damage;
use tcpguard_host::time::Time;

use super::kept_timelines;
use super::{alerts, incidents, state};
use crate::control::{RefusalKind, Request, Response};
use crate::documents::{AlertPage, Allowed, Incidents, RuleList};

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
            let page = AlertPage { run: 0, first, last, now: written, alerts };
            let response = Response::Alerts(page);
            Ok(Remembered { response, written })
        })),
        Request::Incidents => found(incidents::read(dir).and_then(|all| {
            let written = written(&dir.join(incidents::NAME))?;
            let all = all.into_iter().map(|full| full.incident).collect();
            let response = Response::Incidents(Box::new(Incidents::of(written, all)));
            Ok(Remembered { response, written })
        })),
        Request::ExplainIncident { id } => found(incidents::read(dir).and_then(|all| {
            let incident = all.into_iter().find(|full| full.incident.id == *id);
            let response = match incident {
                Some(incident) => Response::IncidentExplained(Box::new(incident)),
                None => {
                    let hint = format!("journalctl -t tcpguard TCPGUARD_INCIDENT_ID={id}");
                    Response::refused(RefusalKind::NotFound, format!("no incident #{id}"), hint)
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

/// Rules and allowlist as they were written, including those that have expired since. The counters are in the
/// kernel.
fn rules(dir: &Path) -> Result<Remembered, Damage> {
    let state = state::read_in(dir)?;
    let clock = state.clock();
    let report = |rule| RuleReport::of(clock.now, rule, |id| state.listener(id));
    let rules: Vec<RuleReport> = state.rules.iter().map(report).collect();
    let rules = rules.map_time(&|at| clock.time_at(at));
    let allowed = state.allowed.iter().map(|allowed| Allowed::build(allowed, clock)).collect();
    let response = Response::Rules(RuleList { rules, allowed });
    Ok(Remembered { response, written: state.written })
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::Mitigation;

    use super::*;

    #[test]
    fn rules_alerts_and_incidents_are_as_the_agent_left_them() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let ask = |request: &Request| response(dir, request).expect("readable");
        for request in [
            Request::Rules,
            Request::Alerts { since: 0 },
            Request::Incidents,
            Request::ExplainIncident { id: 2 },
            Request::Timeline { id: 1 },
        ] {
            assert!(ask(&request).is_none(), "{request:?}: there is nothing");
        }
        assert!(ask(&Request::Status).is_none(), "only an agent knows");

        let state = state::tests::state();
        state::store(dir, &state).unwrap();
        let Some(Remembered { response: Response::Rules(list), written }) = ask(&Request::Rules)
        else {
            panic!("rules")
        };
        let RuleList { rules, allowed } = list;
        assert_eq!(written, state.written);
        assert_eq!((rules.len(), allowed.len()), (state.rules.len(), state.allowed.len()));
        assert!(rules.iter().any(|rule| rule.kind == Mitigation::Source), "{rules:?}");

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
