//! The agent's status: the JSON document `tcpguard.status/1`, read as any other program would read it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::measure::clock;

/// One `status --json`.
///
/// Its readers panic when a field is missing or has another type: the document is a contract, and
/// a breach of it fails the test that reads it.
#[derive(Clone, Debug)]
pub struct Status(Value);

/// An incident, open or closed.
#[derive(Clone, Debug)]
pub struct Incident(Value);

/// A rule that the daemon wants in the kernel.
#[derive(Clone, Debug)]
pub struct Rule(Value);

impl Status {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is not JSON or not of this version.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let document: Value = serde_json::from_slice(json).context("status is not JSON")?;
        ensure!(document["schema"] == "tcpguard.status/1", "not a status: {document}");
        Ok(Self(document))
    }

    /// Returns the whole document.
    pub fn document(&self) -> &Value {
        &self.0
    }

    /// The whole situation in one word.
    pub fn state(&self) -> &str {
        text(&self.0, "/daemon/state")
    }

    /// Returns the age of the last poll.
    pub fn heartbeat_age(&self) -> Duration {
        Duration::from_millis(number(&self.0, "/daemon/watchdog_age_ms"))
    }

    /// Bytes of memory that the agent has in use.
    pub fn heap(&self) -> u64 {
        number(&self.0, "/daemon/heap_bytes")
    }

    /// True if the agent knows how many handshakes of clients are normal.
    pub fn knows_baseline(&self) -> bool {
        self.0["clients"]["baseline_pps"].is_number()
    }

    /// Open incidents, the oldest first.
    pub fn incidents(&self) -> Vec<Incident> {
        list(&self.0, "/incidents").iter().cloned().map(Incident).collect()
    }

    /// Closed incidents, the newest first.
    pub fn past_incidents(&self) -> Vec<Incident> {
        list(&self.0, "/past_incidents").iter().cloned().map(Incident).collect()
    }

    /// Rules that the daemon wants in the kernel.
    pub fn rules(&self) -> Vec<Rule> {
        list(&self.0, "/rules/list").iter().cloned().map(Rule).collect()
    }

    /// Rules that are in the kernel; `None` before they were counted.
    pub fn rules_in_kernel(&self) -> Option<u64> {
        at(&self.0, "/rules/in_kernel").as_u64()
    }

    /// Codes of the agent's own health findings, each with its text.
    pub fn health(&self) -> Vec<(String, String)> {
        let findings = list(&self.0, "/health").iter();
        findings.map(|f| (text(f, "/code").to_owned(), text(f, "/text").to_owned())).collect()
    }

    /// A counter of the only interface: `rx_packets`, `syn`, `pass`, `drop_total`, `unaccounted`.
    pub fn total(&self, counter: &str) -> u64 {
        number(&self.0, &format!("/interfaces/0/totals/{counter}"))
    }

    /// Packets of the only interface with this reason, passed or dropped.
    pub fn reason(&self, reason: &str) -> u64 {
        let totals = at(&self.0, "/interfaces/0/totals");
        ["pass_reasons", "drop"].iter().filter_map(|kind| totals[kind][reason].as_u64()).sum()
    }

    /// Mode of the XDP program on the only interface: `native` or `generic`.
    pub fn xdp_mode(&self) -> &str {
        text(&self.0, "/interfaces/0/mode")
    }

    /// A counter of the listeners on `port`, summed: `syn`, `accepted_retransmits`, `exempt`, ….
    pub fn listener_total(&self, port: u16, counter: &str) -> u64 {
        list(&self.0, "/listeners")
            .iter()
            .filter(|listener| number(listener, "/port") == u64::from(port))
            .map(|listener| number(listener, &format!("/totals/{counter}")))
            .sum()
    }

    /// State of a mitigation at the listener at which it is active or refused, if there is one.
    pub fn mitigation(&self, mitigation: &str) -> Option<&str> {
        self.mitigation_field(mitigation, "state")?.as_str()
    }

    /// Returns the reason for this state, with its facts.
    pub fn mitigation_reason(&self, mitigation: &str) -> Option<&Value> {
        self.mitigation_field(mitigation, "why")
    }

    fn mitigation_field(&self, mitigation: &str, key: &str) -> Option<&Value> {
        let listeners = self.0["listeners"].as_array()?;
        let mitigations =
            listeners.iter().filter_map(|listener| listener["mitigations"].as_array()).flatten();
        let mut found = mitigations.filter(|found| found["mitigation"] == mitigation);
        found.next()?.get(key)
    }

    /// Number of listeners at which this mitigation is active.
    pub fn listeners_with(&self, mitigation: &str) -> usize {
        let takes = |listener: &Value| {
            let mitigations = listener["mitigations"].as_array().into_iter().flatten();
            mitigations
                .filter(|found| found["mitigation"] == mitigation)
                .any(|found| found["state"] == "active")
        };
        list(&self.0, "/listeners").iter().filter(|listener| takes(listener)).count()
    }

    /// Returns whether a listener on `port` is monitored.
    pub fn follows(&self, port: u16) -> bool {
        let mut listeners = list(&self.0, "/listeners").iter();
        listeners.any(|listener| number(listener, "/port") == u64::from(port))
    }

    /// Returns the number of the latest alerts that report this event.
    pub fn alerts(&self, event: &str) -> usize {
        let alerts = list(&self.0, "/alerts").iter();
        alerts.filter(|alert| text(alert, "/event") == event).count()
    }
}

