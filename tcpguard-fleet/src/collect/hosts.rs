//! Hosts of a fleet, as they report themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::time::Clock;

use super::event::FleetEvent;
use super::status::{FleetHost, Summary};
use crate::document::{Host, HostId, Kind};
use crate::trust::{Admission, Peer};

/// Hosts that are known at a time.
const MAX_HOSTS: usize = 131_072;
/// Time after which a silent host is forgotten: an operator sees it for a day.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// Hosts of a fleet.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    hosts: BTreeMap<HostId, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    report: Host,
    last_seen: Timestamp,
    is_silent: bool,
}

impl Hosts {
    /// Takes the report of a host. If there are as many as possible, one that has been silent for longest leaves, and
    /// without such a host the new one is not listed.
    pub fn take(&mut self, now: Timestamp, report: Host) -> Option<FleetEvent> {
        let host = report.envelope.host.clone();
        if !self.hosts.contains_key(&host) && self.hosts.len() >= MAX_HOSTS {
            let silent = self.hosts.iter().filter(|(_, known)| known.is_silent);
            let first = silent.min_by_key(|(_, known)| known.last_seen)?.0.clone();
            self.hosts.remove(&first);
        }
        let hostname = report.hostname.clone();
        let known = Known { report, last_seen: now, is_silent: false };
        let before = self.hosts.insert(host.clone(), known);
        let has_returned = before.is_some_and(|before| before.is_silent);
        has_returned.then_some(FleetEvent::HostReturned { host, hostname })
    }

    /// Returns an event for each host that has become silent, and forgets hosts that have been for long.
    pub fn expire(&mut self, now: Timestamp) -> Vec<FleetEvent> {
        let mut events = Vec::new();
        for (host, known) in &mut self.hosts {
            let is_silent = now.since(known.last_seen) >= known.report.envelope.ttl(Kind::Host);
            if is_silent && !known.is_silent {
                let hostname = known.report.hostname.clone();
                events.push(FleetEvent::HostSilent { host: host.clone(), hostname });
            }
            known.is_silent = is_silent;
        }
        self.hosts.retain(|_, known| now.since(known.last_seen) < FORGOTTEN);
        events
    }

    /// The hosts, by their names.
    pub fn list(&self, clock: Clock, admission: &Admission) -> Vec<FleetHost> {
        let listed = self.hosts.iter().map(|(host, known)| known.list(host, clock, admission));
        let mut hosts: Vec<_> = listed.collect();
        hosts.sort_by(|one, other| (&one.hostname, &one.host).cmp(&(&other.hostname, &other.host)));
        hosts
    }

    /// Numbers over all hosts. Those of silent hosts are too old to be part of a sum.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for known in self.hosts.values() {
            summary.hosts += 1;
            if known.is_silent {
                summary.silent += 1;
                continue;
            }
            let (version, mode) = match &known.report.agent {
                Some(agent) => {
                    summary.syn_pps += agent.syn_pps;
                    summary.drop_pps += agent.drop_pps;
                    summary.attacked += u32::from(agent.state.starts_with("attack"));
                    (agent.version.clone(), agent.mode.name().to_owned())
                }
                None => ("none".to_owned(), "none".to_owned()),
            };
            *summary.versions.entry(version).or_default() += 1;
            *summary.modes.entry(mode).or_default() += 1;
        }
        summary
    }
}

impl Known {
    fn list(&self, host: &HostId, clock: Clock, admission: &Admission) -> FleetHost {
        let peer = admission.peer(host);
        FleetHost {
            host: host.clone(),
            hostname: self.report.hostname.clone(),
            site: self.report.envelope.site.clone(),
            last_seen: clock.time_at(self.last_seen),
            silent: self.is_silent,
            version: self.report.version.clone(),
            agent: self.report.agent.clone(),
            fleet: self.report.fleet,
            skew_ms: peer.and_then(Peer::skew_ms),
            refused: peer.map_or(0, |peer| peer.refused().total()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Envelope;
    use crate::document::tests::{AT, envelope, heartbeat, host, time};
    use crate::trust::Bounds;

    fn clock(seconds: u64) -> Clock {
        let passed = Duration::from_secs(seconds);
        let wall = time(AT).0.checked_add(passed).expect("a time");
        Clock { now: Timestamp::from_millis(1_000_000) + passed, wall }
    }

    fn report(number: u32) -> Host {
        let envelope = Envelope { ttl_s: 90, ..envelope(number, 1) };
        Host { hostname: format!("web{number}"), ..heartbeat(envelope) }
    }

    #[test]
    fn a_host_is_silent_after_90_s_and_forgotten_after_a_day() {
        let mut hosts = Hosts::default();
        assert_eq!(hosts.take(clock(0).now, report(7)), None);
        assert!(hosts.expire(clock(89).now).is_empty());
        let (host, hostname) = (host(7), "web7".to_owned());
        let silent = FleetEvent::HostSilent { host: host.clone(), hostname: hostname.clone() };
        assert_eq!(hosts.expire(clock(90).now), vec![silent]);
        assert!(hosts.expire(clock(91).now).is_empty(), "once");
        let summary = hosts.summary();
        assert_eq!((summary.hosts, summary.silent, summary.syn_pps), (1, 1, 0.0));
        let returned = hosts.take(clock(100).now, report(7));
        assert_eq!(returned, Some(FleetEvent::HostReturned { host, hostname }));
        hosts.expire(clock(100 + 24 * 3600).now);
        assert_eq!(hosts.summary().hosts, 0);
    }

    #[test]
    fn numbers_are_those_of_the_hosts_that_report_themselves() {
        let mut hosts = Hosts::default();
        for number in 1..=3 {
            hosts.take(clock(0).now, report(number));
        }
        hosts.take(clock(0).now, Host { agent: None, ..report(4) });
        let summary = hosts.summary();
        assert_eq!((summary.hosts, summary.silent, summary.attacked), (4, 0, 3));
        assert_eq!((summary.syn_pps, summary.drop_pps), (300_000.0, 291_000.0));
        let counts = |one: &str| BTreeMap::from([(one.to_owned(), 3), ("none".to_owned(), 1)]);
        assert_eq!(summary.modes, counts("enforce"));
        assert_eq!(summary.versions, counts("0.1.0"));
        let admission = Admission::new(None, Bounds::COLLECTOR);
        let listed = hosts.list(clock(0), &admission);
        let names: Vec<_> = listed.iter().map(|host| host.hostname.as_str()).collect();
        assert_eq!(names, ["web1", "web2", "web3", "web4"]);
    }
}
