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
