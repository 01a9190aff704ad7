//! `tcpguard report`

use std::path::Path;

use super::args::ReportArgs;
use super::error::CliError;
use super::explain;
use super::session::Session;
use super::status::{fetch, foreign};
use crate::config::mode_name;
use crate::control::{ClientError, Request, Response};
use crate::html::{Host, Story, page};

pub(super) fn run(args: &ReportArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if args.html.is_none() && !session.json {
        let hint = "tcpguard report … --html FILE (- for standard output)";
        return Err(CliError::usage("no output: --html or --json is required", hint).into());
    }
    let id = args.incident;
    let full = explain::incident(id, session)?;
    let line = match session.ask(Request::Timeline { id }) {
        Ok(Response::Timeline(line)) => Ok(*line),
        Ok(other) => return Err(foreign(&other).into()),
        // The page says why it has no plots; an older agent does not know this request.
        Err(ClientError::Refused(refusal)) => Err(refusal.message),
        Err(ClientError::NotRunning { .. }) => Err(format!("no time series of incident #{id}")),
        Err(error) => return Err(error.into()),
    };
    if session.json {
        let line = line
            .as_ref()
            .map_err(|why| CliError::not_found(why.clone(), format!("tcpguard explain {id}")))?;
        session.print_document(line)?;
    }
    let Some(html) = &args.html else { return Ok(()) };
    let status = fetch(session)?;
    let uname = rustix::system::uname();
    let host = Host {
        name: status.daemon.hostname,
        interfaces: status.interfaces.into_iter().map(|interface| interface.name).collect(),
        mode: mode_name(status.daemon.mode),
        kernel: format!(
            "{} {}",
            uname.sysname().to_string_lossy(),
            uname.release().to_string_lossy()
        ),
        version: status.daemon.version,
    };
    let story = Story::of_attack(full, line, session.view.zone.clone()).on(host);
    write_page(&story, html, session)
}

/// Writes the page of `story` to a file, or to standard output for `-`.
pub(super) fn write_page(
    story: &Story,
    html: &Path,
    session: &mut Session<'_>,
) -> anyhow::Result<()> {
    let page = page(story);
    if html == Path::new("-") {
        return Ok(session.print_utf8(&page)?);
    }
    std::fs::write(html, page)
        .map_err(|error| CliError::file("write", html, &error, "name another file with --html"))?;
    session.say(&format!("wrote {}", html.display()));
    Ok(())
}
