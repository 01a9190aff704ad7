//! What the status needs to know beside the engine's report.

use tcpguard_common::abi::{PacketCounters, maps};
use tcpguard_engine::TcpExt;

use super::guard::{Guard, Snapshot, clock};
use super::steps::Maker;
use crate::control::{Request, Response};
use crate::host::Sysctls;
use crate::kernel::ip;
use crate::observe::stderr;
use crate::status::{
    AlertEntry, Allowed, CookieBackend, CookieFacts, Facts, Health, MapFacts, Reading, Rule,
    Severity, SourceFacts, Status,
};

/// Rates are taken over about this long.
const RATE_WINDOW_MS: u128 = 1000;
/// Sources shown.
const TOP_SOURCES: usize = 10;

impl Guard {
    /// Answers a request that changes nothing.
    pub(super) fn read(&self, request: &Request) -> Response {
        let clock = clock();
        let report = self.engine.report(clock.now);
        match request {
            Request::Rules => Response::Rules {
                rules: report.rules.iter().map(|rule| Rule::build(rule, clock)).collect(),
                allowed: report.allowed.iter().map(|one| Allowed::build(one, clock)).collect(),
            },
            Request::Explain { prefix } => Response::Explained(Box::new(self.explain(prefix))),
            Request::ExplainAttack { id } => self.explain_attack(*id),
            Request::Alerts => Response::Alerts {
                alerts: self
                    .alerts
                    .remembered(clock)
                    .iter()
                    .map(|alert| AlertEntry::build(alert, clock))
                    .collect(),
            },
            Request::Effective => self.effective(),
            Request::Mode => Response::Mode { mode: report.mode.into() },
            _ => Response::Status(Box::new(Status::build(&report, &self.facts()))),
        }
    }

    fn facts(&self) -> Facts {
        let clock = clock();
        let last = self.snapshots.back();
        let earlier = last.and_then(|last| {
            self.snapshots
                .iter()
                .rev()
                .find(|snapshot| last.at.since(snapshot.at).as_millis() >= RATE_WINDOW_MS)
                .or(self.snapshots.front())
                .filter(|snapshot| snapshot.at < last.at)
        });
        let (sources, mut maps) = self.sources();
        maps.extend([
            fill("LISTENERS", self.executor.listeners.iter().count(), maps::MAX_LISTENERS),
            fill("RULES", self.executor.rule_count(), maps::MAX_RULES),
        ]);
        Facts {
            clock,
            interval: self.config.settings.poll,
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started_at,
            config: self.provenance.facts(self.config.path.clone()),
            heartbeat: last.map(|last| last.at),
            interfaces: self.interfaces.facts(&packet_readings(last, earlier)),
            tcp_ext: Reading {
                now: last.map_or_else(TcpExt::default, |last| last.tcp_ext),
                earlier: last
                    .zip(earlier)
                    .map(|(last, earlier)| (earlier.tcp_ext, last.at.since(earlier.at))),
            },
            cookies: self.cookies(&maps),
            rules_in_kernel: self.rules_in_kernel,
            drift_since: self.drift_since,
            maps,
            sources,
            health: self.health(),
            alerts: self.alerts.remembered(clock),
            earlier: self.incidents.earlier().cloned().collect(),
        }
    }

    fn cookies(&self, maps: &[MapFacts]) -> CookieFacts {
        let syncookies = Sysctls::default().read_number("net.ipv4.tcp_syncookies").ok().flatten();
        let cookies = &self.steps.cookies;
        let (backend, reason) = match (syncookies, cookies.maker()) {
            (Some(0), _) => (
                CookieBackend::None,
                Some("net.ipv4.tcp_syncookies is 0: the kernel takes no cookie back".to_owned()),
            ),
            (_, Maker::Own) => (CookieBackend::Own, None),
            (_, Maker::Helper) => {
                (CookieBackend::KernelHelper, cookies.reason().map(str::to_owned))
            }
            (_, Maker::Kernel) => (CookieBackend::Kernel, cookies.reason().map(str::to_owned)),
        };
        let slots = self.executor.listeners.iter().map(|followed| followed.slot());
        let failed = |slot| self.executor.dataplane.failed_cookies(slot).unwrap_or_default();
        let invalid = slots.map(|slot| failed(slot).invalid).sum();
        let clients = maps.iter().find(|map| map.name == "CLIENTS").and_then(|map| map.entries);
        CookieFacts { backend, reason, invalid, validated_clients: clients }
    }

    fn sources(&self) -> (Vec<SourceFacts>, Vec<MapFacts>) {
        let sources = self.executor.dataplane.sources().unwrap_or_default();
        let clients = self.executor.dataplane.clients().unwrap_or_default();
        let maps = vec![
            fill("SOURCES", sources.len(), maps::MAX_SOURCES),
            fill("CLIENTS", clients.len(), maps::MAX_CLIENTS),
        ];
        let known: std::collections::BTreeSet<_> = clients.iter().map(|(addr, _)| *addr).collect();
        let mut all: Vec<SourceFacts> = sources
            .iter()
            // One that has become a client is counted there from then on.
            .filter(|(addr, _)| !known.contains(addr))
            .map(|(addr, counters)| (addr, counters, false))
            .chain(clients.iter().map(|(addr, client)| (addr, &client.counters, true)))
            .map(|(addr, counters, validated)| SourceFacts {
                addr: ip(addr),
                syn: counters.syn,
                syn_ack: counters.syn_ack,
                ack: counters.ack,
                rst: counters.rst,
                completed: counters.completed,
                validated,
            })
            .collect();
        all.sort_by(|a, b| b.syn.cmp(&a.syn).then(a.addr.cmp(&b.addr)));
        all.truncate(TOP_SOURCES);
        (all, maps)
    }

    fn health(&self) -> Vec<Health> {
        let mut health = self.health.clone();
        health.extend(self.provenance.health());
        let lost = self.alerts.lost() + stderr::lost();
        if lost > 0 {
            health.push(Health {
                code: "journal_lost".to_owned(),
                severity: Severity::Warning,
                subject: None,
                text: format!("{lost} alerts and log lines did not reach the journal"),
                hint: "look at it: systemctl status systemd-journald".to_owned(),
            });
        }
        let unfollowed = self.executor.listeners.unfollowed;
        if unfollowed > 0 {
            health.push(Health {
                code: "listeners_full".to_owned(),
                severity: Severity::Warning,
                subject: Some("LISTENERS".to_owned()),
                text: format!("{unfollowed} listeners are not followed: the table is full"),
                hint: "leave ports out with [listeners] ignore_ports".to_owned(),
            });
        }
        health
    }
}

fn packet_readings(
    last: Option<&Snapshot>,
    earlier: Option<&Snapshot>,
) -> Vec<Reading<PacketCounters>> {
    let Some(last) = last else { return Vec::new() };
    last.packets
        .iter()
        .enumerate()
        .map(|(place, now)| Reading {
            now: *now,
            earlier: earlier.and_then(|earlier| {
                Some((*earlier.packets.get(place)?, last.at.since(earlier.at)))
            }),
        })
        .collect()
}

fn fill(name: &str, entries: usize, max_entries: u32) -> MapFacts {
    MapFacts {
        name: name.to_owned(),
        entries: Some(entries as u64),
        max_entries: max_entries.into(),
    }
}
