//! Alerts as they are sent to journald, in its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tcpguard_engine::IncidentClass;
use tcpguard_eval::judge::Alert;

/// The alert in an entry that arrived at `at`, s since boot; `None` for one that is about no incident.
///
/// # Errors
/// When the entry is none, or its incident has a number or a class that is not understood.
pub fn alert(entry: &[u8], at: f64) -> Result<Option<Alert>> {
    let fields = fields(entry)?;
    ensure!(fields.contains_key("TCPGUARD_EVENT"), "no alert: {fields:?}");
    let Some(incident) = fields.get("TCPGUARD_INCIDENT_ID") else { return Ok(None) };
    let class = fields.get("TCPGUARD_CLASS").context("an incident has a class")?;
    let class: IncidentClass = serde_json::from_value(Value::String(class.clone()))?;
    Ok(Some(Alert {
        at,
        incident: incident.parse()?,
        class,
        // The journal does not hold the time of detection. The time of the alert is the one that counts here.
        detected: at,
        ended: fields.contains_key("TCPGUARD_DURATION_S"),
    }))
}

/// The fields of an entry; of those that it has several times the last.
fn fields(mut entry: &[u8]) -> Result<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n').context("an unfinished line")?;
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        entry = match line.iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                fields.insert(text(&line[..equals]), text(&line[equals + 1..]));
                rest
            }
            // A name by itself is followed by the length of its value, which may hold newlines.
            None => {
                let (length, rest) = rest.split_first_chunk().context("a value has a length")?;
                let length = usize::try_from(u64::from_le_bytes(*length))?;
                let value = rest.get(..length).context("a value is as long as it says")?;
                fields.insert(text(line), text(value));
                &rest[(length + 1).min(rest.len())..]
            }
        };
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: &[u8] =
        b"MESSAGE=a flood\nTCPGUARD_EVENT=attack_started\nTCPGUARD_INCIDENT_ID=7\n\
                             TCPGUARD_CLASS=random_spoofed\nTCPGUARD_RULE=1\nTCPGUARD_RULE=2\n";

    #[test]
    fn an_alert_about_an_incident_is_understood() {
        let parsed = alert(STARTED, 12.5).unwrap().expect("an incident");
        assert_eq!((parsed.at, parsed.incident), (12.5, 7));
        assert_eq!(parsed.class, IncidentClass::RandomSpoofed);
        assert!(!parsed.ended);
        let ended = [STARTED, b"TCPGUARD_DURATION_S=31\n"].concat();
        assert!(alert(&ended, 50.0).unwrap().expect("an incident").ended);
    }

    #[test]
    fn an_alert_about_something_else_is_left_out() {
        assert_eq!(alert(b"TCPGUARD_EVENT=mode_changed\n", 1.0).unwrap(), None);
        assert!(alert(b"MESSAGE=a log line\n", 1.0).is_err());
    }

    #[test]
    fn a_value_with_newlines_hides_no_field() {
        let mut entry = b"MESSAGE\n".to_vec();
        entry.extend(15_u64.to_le_bytes());
        entry.extend(b"two lines\nX=1\n.\n");
        entry.extend(STARTED);
        let fields = fields(&entry).unwrap();
        assert_eq!(fields["TCPGUARD_INCIDENT_ID"], "7");
        assert!(!fields.contains_key("X"), "{fields:?}");
        assert!(alert(&entry[..20], 1.0).is_err(), "a piece of an entry");
    }
}
