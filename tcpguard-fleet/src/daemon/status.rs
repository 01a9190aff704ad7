//! `tcpguard.fleet.process/1`: state of one process of the fleet.
//!
//! Rates are per second, shares are 0 to 1, and times are RFC 3339 in UTC. Readers must tolerate fields and words that
//! they do not know.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::Ports;
use tcpguard_host::finding::Finding;
use tcpguard_host::time::Time;
use tcpguard_host::units;

use crate::bus::BusStatus;
use crate::document::{AnnouncedRoute, HostId, ReliefRoute};
use crate::relief::edge::Phase;

/// State of one process of the fleet.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ProcessStatus {
    /// Name and version of this document: `tcpguard.fleet.process/1`.
    pub schema: String,
    /// Time at which the document was made.
    pub generated_at: Time,
    /// Version of the process.
    pub version: String,
    /// Name of this host on the bus.
    pub host: HostId,
    /// Problems of the process, the most severe first; empty when there are none.
    pub health: Vec<Finding>,
    /// Connection to the bus.
    pub bus: BusStatus,
    /// The part of a host; left out for a controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeStatus>,
    /// The controller of routers; left out for a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<ControllerStatus>,
}

impl ProcessStatus {
    /// The value of [`ProcessStatus::schema`].
    pub const SCHEMA: &str = "tcpguard.fleet.process/1";
}

impl BusStatus {
    /// The problem of the connection at this time, if there is one.
    pub fn finding(&self, now: jiff::Timestamp) -> Option<Finding> {
        let why = self.last_error.as_deref().unwrap_or("no reply");
        let ending = self.credentials_end.and_then(|end| ending(end.0, now));
        match (self.connected, self.refused, &self.denied) {
            (true, _, Some(denied)) => Some(
                Finding::warning("fleet_credentials", format!("the bus does not permit all that this process does: {denied}"))
                    .hint("sign credentials for the name of: tcpguard-fleet name, and its part: tcpguard-fleet enroll NAME --as PART"),
            ),
            (true, _, None) => ending,
            (false, true, _) if self.credentials_end.is_some_and(|end| end.0 <= now) => ending,
            (false, true, _) => Some(
                Finding::warning("fleet_credentials", "the bus refuses the credentials of this host")
                    .hint(RENEW),
            ),
            (false, false, _) => Some(
                Finding::warning("fleet_bus", format!("no connection to the bus: {why}"))
                    .hint("check servers under [bus] in /etc/tcpguard/fleet.toml; this host is protected all the same"),
            ),
        }
    }
}

/// Remedy of credentials that have ended or will end.
const RENEW: &str =
    "sign new ones: tcpguard-fleet enroll NAME, with the name of: tcpguard-fleet name";
/// Time before the end of credentials from which it is announced: two weeks, because an operator may be away
/// for one.
const ANNOUNCED: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Time before the end of credentials from which it is urgent: more than a weekend.
const URGENT: SignedDuration = SignedDuration::from_hours(3 * 24);

/// The problem of credentials that end soon or have ended; `None` as long as they last.
pub fn ending(end: jiff::Timestamp, now: jiff::Timestamp) -> Option<Finding> {
    let left = end.duration_since(now);
    if left > ANNOUNCED {
        return None;
    }
    let text = match Duration::try_from(left) {
        Ok(left) if !left.is_zero() => {
            format!("the credentials of this host end in {}", units::span(left))
        }
        _ => "the credentials of this host have ended".to_owned(),
    };
    let finding = match left <= URGENT {
        true => Finding::warning("fleet_credentials", text),
        false => Finding::notice("fleet_credentials", text),
    };
    Some(finding.hint(RENEW))
}

/// The part of a host in the fleet.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct EdgeStatus {
    /// True while the agent reports its state.
    pub agent: bool,
    /// Ports at which the host listens.
    pub ports: u32,
    /// Open incidents.
    pub incidents: u32,
    /// Signatures of other hosts that the agent knows.
    pub hints: u32,
    /// Rules of operators, with those that the agent refuses.
    pub rules: Vec<RuleStatus>,
    /// Documents of others that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Hosts whose documents are ignored for now.
    pub muted: Vec<HostId>,
    /// Messages that were not sent because enough other hosts had sent the same.
    pub suppressed: u64,
    /// Messages to the agent for which there was no slot.
    pub dropped: u64,
    /// Receivers of events, in the order of the configuration.
    pub hooks: Vec<HookStatus>,
    /// Relief by routers; `null` if this host asks for none.
    pub relief: Option<ReliefStatus>,
}

/// A rule of an operator.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RuleStatus {
    /// Name of the rule, such as `fleet:ops/42`.
    pub name: String,
    /// Effect of the rule: `block` or `allow`.
    pub action: String,
    /// Sources for which it is.
    #[schemars(with = "String")]
    pub prefix: IpNet,
    /// Local ports for which it is; empty for every port.
    #[schemars(with = "Vec<u16>")]
    pub ports: Ports,
    /// Time of its end.
    pub ends: Time,
    /// Reason, in the operator's words.
    pub reason: String,
    /// Name of the operator.
    pub who: String,
    /// Reason for which the agent refuses it; `null` if it does not.
    pub refused: Option<String>,
}

/// A receiver of events.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct HookStatus {
    /// The program, or the URL without its path.
    pub target: String,
    /// Events that wait.
    pub waiting: u64,
    /// Events that arrived.
    pub delivered: u64,
    /// Events that did not arrive after all tries.
    pub failed: u64,
    /// Events that found no slot in the queue.
    pub dropped: u64,
}

/// Relief that this host asks for.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ReliefStatus {
    /// State in one word.
    pub phase: Phase,
    /// Routes that are asked for.
    pub asked: Vec<ReliefRoute>,
    /// Routes for this host that a controller announces.
    pub announced: Vec<ReliefRoute>,
}

/// The controller of routers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ControllerStatus {
    /// True if nothing is announced.
    pub dry_run: bool,
    /// True while the BGP speaker runs.
    pub speaker: bool,
    /// True while a BGP session to the router is established.
    pub established: bool,
    /// Routes in the table of the speaker.
    pub table: u32,
    /// Hosts that ask, with the state of each route.
    pub hosts: BTreeMap<HostId, Vec<AnnouncedRoute>>,
    /// Documents of hosts that are not in the configuration.
    pub unknown_hosts: u64,
    /// Routes that were refused, by host.
    pub refused: BTreeMap<HostId, u64>,
}
