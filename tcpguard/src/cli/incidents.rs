//! `tcpguard incidents`

use super::args::IncidentsArgs;
use super::error::CliError;
use super::session::Session;
use crate::control::{Request, Response};
use crate::documents::Incidents;
use crate::text;

pub(super) fn run(args: &IncidentsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let mut all = fetch(session)?;
    let (now, zone) = (all.generated_at.0, session.view.zone.clone());
    let at = |moment: Option<super::args::Moment>| moment.and_then(|it| it.at(now, &zone));
    let (since, until) = (at(args.period.since), at(args.period.until));
    all.incidents.retain(|one| {
        let ended = one.ended_at.map_or(now, |ended| ended.0);
        since.is_none_or(|since| since <= ended) && until.is_none_or(|until| one.since.0 <= until)
    });
    if session.json {
        return session.print_document(&all);
    }
    if all.incidents.is_empty() {
        session.say("no incidents in this period; alerts: tcpguard events --since 7d");
        return Ok(());
    }
    session.render(|out, view| text::incidents(out, &all, view))
}

pub(super) fn fetch(session: &Session<'_>) -> anyhow::Result<Incidents> {
    Ok(*session.ask(Request::Incidents, Response::try_as_incidents)?)
}

/// Number of the newest open incident, or of the last one, and those of the others that are open.
pub(super) fn latest(session: &Session<'_>) -> anyhow::Result<(u64, Vec<u64>)> {
    let incidents = fetch(session)?.incidents;
    let newest = incidents.iter().max_by_key(|one| (one.ended_at.is_none(), one.id));
    let none = || CliError::not_found("no incident on record", "tcpguard status");
    let newest = newest.ok_or_else(none)?.id;
    let open = incidents.iter().filter(|one| one.ended_at.is_none() && one.id != newest);
    Ok((newest, open.map(|one| one.id).collect()))
}
