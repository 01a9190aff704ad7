//! Facts for the status that are not in the engine's report.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use tcpguard_common::abi::{Unanswered, maps};
use tcpguard_engine::{Family, Listener, MapTime as _, POLL, TcpExt};
use tcpguard_host::escape;
use tcpguard_host::finding::Finding;
use tcpguard_host::firewall::Nat;
use tcpguard_host::linux::{Sysctls, boot_time, conntrack, interfaces};
use tcpguard_host::obstacle::{Impeded, Obstacle};
use tcpguard_host::stderr;

use super::refused::finding;
use super::{Agent, clock};
use crate::bpf::ProgramCost;
use crate::control::{Request, Response};
use crate::daemon::heap;
use crate::documents::selftest::CookieBackend;
use crate::documents::{
    Allowed, BackendInUse, Cookies, CookiesOfFamily, Facts, Incidents, Map, ModeShown, PAST_LISTED,
    Program, Reading, RuleList, Status,
};
use crate::text;

impl Agent {
    /// Answers a request that changes nothing.
    pub(in crate::daemon) fn read(&self, request: &Request) -> Response {
        let clock = clock();
        let mut report = self.engine.report(clock.now);
        report.listeners.retain(|one| !self.executor.listeners.is_idle(one.id));
        match request {
            Request::Rules => Response::Rules(RuleList {
                rules: report.rules.map_time(&|at| clock.time_at(at)),
                allowed: report.allowed.iter().map(|one| Allowed::build(one, clock)).collect(),
            }),
            Request::Explain { prefix, port } => {
                Response::Explained(Box::new(self.explain(prefix, *port)))
            }
            Request::Incidents => Response::Incidents(Box::new(Incidents::build(
                &report,
                self.records.incidents.past(),
                clock,
            ))),
            Request::ExplainIncident { id } => self.explain_incident(*id),
            Request::Timeline { id } => self.timeline(*id),
            Request::History => Response::History(Box::new(self.records.incidents.history(clock))),
            Request::Effective => {
                self.configuration.effective(report.mode, self.mode_clock.set_for_good)
            }
            Request::Alerts { since } => self.alerts_since(*since),
            Request::Mode => {
                let (mode, ends) = (report.mode, self.mode_reverts(clock));
                Response::Mode(ModeShown { mode, was: None, ends })
            }
            _ => {
                let facts = self.facts();
                let health = text::health(&report, &facts);
                Response::Status(Box::new(Status::build(&report, &facts, health)))
            }
        }
    }

    fn facts(&self) -> Facts {
        let clock = clock();
        let mut refusing = self.closed();
        refusing.retain(|_, refused| *refused > 0.0);
        let (last, earlier) = self.readings.latest();
        let found = self.readings.hot_sources.found();
        let map = |name, entries: Option<usize>, max_entries: u32| {
            Map::new(name, entries.map(|entries| entries as u64), max_entries.into())
        };
        let (listeners, rules) =
            (self.executor.listeners.iter().count(), self.executor.rule_places());
        let maps = vec![
            map("SOURCES", found.map(|found| found.sources), maps::MAX_SOURCES),
            map("CLIENTS", found.map(|found| found.clients), maps::MAX_CLIENTS),
            map("LISTENERS", Some(listeners), maps::MAX_LISTENERS),
            map(Map::RULES, Some(rules), self.configuration.config.settings.rules),
        ];
        Facts {
            clock,
            interval: POLL,
            hostname: escape::shown(&rustix::system::uname().nodename().to_string_lossy())
                .into_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.readings.started_at,
            config: self
                .configuration
                .provenance
                .facts(self.configuration.config.path.as_deref(), clock),
            mode_reverts: self.mode_reverts(clock),
            heartbeat: last.map(|last| last.at),
            heap: heap::in_use(),
            interfaces: self.programs.interfaces.facts(&self.readings.packets()),
            losses: self.readings.losses(),
            // One that cannot be read is as good as none.
            conntrack: conntrack(&Sysctls::default()).ok().flatten(),
            tcp_ext: Reading {
                now: last.map_or_else(TcpExt::default, |last| last.tcp_ext),
                earlier: last
                    .zip(earlier)
                    .map(|(last, earlier)| (earlier.tcp_ext, last.at.since(earlier.at))),
            },
            cookies: self.cookies(&maps),
            rules_in_kernel: self.repairs.in_kernel,
            drift_since: self.repairs.drift_since,
            maps,
            sources: found.map_or_else(Vec::new, |found| found.busiest.clone()),
            sources_at: found.map(|found| found.at),
            programs: self.programs(),
            counts: self.records.counts.document(),
            fleet: self
                .fleet
                .as_ref()
                .map(|fleet| fleet.document(self.engine.hints().collect(), clock)),
            health: self.health(&refusing),
            refusing: refusing.into_keys().collect(),
            obstacles: self.mitigations.obstacles.clone(),
            alerts: self.records.alerts.history().of_a_day(clock.wall),
            past: self.records.incidents.past().take(PAST_LISTED).cloned().collect(),
        }
    }

