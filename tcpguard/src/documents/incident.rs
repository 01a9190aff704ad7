//! Part of the status document that describes an attack or another incident.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine as engine;
use tcpguard_engine::{
    Event, Evidence, HeldBack, IncidentClass, IncidentCounts, Listener, Signal, Worth,
};
use tcpguard_host::doctor::is_command;
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;

use super::{Clients, Status};

/// One incident: an attack, or one of the other classes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Incident {
    /// Number of the incident, rising from 1.
    pub id: u64,
    /// Class of the incident.
    pub class: IncidentClass,
    /// Severity of the class.
    pub severity: Severity,
    /// Address of the listener, or the one address that a scan is about. Unspecified for a wildcard listener,
    /// and where no single address is concerned.
    pub dst: IpAddr,
    /// Port of the listener, or the one port that a scan is about; 0 where no single port is concerned.
    pub port: u16,
    /// Start: the time of the first failed handshakes.
    pub since: Time,
    /// Time at which the alarm was raised.
    pub detected_at: Time,
    /// Time of its end, which is the last moment in which it was seen; `null` while it is open.
    pub ended_at: Option<Time>,
    /// Time since which nothing of it is seen, while it is open; `null` while it goes on, and once it is over.
    #[serde(default)]
    pub quiet: Option<Quiet>,
    /// Number of listeners that it is about: 1, or the number of those that are reported together; 0 where
    /// no listener is concerned.
    #[serde(default)]
    pub listeners: u32,
    /// Signal that raised the alarm.
    pub signal: Signal,
    /// SYNs per second over the last second; of class `reflection` unsolicited replies per second.
    pub syn_pps: f64,
    /// Highest value of `syn_pps` so far.
    pub peak_syn_pps: f64,
    /// Baseline of SYNs per second when the alarm was raised; `null` while it is not known, and for an
    /// incident of no listener.
    #[serde(default)]
    pub baseline_pps: Option<f64>,
    /// Counts since it began.
    #[serde(flatten)]
    pub counts: IncidentCounts,
    /// Success of clients at its listener. `null` for an incident of no
    /// listener, and for a closed incident without a known baseline.
    #[serde(default)]
    pub clients: Option<Clients>,
    /// Mitigated share of a flood, 0 to 1: SYNs of the last second that were dropped or answered with a
    /// cookie, out of those that completed no handshake with the host's own stack. `null` outside enforce
    /// mode, without such SYNs, where the rate is not known, and for an incident that is closed or no flood.
    pub mitigated_ratio: Option<f64>,
    /// Numbers behind the verdict, over the failed handshakes of the last 8 s (by default), or of up to 63 s
    /// where these are few. Shares are 0 to 1.
    pub evidence: Evidence,
    /// Actions so far, oldest first.
    pub actions: Vec<Action>,
    /// Numbers of the rules that are active because of it.
    pub rules: Vec<u32>,
    /// Advice for the operator; `null` where nothing is to be done.
    pub advice: Option<Advice>,
    /// Reason for which nothing is done about a flood that is open, where the configuration of its listener sets a
    /// milder mode.
    #[serde(default)]
    pub held_back: Option<HeldBack>,
    /// True if it is of a capture and not of this host.
    #[serde(skip)]
    pub of_capture: bool,
    /// True if the capture holds only SYNs that XDP dropped or answered when it was recorded.
    #[serde(skip)]
    pub was_stopped: bool,
}

/// An open incident of which nothing is seen.
pub type Quiet = engine::QuietReport<Time>;
/// One action about an incident.
pub type Action = engine::ActionReport<Time>;

/// Advice for the operator about an open incident.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Advice {
    /// Action for the operator.
    pub action: Advised,
    /// Command that does it; `null` where no command of tcpguard does.
    pub command: Option<String>,
}

impl Advice {
    /// Advice to remove an obstacle to SYN cookies.
    pub(super) fn against(remedy: &str) -> Self {
        let command = is_command(remedy).then(|| remedy.to_owned());
        Self { action: Advised::RemoveObstacle { remedy: remedy.to_owned() }, command }
    }
}

impl Advice {
    /// Advice about a scan that comes from this host itself, which no block would stop.
    pub(crate) const fn to_find_scanner() -> Self {
        Self { action: Advised::FindScanner, command: None }
    }
}

