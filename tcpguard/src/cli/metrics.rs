//! `tcpguard metrics`

use super::error::CliError;
use super::session::Session;
use super::status::fetch;
use crate::control::ClientError;
use crate::telemetry::metrics::{of_status, text, without_agent};

pub(super) fn run(session: &mut Session<'_>) -> anyhow::Result<()> {
    if session.json {
        return Err(CliError::usage("metrics has no JSON output", "tcpguard status --json").into());
    }
    match fetch(session) {
        Ok(status) => Ok(session.print(&text(&of_status(&status)))?),
        Err(error) => {
            // An agent that does not respond is a value too, and the one to raise an alarm by. A user
            // without the permission to ask does not know it.
            if matches!(error, ClientError::NotRunning { .. } | ClientError::Broken { .. }) {
                session.print(&text(&without_agent()))?;
            }
            Err(error.into())
        }
    }
}
