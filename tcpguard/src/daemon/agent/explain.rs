//! Explanations: everything that decides about an address, and the evidence of an attack.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use tcpguard_common::abi::{RuleRef, quirk};
use tcpguard_engine::{
    Listener, ListenerId, MapTime as _, Matcher, Mitigation, MitigationState, Report,
    Rule as EngineRule, Timestamp,
};
use tcpguard_host::time::Clock;

use super::limited::network;
use super::{Agent, clock};
use crate::bpf::{addr, ip};
use crate::control::{RefusalKind, Response};
use crate::documents::{
    Allowed, Explanation, FullIncident, ListenerMitigation, Replies, Rule, Source, open_incident,
};

impl Agent {
    /// Everything that decides about the SYNs from `net`, to one port or to any.
    pub(in crate::daemon) fn explain(&self, net: &IpNet, port: Option<u16>) -> Explanation {
        let clock = clock();
        let report = self.engine.report(clock.now);
        let asked = |listener: &Listener| port.is_none_or(|port| listener.port == port);
        let reached = reached(net, port, &report);
        let touches = |other: &IpNet| other.contains(net) || net.contains(other);
        let rules = |wanted: &dyn Fn(&EngineRule) -> bool| -> Vec<Rule> {
            let ids: Vec<_> = self
                .engine
                .rules(clock.now)
                .filter(|rule| wanted(rule))
                .map(|rule| rule.id)
                .collect();
            let listed = report.rules.iter().filter(|rule| ids.contains(&rule.id));
            listed.map(|rule| rule.clone().map_time(&|at| clock.time_at(at))).collect()
        };
        let exemption = self.engine.exemption(net);
        let exempt = |whole: bool| {
            let of_it = exemption.as_ref().filter(|(prefix, _)| prefix.contains(net) == whole);
            of_it.map(|(prefix, why)| format!("{why} ({prefix})"))
        };
        let single = net.prefix_len() == net.max_prefix_len();
        let (dataplane, key) = (&self.executor.dataplane, &self.executor.config.hash_key);
        let client = single.then(|| dataplane.client(net.addr()).ok().flatten()).flatten();
        let counters = match (&client, single) {
            (Some(client), _) => Some(client.counters),
            (None, true) => dataplane.source(key, net.addr()).ok().flatten(),
            (None, false) => None,
        };
        let at = |id: &ListenerId| {
            report.listeners.iter().any(|known| known.id == *id && asked(&known.listener))
        };
        let mitigations = mitigations(&report, &asked, clock);
        let replies = single.then(|| self.replies(net.addr(), &mitigations, clock.now)).flatten();
        Explanation {
            port,
            replies,
            listeners: sockets(&reached),
            closed: sockets(self.closed().keys().filter(|one| reached.contains(one))),
            mitigations,
            forced: self.forced(net, &touches, clock.now),
            prefix: *net,
            mode: report.mode,
            rules: rules(&|rule| match &rule.matcher {
                Matcher::Source(other, ports) => {
                    touches(other) && port.is_none_or(|port| ports.contains(port))
                }
                Matcher::Signature { .. } => false,
            }),
            signatures: rules(&|rule| match &rule.matcher {
                Matcher::Signature { listener, fingerprint, .. } => {
                    let of_ipv6 = fingerprint.quirks & quirk::IPV6 != 0;
                    of_ipv6 == net.addr().is_ipv6()
                        && (port.is_none() || *listener == ListenerId::HOST || at(listener))
                }
                Matcher::Source(..) => false,
            }),
            allowed: report
                .allowed
                .iter()
                .filter(|allowed| touches(&allowed.net))
                .map(|allowed| Allowed::build(allowed, clock))
                .collect(),
            exempt: exempt(true),
            exempt_part: exempt(false),
            clients: self.executor.clients_within(net),
            completed_at: client
                .map(|client| clock.time_at(Timestamp::from_nanos(client.completed_ns))),
            source: counters.map(|counters| Source {
                addr: ip(&addr(net.addr()).client()),
                syn: counters.syn,
                syn_ack: counters.syn_ack,
                ack: counters.ack,
                rst: counters.rst,
                completed: counters.completed,
                validated: client.is_some(),
            }),
        }
    }

    /// The limit of replies to the network of an address, where one of these mitigations sends any.
    fn replies(
        &self,
        ip: IpAddr,
        mitigations: &[ListenerMitigation],
        now: Timestamp,
    ) -> Option<Replies> {
        let cookies = |it: &ListenerMitigation| it.mitigation.mitigation == Mitigation::Cookies;
        if !mitigations.iter().any(cookies) {
            return None;
        }
        let config = &self.executor.config;
        let left =
            self.executor.dataplane.replies_left(config, ip, now.as_nanos()).ok().flatten()?;
        let most = config.replies_per_network.left(0, 0);
        Some(Replies { network: network(ip).to_string(), left, most })
    }

