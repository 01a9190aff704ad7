//! `tcpguard explain`

use ipnet::IpNet;

use super::args::{ExplainArgs, Subject};
use super::error::CliError;
use super::session::Session;
use super::{incidents, report};
use crate::control::{Request, Response};
use crate::documents::FullIncident;
use crate::text;

pub(super) fn run(args: &ExplainArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let of_incident = args.html.is_some() || args.timeline || args.evidence;
    match (args.subject, args.port) {
        (Some(Subject::Prefix(_)), _) if of_incident => {
            let message = "--html, --timeline and --evidence are for incidents only";
            Err(CliError::usage(message, "tcpguard incidents").into())
        }
        (Some(Subject::Prefix(prefix)), port) => about_prefix(prefix, port, session),
        (_, Some(_)) => {
            let hint = "tcpguard explain ADDRESS --port N";
            Err(CliError::usage("--port is for addresses only", hint).into())
        }
        (Some(Subject::Incident(id)), None) => about_incident(id, args, session),
        (None, None) => {
            let (newest, open) = incidents::latest(session)?;
            about_incident(newest, args, session)?;
            for other in open {
                session.say(&format!("also open: tcpguard explain {other}"));
            }
            Ok(())
        }
    }
}

fn about_prefix(prefix: IpNet, port: Option<u16>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let request = Request::Explain { prefix, port };
    let explanation = session.client.ask(request, Response::try_as_explained)?;
    let judged = explanation.judged();
    if session.json {
        return session.print_document(&judged);
    }
    session.render(|out, view| text::explanation(out, &judged, view))?;
    match judged.about.rules.first() {
        Some(rule) => {
            session.say(&format!("to remove the rule: tcpguard unblock --rule {}", rule.id))
        }
        // To drop clients is no advice, and an exempt address takes no rule.
        None if judged.about.clients.validated > 0 || judged.about.exempt.is_some() => {}
        None => {
            let port = port.map_or_else(String::new, |port| format!(" --port {port}"));
            session.say(&format!("to drop it: tcpguard block {prefix}{port}"));
        }
    }
    Ok(())
}

/// The evidence by which the incident with this number was judged.
pub(super) fn incident(id: u64, session: &Session<'_>) -> anyhow::Result<FullIncident> {
    let request = Request::ExplainIncident { id };
    Ok(*session.ask(request, Response::try_as_incident_explained)?)
}

/// One incident: as a page for a browser, as its time series, or in words.
fn about_incident(id: u64, args: &ExplainArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let incident = incident(id, session)?;
    if args.timeline {
        let line = report::timeline(id, session)?;
        let hint = || format!("tcpguard explain {id}");
        session.print_document(&line.map_err(|why| CliError::not_found(why, hint()))?)?;
    } else if session.json {
        session.print_document(&incident)?;
    } else if args.html.is_none() {
        return session
            .render(|out, view| text::attack_in_full(out, &incident, view, args.evidence));
    }
    args.html.as_ref().map_or(Ok(()), |html| report::page_of(incident, html, session))
}
