//! A past as full as an agent's ever gets, for an agent that is about to start.
//!
//! It remembers a thousand alerts and 64 incidents. Floods take hours to cause so many, and until then each one
//! takes memory, rightly: a soak could not distinguish that from a leak. With as many from the beginning each
//! new one replaces another. They need the same memory if they are of the same kind, once all of the first have
//! been replaced: until then those lie side by side, and the new ones in the gaps between them.

use anyhow::{Context, Result};
use serde_json::Value;
use tcpguard_host::durable::seal;

/// Kinds of files that an agent leaves, with one record a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The file of alerts.
    Alerts,
    /// The file of incident records.
    Incidents,
}

impl Kind {
    /// Returns the name of the field that holds a line's number.
    const fn number(self) -> &'static str {
        match self {
            Self::Alerts => "seq",
            Self::Incidents => "id",
        }
    }

    /// Returns whether floods make more of the kind.
    fn is_of_attack(self, line: &Value) -> bool {
        match self {
            Self::Alerts => line["incident"].is_u64(),
            Self::Incidents => line["id"].is_u64(),
        }
    }
}

/// The file of alerts or incidents that an agent left, with `most` of them: those of attacks, again and
/// again, under numbers of their own up to the last one's. It is sealed, as the agent's own files are.
pub fn filled(kind: Kind, left: &str, most: usize) -> Result<String> {
    let lines = repeated(kind, left, most)?;
    String::from_utf8(seal::sealed(lines.as_bytes())).context("lines of JSON are text")
}

/// The lines of that file.
fn repeated(kind: Kind, left: &str, most: usize) -> Result<String> {
    let reported: Vec<Value> =
        left.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let number = |line: &Value| line[kind.number()].as_u64();
    let last = reported.iter().filter_map(number).max().unwrap_or(0).max(most as u64);
    let mut of_attacks: Vec<_> =
        reported.into_iter().filter(|line| kind.is_of_attack(line)).collect();
    of_attacks.sort_by_key(number);
    let lines = of_attacks.into_iter().cycle().zip(last + 1 - most as u64..=last);
    let filled = lines.map(|(mut line, number)| {
        line[kind.number()] = number.into();
        format!("{line}\n")
    });
    let filled: String = filled.collect();
    (!filled.is_empty()).then_some(filled).context("earlier agents reported no attack")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: &str = "tcpguard 1 99 0badc0de\n\
        {\"seq\":7,\"message\":\"mode\",\"incident\":null}\n\
        {\"seq\":8,\"message\":\"started\",\"incident\":3}\n\
        {\"seq\":9,\"message\":\"ended\",\"incident\":3}\n";

    fn reported(file: &str) -> Vec<(u64, String)> {
        let alerts = file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let reported = |alert: Value| {
            (alert["seq"].as_u64().unwrap(), alert["message"].as_str().unwrap().to_owned())
        };
        alerts.map(reported).collect()
    }

    #[test]
    fn alerts_of_attacks_are_repeated_until_there_are_enough() {
        let expected = |numbers: &[(u64, &str)]| -> Vec<(u64, String)> {
            numbers.iter().map(|(number, message)| (*number, (*message).to_owned())).collect()
        };
        let five = [(5, "started"), (6, "ended"), (7, "started"), (8, "ended"), (9, "started")];
        let filled = |most| repeated(Kind::Alerts, LEFT, most).unwrap();
        assert_eq!(reported(&filled(5)), expected(&five));
        assert_eq!(reported(&filled(1)), expected(&[(9, "started")]));
        let many = filled(1_000);
        assert_eq!((many.lines().count(), reported(&many)[0].0), (1_000, 1));
    }

    #[test]
    fn of_no_attack_there_is_nothing_to_repeat() {
        assert!(filled(Kind::Incidents, "", 1_000).is_err());
        assert!(filled(Kind::Alerts, LEFT.lines().nth(1).unwrap(), 1_000).is_err());
    }

    #[test]
    fn incidents_have_numbers_of_their_own_too() {
        let left = "{\"id\":70,\"port\":443}\n{\"id\":71,\"port\":444}\n";
        let expected = "{\"id\":69,\"port\":443}\n{\"id\":70,\"port\":444}\n\
                        {\"id\":71,\"port\":443}\n";
        assert_eq!(repeated(Kind::Incidents, left, 3).unwrap(), expected);
        let file = filled(Kind::Incidents, left, 3).unwrap();
        assert_eq!(seal::opened(file.into_bytes()), Ok(expected.as_bytes().to_vec()));
    }
}
