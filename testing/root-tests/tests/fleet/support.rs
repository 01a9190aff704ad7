//! Common parts of the tests of a fleet.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tcpguard_engine::{FleetAction, FleetMessage};
use tcpguard_fleet_kit::client::Client;
use tcpguard_fleet_kit::documents::{self, PORT, Sent, Stored};
use tcpguard_fleet_kit::process::Process;
use tcpguard_fleet_kit::stand_in::StandIn;

pub const SECOND: Duration = Duration::from_secs(1);
/// Longest time from the evidence of one host to the hint at another.
pub const LEARNED_WITHIN: Duration = Duration::from_secs(2);
/// Longest time from a change at another process until it shows.
pub const SOON: Duration = Duration::from_secs(10);
/// Longest time between two messages about the same evidence.
pub const REPEATED_WITHIN: Duration = Duration::from_secs(20);
/// Memory that anything on the bus may cost a process, in bytes.
pub const MEMORY: u64 = 16 << 20;

/// Waits until a host's process has its agent and the bus, and listens to its port.
pub fn connected(edge: &Process<'_>) {
    let is_connected = |state: &Value| {
        state["bus"]["connected"] == true
            && state["edge"]["agent"] == true
            && state["edge"]["ports"] != 0
    };
    edge.wait_until("bus and agent connected", SOON, is_connected).unwrap();
    // The subscription is on its way to the server.
    sleep(SECOND / 2);
}

/// Publishes a document that the bus has to accept.
pub fn publish(client: &mut Client, sent: &Sent) {
    client.publish_permitted(&sent.subject, &sent.document).unwrap();
}

/// Stores a rule as an operator.
///
/// # Errors
/// When the store refuses it, with its reply.
pub fn store(client: &mut Client, rule: &Stored) -> Result<u64> {
    let reply = client.request(&rule.subject, &rule.document)?.json()?;
    match reply["seq"].as_u64() {
        Some(position) if reply.get("error").is_none() => Ok(position),
        _ => anyhow::bail!("{reply}"),
    }
}

/// Returns whether a message is the hint about the signature with this window.
pub fn is_hint(message: &FleetMessage, window: u16) -> bool {
    let signature = documents::signature(window);
    matches!(message, FleetMessage::Hint(hint) if hint.signature == signature && hint.ttl_s > 0)
}

/// Returns whether a message ends the hint about the signature with this window.
pub fn ends_hint(message: &FleetMessage, window: u16) -> bool {
    let signature = documents::signature(window);
    matches!(message, FleetMessage::Hint(hint) if hint.signature == signature && hint.ttl_s == 0)
}

/// Returns whether a message is the rule with this number, and blocks.
pub fn is_block(message: &FleetMessage, serial: u64) -> bool {
    matches!(
        message,
        FleetMessage::Rule(rule)
            if rule.name.serial == serial && rule.action == FleetAction::Block
    )
}

/// Returns whether a message ends the rule with this number.
pub fn ends_rule(message: &FleetMessage, serial: u64) -> bool {
    matches!(message, FleetMessage::RuleGone(name) if name.serial == serial)
}

/// Has the agent report a flood with this window.
pub fn attack(agent: &StandIn, window: u16) {
    let incident = documents::incident(u64::from(window), "192.0.2.10", window).unwrap();
    agent.report(|report| report.incidents = vec![incident]);
}

/// Has the agent report no incident.
pub fn calm(agent: &StandIn) {
    agent.report(|report| report.incidents.clear());
}

/// A number of the state of a host's process: of documents that it refused for this reason.
pub fn refused(state: &Value, reason: &str) -> u64 {
    state["edge"]["refused"][reason].as_u64().unwrap_or_default()
}

/// Waits for the next signature of the host with this name, and returns the time that it took.
///
/// # Errors
/// When there is none within `limit`.
pub fn next_signature(observer: &mut Client, name: &str, limit: Duration) -> Result<Duration> {
    let begun = std::time::Instant::now();
    let subject = format!("tg.1.sig.{PORT}.{name}");
    while let Some(left) = limit.checked_sub(begun.elapsed()) {
        match observer.next(left)? {
            Some(message) if message.subject == subject => return Ok(begun.elapsed()),
            Some(_) => {}
            None => break,
        }
    }
    anyhow::bail!("no signature of {name} within {limit:?}")
}
