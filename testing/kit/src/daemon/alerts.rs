//! The agent's alerts and their times: the JSON document `tcpguard.events/1`, read as any other program
//! would read it.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::measure::clock::since_boot;

/// An alert of the agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alert {
    /// Time of the alert, in nanoseconds since boot.
    pub at: u64,
    /// The event's name, such as `attack_started`.
    pub event: String,
    /// The number of the attack it belongs to, if it does to one.
    pub incident: Option<u64>,
    /// The name of the mitigation that the event is about, such as `cookies`.
    pub mitigation: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    schema: String,
    events: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    at: String,
    event: String,
    incident: Option<u64>,
    mitigation: Option<String>,
}

/// Reads a document.
///
/// # Errors
/// When it is not JSON, not of this version, or has a time that is none.
pub fn parse(json: &[u8]) -> Result<Vec<Alert>> {
    let document: Document = serde_json::from_slice(json).context("these are no alerts")?;
    ensure!(document.schema == "tcpguard.events/1", "not alerts: {}", document.schema);
    let alert = |Entry { at, event, incident, mitigation }| {
        let time = at.parse().with_context(|| format!("{event}: {at:?} is no time"))?;
        Ok(Alert { at: since_boot(time), event, incident, mitigation })
    };
    document.events.into_iter().map(alert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::clock::boot_ns;

    #[test]
    fn alerts_have_their_times_by_the_boot_clock() {
        let at = jiff::Timestamp::now();
        let json = format!(
            r#"{{"schema":"tcpguard.events/1","events":[{{"at":"{at}","severity":"critical",
                "event":"mitigation_started","mitigation":"cookies","message":"cookies","incident":7}}]}}"#
        );
        let [alert] = &parse(json.as_bytes()).unwrap()[..] else { panic!("one alert") };
        assert_eq!((&*alert.event, alert.incident), ("mitigation_started", Some(7)));
        assert_eq!(alert.mitigation.as_deref(), Some("cookies"));
        assert!(boot_ns().abs_diff(alert.at) < 1_000_000_000, "{alert:?}");
    }

    #[test]
    fn another_document_is_refused() {
        assert!(parse(br#"{"schema":"tcpguard.events/2","events":[]}"#).is_err());
        let no_time = br#"{"schema":"tcpguard.events/1","events":[{"at":"noon","event":"x"}]}"#;
        assert!(format!("{:#}", parse(no_time).unwrap_err()).contains("noon"));
    }
}