impl Advised {
    /// Command of [`Advised::Enforce`], so that rules drop: the mode reverts by itself, in case the operator is locked
    /// out.
    pub const TRY_ENFORCE: &str = "tcpguard mode enforce --rollback-after 60s";
}

/// Action that an operator should take about an incident.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Advised {
    /// Check the path to the clients and the firewalls on it.
    CheckPath,
    /// Add capacity if the clients are to stay.
    AddCapacity,
    /// Find the application that does not accept its connections.
    CheckApplication,
    /// Block the scanner.
    BlockScanner,
    /// Find the program on this host that scans.
    FindScanner,
    /// Ask the provider to filter the replies.
    AskProvider,
    /// Have the rule made again that an operator removed.
    RestoreRule {
        /// Number of the rule.
        rule: u32,
        /// Time from which the agent makes it again by itself.
        until: Time,
    },
    /// Have unreadable frames dropped by the configuration.
    DropUnreadable,
    /// Have SYNs to closed ports dropped by the host's packet filter.
    FilterClosedPorts,
    /// Raise the backlog of the listener.
    RaiseBacklog,
    /// Remove the obstacle to SYN cookies at the listener.
    RemoveObstacle {
        /// Remedy: a command, or an instruction that names one.
        remedy: String,
    },
    /// Switch to the mode `enforce`.
    Enforce,
}

impl Status {
    /// Time at which the last of the open attacks is over, where nothing is seen of any.
    pub fn attack_ends(&self) -> Option<Time> {
        self.all_end(|incident| incident.class.is_flood())
    }

    /// The same of all incidents.
    pub fn incidents_end(&self) -> Option<Time> {
        self.all_end(|_| true)
    }

    fn all_end(&self, which: impl Fn(&Incident) -> bool) -> Option<Time> {
        let incidents = self.incidents.iter().filter(|incident| which(incident));
        let ends: Option<Vec<Time>> = incidents.map(|one| Some(one.quiet?.ends_at)).collect();
        ends?.into_iter().max_by_key(|ends| ends.0)
    }
}

impl Incident {
    /// Time at which it was last seen, where it is not seen now.
    pub fn last_seen(&self) -> Option<Time> {
        self.ended_at.or(self.quiet.map(|quiet| quiet.since))
    }

    /// Returns whether the agent ended before it did.
    pub fn was_left_open(&self) -> bool {
        matches!(self.actions.last(), Some(Action { action: Event::AgentEnded, .. }))
    }

    /// Returns whether its counts leave out a time without an agent.
    pub fn is_partly_counted(&self) -> bool {
        self.actions.iter().any(|action| matches!(action.action, Event::AgentRestarted))
    }

    /// Its worth in a record with a limit.
    pub(crate) const fn worth(&self) -> Worth {
        Worth::new(self.id, self.class, self.counts.syns)
    }

    /// Its target: the listener, the number of listeners that are reported together, or the address, port or
    /// host that it concerns.
    pub fn place(&self) -> String {
        target(Listener { addr: self.dst, port: self.port }, self.listeners)
    }
}

/// Returns whether an address, or the /64 that stands for it, is that of the host itself, whichever host that is.
pub(crate) const fn is_this_host(addr: IpAddr) -> bool {
    addr.is_loopback() || addr.is_unspecified()
}

/// The target of an incident at `listener`, or of one of `listeners` that are reported together.
pub(crate) fn target(listener: Listener, listeners: u32) -> String {
    match (listener == Listener::HOST, listeners) {
        (true, 1) => "1 listener".to_owned(),
        (true, several @ 2..) => format!("{several} listeners"),
        _ => listener.to_string(),
    }
}

/// The address and port that clients connect to: `:443` for a wildcard, else `192.0.2.1:443` or
/// `[2001:db8::1]:443`. It is `this host` where no port is concerned.
pub(crate) fn place(addr: IpAddr, port: u16) -> String {
    Listener { addr, port }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_listener_or_the_host_and_never_port_0() {
        for (addr, port, expected) in [
            ("0.0.0.0", 443, ":443"),
            ("::", 443, ":443"),
            ("192.0.2.1", 443, "192.0.2.1:443"),
            ("2001:db8::1", 443, "[2001:db8::1]:443"),
            ("192.0.2.1", 0, "192.0.2.1"),
            ("0.0.0.0", 0, "this host"),
        ] {
            assert_eq!(place(addr.parse().unwrap(), port), expected);
        }
    }
}