    /// The rules on sources, by number, that drop the SYNs of `asked` although it is exempt: in the kernel they are
    /// forced, or it is exempt by the allowlist alone, over which an operator's rules go.
    fn forced(&self, asked: &IpNet, touches: &dyn Fn(&IpNet) -> bool, now: Timestamp) -> Vec<u32> {
        let is_protected = self.engine.is_protected(asked);
        let (dataplane, set) = (&self.executor.dataplane, self.executor.config.rule_set);
        let rules = self.engine.rules(now).filter_map(|rule| match &rule.matcher {
            Matcher::Source(net, ports) if touches(net) => {
                // Those of its other ports are the same.
                let port = ports.entries().next()?;
                let found = dataplane.source_rule(set, net, port).ok().flatten()?;
                let over = found.flags & RuleRef::OVER_ALLOWLIST != 0 && !is_protected;
                (over || found.flags & RuleRef::FORCED != 0).then_some(rule.id.0)
            }
            _ => None,
        });
        rules.collect()
    }

    /// The evidence of an attack: one of this run, or one on record.
    pub(in crate::daemon) fn explain_incident(&self, id: u64) -> Response {
        let clock = clock();
        let report = self.engine.report(clock.now);
        let open = report.incidents.iter().find(|incident| incident.id == id);
        let found = open
            .map(|incident| {
                let mut full = FullIncident::build(incident, &report, clock);
                let obstacles = &self.mitigations.obstacles;
                full.incident.advice = open_incident(incident, &report, obstacles, clock).advice;
                full
            })
            .or_else(|| self.records.incidents.find(id).cloned());
        match found {
            Some(attack) => Response::IncidentExplained(Box::new(attack)),
            None => Response::refused(
                RefusalKind::NotFound,
                format!(
                    "no incident #{id} on record, which holds {} past ones",
                    self.records.incidents.past().count()
                ),
                format!("journalctl -t tcpguard TCPGUARD_INCIDENT_ID={id}"),
            ),
        }
    }
}

impl Agent {
    /// The timeline of an attack's counters.
    pub(in crate::daemon) fn timeline(&self, id: u64) -> Response {
        match self.records.incidents.timeline(id, clock()) {
            Some(line) => Response::Timeline(Box::new(line)),
            None => Response::refused(
                RefusalKind::NotFound,
                format!("no time series of incident #{id}"),
                format!("tcpguard explain {id}"),
            ),
        }
    }
}

/// The listeners on `port` that SYNs from `net` can reach.
fn reached(net: &IpNet, port: Option<u16>, report: &Report) -> Vec<Listener> {
    let all = report.listeners.iter().map(|known| known.listener);
    let on_port: Vec<Listener> = all.filter(|listener| Some(listener.port) == port).collect();
    let v4_wildcard = on_port.iter().any(|one| one.addr == Ipv4Addr::UNSPECIFIED);
    let reaches = |listener: &Listener| match (net, listener.addr) {
        (IpNet::V4(_), IpAddr::V4(_)) | (IpNet::V6(_), IpAddr::V6(_)) => true,
        // A socket for both families, unless there is one for IPv4 alone.
        (IpNet::V4(_), IpAddr::V6(addr)) => addr.is_unspecified() && !v4_wildcard,
        (IpNet::V6(_), IpAddr::V4(_)) => false,
    };
    on_port.into_iter().filter(reaches).collect()
}

fn sockets<'a>(listeners: impl IntoIterator<Item = &'a Listener>) -> Vec<String> {
    listeners.into_iter().map(|listener| socket(listener).to_string()).collect()
}

fn socket(listener: &Listener) -> SocketAddr {
    SocketAddr::new(listener.addr, listener.port)
}

/// The active mitigations beside rules, at the listeners that are asked about.
fn mitigations(
    report: &Report,
    asked: &dyn Fn(&Listener) -> bool,
    clock: Clock,
) -> Vec<ListenerMitigation> {
    let listeners = report.listeners.iter().filter(|known| asked(&known.listener));
    let of_listeners = listeners.flat_map(|listener| {
        let taken = listener
            .mitigations
            .iter()
            .filter(|mitigation| mitigation.state == MitigationState::Active);
        taken.map(|mitigation| (listener.listener, mitigation))
    });
    of_listeners
        .map(|(listener, mitigation)| ListenerMitigation {
            listener: socket(&listener).to_string(),
            mitigation: mitigation.clone().map_time(&|at| clock.time_at(at)),
        })
        .collect()
}
