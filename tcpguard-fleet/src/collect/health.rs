//! Problems of a fleet, judged from its state.

use tcpguard_host::finding::{Finding, worst_first};
use tcpguard_host::units;

use super::status::FleetHost;
use crate::document::HostId;
use crate::trust::{Reason, Refusals};

/// Lead or lag of a clock that is reported, in ms: far less than that from which documents are refused.
const SKEWED_MS: u64 = 30_000;
/// Hosts that a finding names.
const NAMED: usize = 3;

/// Facts about a fleet beside its hosts.
pub(super) struct Facts<'a> {
    pub hosts: &'a [FleetHost],
    pub refused: &'a Refusals,
    /// Hosts whose documents are dropped unread.
    pub muted: Vec<&'a HostId>,
    /// Hosts whose requests for relief no controller has taken up.
    pub unanswered: Vec<&'a HostId>,
}

/// The problems of a fleet, the most severe first.
pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let checks: [fn(&Facts<'_>) -> Option<Finding>; 7] =
        [unanswered, without_agent, silent, muted, skewed, refused_by_time, unknown_schema];
    let mut findings: Vec<Finding> = checks.iter().filter_map(|check| check(facts)).collect();
    worst_first(&mut findings);
    findings
}

fn unanswered(facts: &Facts<'_>) -> Option<Finding> {
    let names = named(facts, facts.unanswered.iter().copied())?;
    let text = format!("no controller takes up requests for relief of {names}");
    Some(
        Finding::critical("fleet_relief_unanswered", text)
            .hint("systemctl status tcpguard-fleet-relief, on the hosts next to the routers"),
    )
}

fn without_agent(facts: &Facts<'_>) -> Option<Finding> {
    let hosts = facts.hosts.iter().filter(|host| host.agent.is_none() && !host.silent);
    let names = named(facts, hosts.map(|host| &host.host))?;
    Some(
        Finding::warning("fleet_without_agent", format!("the agent does not run on {names}"))
            .hint("systemctl start tcpguard, on these hosts"),
    )
}

fn silent(facts: &Facts<'_>) -> Option<Finding> {
    let hosts = facts.hosts.iter().filter(|host| host.silent);
    let names = named(facts, hosts.map(|host| &host.host))?;
    let text = format!("no report for 90s from {names}");
    Some(
        Finding::warning("fleet_silent", text)
            .hint("systemctl status tcpguard-fleet, on these hosts"),
    )
}

fn muted(facts: &Facts<'_>) -> Option<Finding> {
    let names = named(facts, facts.muted.iter().copied())?;
    let text = format!("too many invalid documents from {names}: ignored for 10m");
    Some(
        Finding::warning("fleet_muted", text)
            .hint("journalctl -u tcpguard-fleet, on these hosts: versions and clocks"),
    )
}

fn skewed(facts: &Facts<'_>) -> Option<Finding> {
    let is_skewed = |host: &&FleetHost| {
        !host.silent && host.skew_ms.is_some_and(|skew| skew.unsigned_abs() >= SKEWED_MS)
    };
    let hosts = facts.hosts.iter().filter(is_skewed);
    let names = named(facts, hosts.map(|host| &host.host))?;
    let text = format!("clocks differ by 30s or more on {names}");
    Some(
        Finding::warning("fleet_clock", text)
            .hint("timedatectl, on these hosts: documents are refused from 5m on"),
    )
}

fn refused_by_time(facts: &Facts<'_>) -> Option<Finding> {
    let count = facts.refused.of(Reason::ClockSkew);
    (count > 0).then(|| {
        let count = units::counted(count, "document");
        let text = format!("{count} refused because clocks differ by more than 5m");
        Finding::warning("fleet_clock_refused", text).hint("timedatectl, on all hosts")
    })
}

fn unknown_schema(facts: &Facts<'_>) -> Option<Finding> {
    let count = facts.refused.of(Reason::UnknownSchema);
    (count > 0).then(|| {
        let count = units::counted(count, "document");
        let text = format!("{count} of a later version refused");
        Finding::notice("fleet_versions", text).hint("update the collector before the hosts")
    })
}

/// Names of a few hosts, and the number of the others: `web1, web2 and 3 others`. `None`: there are none.
fn named<'a>(facts: &Facts<'_>, hosts: impl Iterator<Item = &'a HostId>) -> Option<String> {
    let all: Vec<&HostId> = hosts.collect();
    let name = |host: &&HostId| {
        let known = facts.hosts.iter().find(|known| known.host == **host);
        known.map_or_else(|| host.to_string(), |known| known.hostname.clone())
    };
    let names: Vec<String> = all.iter().take(NAMED).map(name).collect();
    match all.len().saturating_sub(names.len()) {
        _ if names.is_empty() => None,
        0 => Some(names.join(", ")),
        others => Some(format!("{} and {others} more", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::FleetCounts;
    use crate::document::tests::{AT, agent, host, time};

    fn fleet_host(number: u32) -> FleetHost {
        FleetHost {
            host: host(number),
            hostname: format!("web{number}"),
            site: None,
            last_seen: time(AT),
            silent: false,
            version: "0.1.0".to_owned(),
            agent: Some(agent()),
            fleet: FleetCounts::default(),
            skew_ms: Some(5),
            refused: 0,
        }
    }

    fn found(hosts: &[FleetHost], refused: &Refusals, unanswered: &[HostId]) -> Vec<String> {
        let facts =
            Facts { hosts, refused, muted: Vec::new(), unanswered: unanswered.iter().collect() };
        judge(&facts).iter().map(|finding| format!("{}: {}", finding.code, finding.text)).collect()
    }

    #[test]
    fn a_fleet_that_is_well_has_no_findings() {
        let hosts: Vec<_> = (1..=3).map(fleet_host).collect();
        assert!(found(&hosts, &Refusals::default(), &[]).is_empty());
    }

    #[test]
    fn hosts_are_named_and_many_are_counted() {
        let silent = |number| FleetHost { silent: true, ..fleet_host(number) };
        let hosts: Vec<_> = (1..=5).map(silent).collect();
        assert_eq!(
            found(&hosts, &Refusals::default(), &[]),
            ["fleet_silent: no report for 90s from web1, web2, web3 and 2 more"]
        );
    }

    #[test]
    fn each_problem_is_found_and_the_worst_is_first() {
        let hosts = [
            FleetHost { agent: None, ..fleet_host(1) },
            FleetHost { skew_ms: Some(-40_000), ..fleet_host(2) },
        ];
        let mut refused = Refusals::default();
        refused.count(Reason::ClockSkew);
        refused.count(Reason::UnknownSchema);
        let found = found(&hosts, &refused, &[host(9)]);
        let codes: Vec<_> = found.iter().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(
            codes,
            [
                "fleet_relief_unanswered",
                "fleet_without_agent",
                "fleet_clock",
                "fleet_clock_refused",
                "fleet_versions"
            ]
        );
        assert!(found[0].ends_with("00000009"), "{}", found[0]);
    }
}
