//! The report of the agent to the fleet process: what other hosts of the fleet may learn of this one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::fleet::HintReport;
use crate::evidence::{IncidentClass, NetworkShare, Severity};
use crate::incident::IncidentReport;
use crate::input::{FleetName, Listener, Mode, SharedSignature, Timestamp, share};

/// State of the agent for the fleet process. The last one is the one that counts.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FleetReport {
    /// Name and version of this document: `tcpguard.fleet.agent/1`.
    pub schema: String,
    /// Version of the agent.
    pub version: String,
    /// Name of the boot, which numbers of incidents do not outlive.
    pub boot: String,
    /// The mode.
    pub mode: Mode,
    /// Ports at which this host listens, ascending, at most [`FleetReport::PORTS`].
    pub ports: Vec<u16>,
    /// Open incidents, oldest first.
    pub incidents: Vec<SharedEvidence>,
    /// The attached interfaces.
    pub links: Vec<LinkPressure>,
    /// Packets per second that full backlogs of CPUs drop, on all interfaces; `None` where that is not known.
    pub backlog_lost_pps: Option<f64>,
    /// The hints that hold.
    pub hints: Vec<HintReport>,
    /// Number of rules of the fleet that are in force.
    pub rules: u32,
    /// Number of exemptions by the fleet that are in force.
    pub allowed: u32,
    /// Names of some of both, at most [`FleetReport::NAMES`]: the reports list all of them in turn.
    pub names: Vec<FleetName>,
    /// Messages that were refused since the agent started, by reason.
    pub refused: BTreeMap<String, u64>,
    /// The last rules that were refused, newest last.
    pub refused_rules: Vec<RefusedRule>,
    /// Messages that the full queue has dropped since the agent started.
    pub dropped: u64,
}

impl FleetReport {
    /// The name and version of this document.
    pub const SCHEMA: &str = "tcpguard.fleet.agent/1";
    /// The most ports that are listed.
    pub const PORTS: usize = 1024;
    /// The most names of rules in one report: as many messages as the agent takes in a turn.
    pub const NAMES: usize = 64;
}

/// A rule of the fleet that this host does not accept.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RefusedRule {
    /// The rule.
    pub rule: FleetName,
    /// Name of the reason.
    pub reason: String,
    /// The reason in words.
    pub text: String,
}

/// Traffic of an attached interface.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LinkPressure {
    /// Name of the interface.
    pub interface: String,
    /// Frames per second that arrive.
    pub rx_pps: f64,
    /// Bits per second that arrive.
    pub rx_bps: f64,
    /// Frames per second that are lost before the XDP program sees them; `None` where that is not known.
    pub lost_pps: Option<f64>,
}

/// An open incident of this host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SharedEvidence {
    /// Number of the incident.
    pub incident: u64,
    /// Its class.
    pub class: IncidentClass,
    /// Its severity.
    pub severity: Severity,
    /// The attacked listener; [`Listener::HOST`] for several listeners or none.
    pub listener: Listener,
    /// Number of listeners that it is about.
    pub listeners: u32,
    /// Attacked addresses of this host: those with a tenth of the failed handshakes or more, the most attacked one
    /// first.
    pub victims: Vec<Victim>,
    /// Seconds since the alarm.
    pub age_s: u64,
    /// SYNs per second, over the last second.
    pub syn_pps: f64,
    /// Highest SYN rate over one second.
    pub peak_syn_pps: f64,
    /// SYNs per second that are dropped; in mode `observe`, that would be.
    pub dropped_pps: f64,
    /// SYNs per second that are answered with a cookie.
    pub cookie_pps: f64,
    /// SYNs so far.
    pub syns: u64,
    /// SYNs that were dropped so far.
    pub dropped: u64,
    /// Cookies that were sent so far.
    pub cookies_sent: u64,
    /// Completed over attempted handshakes, 0 to 1.
    pub completion: f64,
    /// Distinct sources, estimated.
    pub sources: u64,
    /// Number of attack indicators that hold.
    pub indicators: u32,
    /// Confidence in the class, 0 to 1.
    pub confidence: f64,
    /// The networks of most failed handshakes.
    pub top_networks: Vec<NetworkShare>,
    /// Signatures that this host's own evidence has singled out, at most [`SharedEvidence::SIGNATURES`].
    pub signatures: Vec<SignatureEvidence>,
    /// Lengths of the SYNs of the attacked listeners' clients.
    pub client_lengths: Vec<ClientLength>,
}

/// An attacked address of this host.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Victim {
    /// The address.
    pub addr: IpAddr,
    /// Its share of the failed handshakes, 0 to 1.
    pub share: f64,
}

/// A length of clients' SYNs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClientLength {
    /// True for SYNs over IPv6.
    pub ipv6: bool,
    /// Length in bytes, IP header included; `None` for SYNs without a fixed length, such as those with data.
    pub length: Option<u16>,
    /// Completed handshakes on record with SYNs of this length.
    pub completions: u64,
}

/// A signature that is a tool's by the evidence of this host alone. One that only a hint supports is not among these,
/// so that no echo counts as a second host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SignatureEvidence {
    /// The signature.
    pub signature: SharedSignature,
    /// Its share of the failed handshakes, 0 to 1.
    pub share: f64,
    /// Handshakes with it that clients completed.
    pub clients: u64,
    /// SYNs that a rule on it matched.
    pub hits: u64,
}

/// Rates of the listeners of an incident, per second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SharedRates {
    /// Dropped SYNs.
    pub dropped: f64,
    /// Cookies sent.
    pub cookies: f64,
}

impl SharedEvidence {
    /// The most signatures that are listed.
    pub const SIGNATURES: usize = 8;

    /// The evidence of an open incident, with the rates of its listeners, and without victims, signatures and lengths.
    pub(crate) fn of(now: Timestamp, report: &IncidentReport, rates: SharedRates) -> Self {
        let evidence = &report.evidence;
        let indicators = evidence.holding() as u32;
        Self {
            incident: report.id,
            class: report.class,
            severity: report.severity,
            listener: report.listener,
            listeners: report.listeners,
            victims: Vec::new(),
            age_s: now.since(report.detected).as_secs(),
            syn_pps: report.syn_rate,
            peak_syn_pps: report.peak_syn_rate,
            dropped_pps: rates.dropped,
            cookie_pps: rates.cookies,
            syns: report.counts.syns,
            dropped: report.counts.dropped,
            cookies_sent: report.counts.cookies_sent,
            completion: evidence.completion,
            sources: evidence.sources_estimate,
            indicators,
            confidence: confidence(indicators),
            top_networks: evidence.top_networks.clone(),
            signatures: Vec::new(),
            client_lengths: Vec::new(),
        }
    }
}

/// Confidence from so many indicators: each halves the doubt.
fn confidence(indicators: u32) -> f64 {
    share(1.0 - 0.5_f64.powi(indicators as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_indicator_halves_the_doubt() {
        assert_eq!([0, 1, 2, 4].map(confidence), [0.0, 0.5, 0.75, 0.938]);
    }
}