    fn cookies(&self, maps: &[Map]) -> Cookies {
        let syncookies = Sysctls::default().read_number("net.ipv4.tcp_syncookies").ok().flatten();
        let cookies = &self.mitigations.cookies;
        let at = |nat: Option<&Nat>| match (syncookies, cookies.backend(nat, false)) {
            (Some(0), _) => {
                let obstacle = Obstacle::NoCookies { switched_off: true };
                (BackendInUse::None, Some(obstacle.to_string()))
            }
            (_, Err(obstacle)) => (BackendInUse::None, Some(obstacle.to_string())),
            (_, Ok(CookieBackend::Own)) => (BackendInUse::Own, None),
            (_, Ok(backend)) => {
                let nat = cookies.in_place_of_own(nat, false).map(|obstacle| obstacle.sentence());
                (backend.into(), nat.or_else(|| cookies.reason().map(str::to_owned)))
            }
        };
        // Of whichever IP version: most listeners take both.
        let (backend, reason) = at(self.mitigations.firewall.nat(Ipv6Addr::UNSPECIFIED.into()));
        let mut by_family: Vec<CookiesOfFamily> = Family::ALL
            .map(|family| {
                let (backend, reason) = at(self.mitigations.firewall.nat_of(family));
                CookiesOfFamily { family, backend, reason }
            })
            .into();
        if by_family.iter().all(|of| of.backend == backend) {
            by_family.clear();
        }
        let slots = self.executor.listeners.iter().map(|monitored| monitored.slot());
        let failed = |slot| self.executor.dataplane.returned_cookies(slot).unwrap_or_default();
        let invalid = slots.map(|slot| failed(slot).invalid).sum();
        let clients = maps.iter().find(|map| map.name == "CLIENTS").and_then(|map| map.entries);
        let counts = self.executor.dataplane.host_counters().unwrap_or_default().unanswered;
        let unanswered = Unanswered::ALL
            .iter()
            .map(|why| (why.name().to_owned(), counts[*why as usize]))
            .filter(|(_, count)| *count != 0)
            .collect();
        let (sent, valid, validated_clients) = (0, 0, clients);
        Cookies { backend, reason, by_family, sent, valid, invalid, unanswered, validated_clients }
    }

    fn programs(&self) -> Vec<Program> {
        let program = |cost: ProgramCost| Program {
            name: cost.name,
            runs: cost.runs,
            run_ns: cost.run_time.as_nanos() as u64,
            cost: None,
        };
        let costs =
            self.programs.object.costs().into_iter().chain(self.mitigations.cookies.costs());
        costs.map(program).collect()
    }

    fn health(&self, refusing: &BTreeMap<Listener, f64>) -> Vec<Finding> {
        let mut health = self.health.clone();
        health.extend(self.configuration.provenance.health(self.mode_clock.set_for_good.is_some()));
        health.extend(self.readings.host.health(boot_time()));
        health.extend(self.mitigations.firewall.health());
        health.extend(self.limited_clients());
        health.extend(refusing.iter().map(|(listener, refused)| finding(listener, *refused)));
        health.extend(self.fleet.as_ref().and_then(|fleet| fleet.finding(boot_time())));
        let attached: Vec<String> =
            self.programs.interfaces.attached().into_iter().map(|it| it.name).collect();
        let name = |index| {
            let all = interfaces::list().unwrap_or_default();
            all.into_iter().find(|one| one.index == index).map(|one| one.name)
        };
        health.extend(self.readings.arrivals.finding(&attached, name));
        health.extend(self.programs.interfaces.partial_bonds());
        let lost = self.records.alerts.lost() + stderr::lost();
        if lost > 0 {
            let text = format!("{lost} alerts and log lines did not reach the journal");
            let hint = "systemctl status systemd-journald";
            health.push(Finding::warning("journal_lost", text).hint(hint));
        }
        if let Some(why) = self.records.writer.trouble() {
            let text = format!("state not saved, a restart may lose rules and mode: {why}");
            let hint =
                format!("free space: df -h {}", self.configuration.config.state_dir.display());
            health.push(Finding::warning("state_unwritten", text).hint(hint));
        }
        if let Some((interface, program)) = self.mitigations.cookies.behind() {
            let obstacle = Obstacle::Behind { interface: interface.to_owned(), program };
            health.push(Impeded { obstacle, at: vec![interface] }.finding());
        }
        let left_out = &self.selection.left_out;
        if left_out.count() > 0 {
            let hint = "find their owners: ss -lntpe; leave out ports with [listeners] ignore_ports, then: \
                        tcpguard reload";
            let finding = Finding::critical("listeners_full", left_out.to_string());
            health.push(finding.about("LISTENERS").hint(hint));
        }
        health
    }
}