impl Incident {
    /// Returns the number of the incident.
    pub fn id(&self) -> u64 {
        number(&self.0, "/id")
    }

    /// Its class, such as `random_spoofed`, `single_source` or `handshake_degraded`.
    pub fn class(&self) -> &str {
        text(&self.0, "/class")
    }

    /// Returns whether it is a flood of failed handshakes, rather than clients in trouble.
    pub fn is_flood(&self) -> bool {
        let floods = ["random_spoofed", "single_source", "few_source", "distributed"];
        floods.contains(&self.class())
    }

    /// Port of its listener.
    pub fn port(&self) -> u16 {
        number(&self.0, "/port") as u16
    }

    /// Number, class and target of the incident, in one line.
    pub fn summary(&self) -> String {
        let (id, dst) = (number(&self.0, "/id"), text(&self.0, "/dst"));
        format!("#{id} {} on {dst} port {}", self.class(), self.port())
    }

    /// Number of listeners that it is about.
    pub fn listeners(&self) -> u64 {
        number(&self.0, "/listeners")
    }

    /// Returns the time of detection, in ns since boot.
    pub fn detected(&self) -> u64 {
        since_boot(text(&self.0, "/detected_at"))
    }

    /// SYNs since it began.
    pub fn syns(&self) -> u64 {
        number(&self.0, "/syns")
    }

    /// Returns the number of these SYNs that were dropped.
    pub fn dropped(&self) -> u64 {
        number(&self.0, "/dropped")
    }

    /// SYNs that its rules matched, in whatever mode.
    pub fn matched(&self) -> u64 {
        number(&self.0, "/matched")
    }

    /// Names of the actions, oldest first.
    pub fn actions(&self) -> Vec<&str> {
        list(&self.0, "/actions").iter().map(|action| text(action, "/event")).collect()
    }

    /// Returns whether the agent sees none of the replies.
    pub fn replies_unseen(&self) -> bool {
        at(&self.0, "/evidence/replies_unseen").as_bool().expect("a fact")
    }

    /// The command that it advises, if any.
    pub fn advised_command(&self) -> Option<&str> {
        at(&self.0, "/advice").get("command").and_then(Value::as_str)
    }
}

impl Rule {
    /// `source` or `signature`.
    pub fn kind(&self) -> &str {
        text(&self.0, "/kind")
    }

    /// Description of the packets that it matches.
    pub fn matches(&self) -> &str {
        text(&self.0, "/matches")
    }

    /// Returns the time at which the rule was made, in ns since boot.
    pub fn created(&self) -> u64 {
        since_boot(text(&self.0, "/created_at"))
    }

    /// Returns the reason for the rule, with its facts.
    pub fn reason(&self) -> &Value {
        at(&self.0, "/reason")
    }

    /// SYNs that it dropped.
    pub fn hits(&self) -> u64 {
        number(&self.0, "/hits")
    }

    /// SYNs that it matched and that passed because they were retransmitted.
    pub fn accepted_retransmits(&self) -> u64 {
        number(&self.0, "/accepted_retransmits")
    }

    /// Handshakes that new clients completed after such a retransmission.
    pub fn completed(&self) -> u64 {
        number(&self.0, "/completed")
    }
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("status has no {pointer}: {value:#}"))
}

fn number(value: &Value, pointer: &str) -> u64 {
    let number = at(value, pointer);
    number.as_u64().unwrap_or_else(|| panic!("{pointer} is no count: {number}"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let text = at(value, pointer);
    text.as_str().unwrap_or_else(|| panic!("{pointer} is no text: {text}"))
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let list = at(value, pointer);
    list.as_array().unwrap_or_else(|| panic!("{pointer} is no list: {list}"))
}

/// A time of day of this boot (RFC 3339) in nanoseconds since boot.
fn since_boot(time: &str) -> u64 {
    clock::since_boot(time.parse().unwrap_or_else(|error| panic!("{time:?} is no time: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_document_is_refused() {
        assert!(Status::parse(br#"{"schema":"tcpguard.status/2"}"#).is_err());
        assert!(Status::parse(b"not running").is_err());
    }
}
