//! `tcpguard report`

use std::path::Path;

use tcpguard_engine::Mode;

use super::args::{ReportArgs, ReportSubject};
use super::error::CliError;
use super::session::Session;
use super::status::{fetch, foreign};
use super::{explain, replay as capture};
use crate::config::mode_name;
use crate::control::{ClientError, Request, Response};
use crate::documents::timeline::Timeline;
use crate::html::{Host, Story, page};
use crate::replay::{OnHost, replay_with};

pub(super) fn run(args: &ReportArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if args.html.is_none() && !session.json {
        let hint = "tcpguard report … --html FILE (- for standard output)";
        return Err(CliError::usage("no output: --html or --json is required", hint).into());
    }
    match &args.subject {
        ReportSubject::Incident(_) if args.mode.is_some() || args.config.is_some() => {
            let message = "--mode and --config are for captures only";
            Err(CliError::usage(message, "tcpguard report --help").into())
        }
        ReportSubject::Incident(id) => attack(*id, args.html.as_deref(), session),
        ReportSubject::Capture(file) => of_capture(file, args, session),
    }
}

fn attack(id: u64, html: Option<&Path>, session: &mut Session<'_>) -> anyhow::Result<()> {
    let full = explain::attack(id, session)?;
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
    let Some(html) = html else { return Ok(()) };
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
    write(&story, html, &format!("the same in text: tcpguard explain {id}"), session)
}

fn of_capture(file: &Path, args: &ReportArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let settings = capture::settings(args.config.as_deref())?;
    let (name, source) = (file.display().to_string(), capture::open(file)?);
    let mode = args.mode.unwrap_or(Mode::Observe);
    let outcome = replay_with(&name, source, OnHost, mode, settings)?;
    if session.json {
        let lines: Vec<Timeline> = outcome.in_full().filter_map(|(_, line)| line).collect();
        session.print_lines(&lines)?;
    }
    if let Some(html) = &args.html {
        let next = format!("the same in text: tcpguard replay {name}");
        write(&Story::of_capture(&outcome), html, &next, session)?;
    }
    match outcome.damage {
        Some(damage) => Err(damage.into()),
        None => Ok(()),
    }
}

fn write(story: &Story, html: &Path, next: &str, session: &mut Session<'_>) -> anyhow::Result<()> {
    let page = page(story);
    if html == Path::new("-") {
        return Ok(session.print_utf8(&page)?);
    }
    std::fs::write(html, page).map_err(|error| {
        CliError::file("write", html, &error, "name another file: tcpguard report … --html FILE")
    })?;
    let wrote = format!("wrote {}", html.display());
    if session.json {
        session.say(&wrote);
    } else {
        session.print(&format!("{wrote}\n"))?;
    }
    session.say(next);
    Ok(())
}
