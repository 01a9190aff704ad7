//! `tcpguard metrics`

use super::args::{MetricsArgs, MetricsFormat};
use super::error::CliError;
use super::session::Session;
use super::status::fetch;
use crate::control::ClientError;
use crate::telemetry::metrics::{Format, of_status, text, without_agent};

pub(super) fn run(args: &MetricsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if session.json {
        let hint = "use --format, or: tcpguard status --json";
        return Err(CliError::usage("metrics has no JSON output", hint).into());
    }
    let format = match args.format {
        MetricsFormat::Openmetrics => Format::OpenMetrics,
        MetricsFormat::Prometheus => Format::Prometheus,
    };
    match fetch(session) {
        Ok(status) => Ok(session.print(&text(of_status(&status), format))?),
        Err(error) => {
            // An agent that does not respond is a value too, and the one to raise an alarm by. A user
            // without the permission to ask does not know it.
            if matches!(error, ClientError::NotRunning { .. } | ClientError::Broken { .. }) {
                session.print(&text(without_agent(), format))?;
            }
            Err(error.into())
        }
    }
}
