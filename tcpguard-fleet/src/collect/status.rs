//! The types of the document `tcpguard.fleet.status/1`, in the order in which it is printed.
//!
//! Rates are per second, shares are 0 to 1, and times are RFC 3339 in UTC. `null` means "not known" unless the field
//! says otherwise. Readers must tolerate fields and words that they do not know.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{IncidentClass, Mitigation};
use tcpguard_host::finding::{Finding, Severity};
use tcpguard_host::time::Time;

use crate::document::{Agent, FleetCounts, HostId, Id, Label, ReliefRoute, RouteState};

/// State of a fleet at one moment: its hosts, the incidents across them, and the routes that are announced for them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FleetStatus {
    /// Name and version of this document: `tcpguard.fleet.status/1`.
    pub schema: String,
    /// Time at which the document was made.
    pub generated_at: Time,
    /// Time since the collector began to listen, in s. Every host reports itself within 40 s.
    pub listening_s: u64,
    /// Numbers over all hosts.
    pub summary: Summary,
    /// Problems of the fleet, the most severe first; empty when there are none.
    pub health: Vec<Finding>,
    /// Open incidents, oldest first.
    pub incidents: Vec<FleetIncident>,
    /// Closed incidents, newest first, at most 64.
    pub past_incidents: Vec<FleetIncident>,
    /// Routes that hosts asked for.
    pub routes: Vec<FleetRoute>,
    /// Hosts, by their names.
    pub hosts: Vec<FleetHost>,
    /// Documents that the collector refused since it started, by reason.
    pub refused: BTreeMap<String, u64>,
}

impl FleetStatus {
    /// The value of [`FleetStatus::schema`].
    pub const SCHEMA: &str = "tcpguard.fleet.status/1";
}

/// Numbers over all hosts of a fleet.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Summary {
    /// Hosts that are known.
    pub hosts: u32,
    /// Hosts among them that have not reported themselves for 90 s.
    pub silent: u32,
    /// Hosts that report themselves, and have an open flood.
    pub attacked: u32,
    /// Hosts by the version of their agent.
    pub versions: BTreeMap<String, u32>,
    /// Hosts by the mode of their agent; `none` where it does not run.
    pub modes: BTreeMap<String, u32>,
    /// SYNs of open incidents per second at all hosts.
    pub syn_pps: f64,
    /// SYNs among them that are dropped per second.
    pub drop_pps: f64,
}

/// An incident of one host or of several: they have the same class, overlap within 60 s, and have a victim or a
/// signature in common.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FleetIncident {
    /// Name of the incident: a hash of the first incident of a host that is part of it.
    pub id: Id,
    /// Class of the incident.
    pub class: IncidentClass,
    /// Severity of the class.
    pub severity: Severity,
    /// Time at which the collector first heard of it.
    pub since: Time,
    /// Time at which it was last open at any host; `null` while it is.
    pub ended: Option<Time>,
    /// Number of incidents of hosts that are part of it.
    pub parts: u32,
    /// Number of those that are open.
    pub open: u32,
    /// Sites of the hosts.
    pub sites: Vec<Label>,
    /// Victims, at most 16.
    #[schemars(with = "Vec<String>")]
    pub victims: Vec<IpNet>,
    /// Ports, at most 16.
    pub ports: Vec<u16>,
    /// Names of the signatures, at most 16.
    pub signatures: Vec<Id>,
    /// SYNs per second at all hosts where it is open.
    pub syn_pps: f64,
    /// Highest sum of these rates.
    pub peak_syn_pps: f64,
    /// Share of these SYNs that is dropped, 0 to 1.
    pub dropped_share: f64,
    /// The incidents of hosts, those with the highest rates first, at most 64.
    pub members: Vec<Member>,
}

/// An incident of one host, as part of one of the fleet.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Member {
    /// The host.
    pub host: HostId,
    /// Site of the host; `null` where it has none.
    pub site: Option<Label>,
    /// Number of the incident at the host.
    pub number: u64,
    /// State of the incident.
    pub state: MemberState,
    /// Time of its start, by the clock of the host.
    pub since: Time,
    /// Time of its end, by the clock of the host; `null` while it is open, and where the host did not report it.
    pub ended: Option<Time>,
    /// SYNs per second at the host.
    pub syn_pps: f64,
    /// Share of these that were dropped, 0 to 1.
    pub dropped_share: f64,
    /// Completed handshakes as a share of the attempted ones, 0 to 1.
    pub completion: f64,
    /// Mitigations that are active for it.
    pub mitigations: Vec<Mitigation>,
}

/// State of an incident of one host.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// The host reports it.
    Open,
    /// The host has reported its end.
    Ended,
    /// The host has not reported it for 60 s.
    Silent,
}

/// A route that a host asked for, as a controller reports it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FleetRoute {
    /// The host that asked for it.
    pub host: HostId,
    /// The controller.
    pub controller: HostId,
    /// True while the controller has a BGP session to a router.
    pub established: bool,
    /// The route.
    pub route: ReliefRoute,
    /// Its state.
    pub state: RouteState,
    /// Time since which it has this state.
    pub since: Time,
    /// Reason for the state; `null` where it needs none.
    pub reason: Option<String>,
}

/// A host of the fleet.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FleetHost {
    /// Name on the bus.
    pub host: HostId,
    /// Name of the host.
    pub hostname: String,
    /// Site of the host; `null` where it has none.
    pub site: Option<Label>,
    /// Time at which it last reported itself.
    pub last_seen: Time,
    /// True if that was more than 90 s ago.
    pub silent: bool,
    /// Version of its `tcpguard-fleet`.
    pub version: String,
    /// Its agent; `null` where that does not run.
    pub agent: Option<Agent>,
    /// Its part in the fleet.
    pub fleet: FleetCounts,
    /// Lead of its clock over that of the collector, in ms.
    pub skew_ms: Option<i64>,
    /// Documents of the host that the collector refused.
    pub refused: u64,
}
