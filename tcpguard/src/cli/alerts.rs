//! `tcpguard alerts` and `tcpguard events`

use std::time::Duration;

use serde::Serialize;

use super::args::{AlertsArgs, Threshold};
use super::session::Session;
use super::status::foreign;
use crate::control::{ClientError, Request, Response};
use crate::documents::Printed;
use crate::render;
use crate::status::{AlertEntry, Severity};

/// What `tcpguard alerts --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Alerts {
    /// Name and version of this document: `tcpguard.alerts/1`.
    schema: &'static str,
    /// What was told in the last 24 hours, oldest first.
    alerts: Vec<AlertEntry>,
}

/// What `tcpguard events --json` prints of each event, on a line of its own.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Event {
    /// Name and version of this document: `tcpguard.event/1`.
    schema: &'static str,
    /// What was told.
    #[serde(flatten)]
    alert: AlertEntry,
}

/// Pause between two questions of `events`: as often as the agent looks.
const STEP: Duration = Duration::from_millis(250);

/// What was told in the last 24 hours.
pub(super) fn list(args: &AlertsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let alerts = fetch(args, session)?;
    if session.json {
        return session.print_document(&Alerts { schema: Alerts::ID, alerts });
    }
    if alerts.is_empty() {
        session.say("nothing was told in the last 24 hours; older alerts: journalctl -u tcpguard");
        return Ok(());
    }
    session.render(|out, view| render::alerts(out, &alerts, view))
}

/// What is told from now on, until interrupted; one JSON object a line with `--json`.
pub(super) fn follow(args: &AlertsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let mut known = fetch(args, session)?;
    loop {
        std::thread::sleep(STEP);
        let now = fetch(args, session)?;
        for alert in unseen(&known, &now) {
            if session.json {
                let alert = alert.clone();
                session.print_document(&Event { schema: Event::ID, alert })?;
            } else {
                session
                    .render(|out, view| render::alerts(out, std::slice::from_ref(alert), view))?;
            }
        }
        known = now;
    }
}

fn fetch(args: &AlertsArgs, session: &Session<'_>) -> Result<Vec<AlertEntry>, ClientError> {
    let least = match args.severity {
        Threshold::Notice => Severity::Notice,
        Threshold::Warning => Severity::Warning,
        Threshold::Critical => Severity::Critical,
    };
    match session.client.call(Request::Alerts)? {
        Response::Alerts { mut alerts } => {
            alerts.retain(|alert| alert.severity >= least);
            Ok(alerts)
        }
        other => Err(foreign(&other)),
    }
}

/// Those of `now` that come after all of `known`. Alerts are only added at the end and forgotten at
/// the beginning; their times of day may be off by the clock's last digit.
fn unseen<'a>(known: &[AlertEntry], now: &'a [AlertEntry]) -> &'a [AlertEntry] {
    let same = |a: &AlertEntry, b: &AlertEntry| {
        (&a.event, &a.message, a.attack) == (&b.event, &b.message, b.attack)
            && a.at.0.duration_since(b.at.0).abs() <= jiff::SignedDuration::from_millis(50)
    };
    let Some(last) = known.last() else { return now };
    match now.iter().rposition(|alert| same(alert, last)) {
        Some(place) => &now[place + 1..],
        // The agent has been started again.
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Time;

    fn alert(second: i64, message: &str) -> AlertEntry {
        AlertEntry {
            at: Time(jiff::Timestamp::from_second(1_800_000_000 + second).unwrap()),
            severity: Severity::Notice,
            event: "mode_changed".to_owned(),
            message: message.to_owned(),
            attack: None,
        }
    }

    #[test]
    fn only_what_comes_after_the_last_known_alert_is_new() {
        let all = [alert(1, "a"), alert(2, "b"), alert(2, "c"), alert(3, "b")];
        assert_eq!(unseen(&[], &all), &all);
        assert_eq!(unseen(&all[..2], &all), &all[2..]);
        assert_eq!(unseen(&all, &all), &[]);
        assert_eq!(unseen(&all[..2], &all[1..]), &all[2..], "the oldest is forgotten");
        assert_eq!(unseen(&[alert(0, "of an earlier agent")], &all), &all);
    }

    #[test]
    fn a_clock_read_anew_moves_no_alert() {
        let mut shifted = [alert(1, "a"), alert(2, "b")];
        for alert in &mut shifted {
            alert.at.0 += Duration::from_millis(1);
        }
        assert_eq!(unseen(&[alert(1, "a")], &shifted), &shifted[1..]);
    }
}
