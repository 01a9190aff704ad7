//! The page of an incident or a capture for a browser.

use std::path::Path;

use super::error::CliError;
use super::session::Session;
use super::status::fetch;
use crate::control::{ClientError, Request, Response};
use crate::documents::FullIncident;
use crate::documents::timeline::Timeline;
use crate::html::{Host, Story, page};

/// The counters of an incident over time, or the reason why there are none.
pub(super) fn timeline(id: u64, session: &Session<'_>) -> anyhow::Result<Result<Timeline, String>> {
    match session.ask(Request::Timeline { id }, Response::try_as_timeline) {
        Ok(line) => Ok(Ok(*line)),
        // An older agent does not know this request.
        Err(ClientError::Refused(refusal)) => Ok(Err(refusal.message)),
        Err(ClientError::NotRunning { .. }) => Ok(Err(format!("no time series of incident #{id}"))),
        Err(error) => Err(error.into()),
    }
}

/// Writes the page of an incident. Without a time series it says why it has no plots.
pub(super) fn page_of(
    full: FullIncident,
    html: &Path,
    session: &mut Session<'_>,
) -> anyhow::Result<()> {
    let line = timeline(full.incident.id, session)?;
    let status = fetch(session)?;
    let uname = rustix::system::uname();
    let host = Host {
        name: status.daemon.hostname,
        interfaces: status.interfaces.into_iter().map(|interface| interface.name).collect(),
        mode: status.daemon.mode.name(),
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
