//! `tcpguard explain`

use ipnet::IpNet;

use super::args::{ExplainArgs, Subject};
use super::error::CliError;
use super::session::Session;
use super::status::foreign;
use crate::control::{Request, Response};
use crate::documents::FullIncident;
use crate::text;

pub(super) fn run(args: &ExplainArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    match (args.subject, args.port) {
        (Subject::Prefix(prefix), port) => about_prefix(prefix, port, session),
        (Subject::Incident(id), None) => about_incident(id, args.evidence, session),
        (Subject::Incident(id), Some(_)) => {
            let hint = format!("tcpguard explain {id}");
            Err(CliError::usage("--port is for addresses only", hint).into())
        }
    }
}

fn about_prefix(prefix: IpNet, port: Option<u16>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let explanation = match session.client.call(Request::Explain { prefix, port })? {
        Response::Explained(explanation) => *explanation,
        other => return Err(foreign(&other).into()),
    };
    let judged = explanation.judged();
    if session.json {
        return session.print_document(&judged);
    }
    session.render(|out, view| text::explanation(out, &judged, view))?;
    match judged.about.rules.first() {
        Some(rule) => {
            session.say(&format!("to remove the rule: tcpguard unblock --rule {}", rule.id))
        }
        // To drop clients is no advice.
        None if judged.about.clients.validated > 0 => {}
        None => {
            let port = port.map_or_else(String::new, |port| format!(" --port {port}"));
            session.say(&format!("to drop it: tcpguard block {prefix}{port}"));
        }
    }
    Ok(())
}

/// The evidence by which the incident with this number was judged.
pub(super) fn incident(id: u64, session: &Session<'_>) -> anyhow::Result<FullIncident> {
    match session.ask(Request::ExplainIncident { id })? {
        Response::IncidentExplained(attack) => Ok(*attack),
        other => Err(foreign(&other).into()),
    }
}

/// One incident, with everything that it was judged by where `evidence` is asked for.
pub(super) fn about_incident(
    id: u64,
    evidence: bool,
    session: &mut Session<'_>,
) -> anyhow::Result<()> {
    let incident = incident(id, session)?;
    if session.json {
        return session.print_document(&incident);
    }
    session.render(|out, view| text::attack_in_full(out, &incident, view, evidence))
}
