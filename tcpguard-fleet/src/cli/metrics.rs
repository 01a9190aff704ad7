//! `tcpguard-fleet metrics`: the documents of the processes of this host as numbers, in the text form of Prometheus
//! (0.0.4).

use std::fmt::Write as _;
use std::io::Write;

use super::error::CliError;
use super::status;
use crate::collect::FleetStatus;
use crate::daemon::request::Response;
use crate::daemon::status::ProcessStatus;
use crate::daemon::{COLLECTOR_SOCKET, EDGE_SOCKET, Paths};

/// Prints the numbers of all processes of this host that answer.
pub(super) fn run(paths: &Paths, out: &mut dyn Write) -> Result<(), CliError> {
    let mut found = status::local(paths);
    found.extend(status::ask(paths, COLLECTOR_SOCKET).ok());
    if found.is_empty() {
        found.push(status::ask(paths, EDGE_SOCKET)?);
    }
    out.write_all(text(&found).as_bytes())?;
    Ok(())
}

/// Families of numbers, in the order in which they were begun.
#[derive(Default)]
struct Families(Vec<Family>);

struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    samples: Vec<String>,
}

impl Families {
    fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        self.add(name, help, "gauge", labels, value);
    }

    fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: u64,
    ) {
        self.add(name, help, "counter", labels, value as f64);
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let sample = format!("tcpguard_fleet_{name}{labels} {value}");
        match self.0.iter_mut().find(|family| family.name == name) {
            Some(family) => family.samples.push(sample),
            None => self.0.push(Family { name, help, kind, samples: vec![sample] }),
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn text(responses: &[Response]) -> String {
    let mut families = Families::default();
    for response in responses {
        match response {
            Response::Process(status) => process(&mut families, status),
            Response::Fleet(status) => fleet(&mut families, status),
            Response::Done | Response::Refused { .. } => {}
        }
    }
    let mut text = String::new();
    for Family { name, help, kind, samples } in families.0 {
        let _ = writeln!(text, "# HELP tcpguard_fleet_{name} {help}");
        let _ = writeln!(text, "# TYPE tcpguard_fleet_{name} {kind}");
        samples.iter().for_each(|sample| {
            let _ = writeln!(text, "{sample}");
        });
    }
    text
}

fn process(families: &mut Families, status: &ProcessStatus) {
    let of = if status.controller.is_some() { "controller" } else { "edge" };
    let labels = [("process", of)];
    let bus = &status.bus;
    families.gauge(
        "bus_connected",
        "1 while there is a connection to the bus.",
        &labels,
        flag(bus.connected),
    );
    if let Some(end) = bus.credentials_end {
        families.gauge(
            "credentials_end_seconds",
            "End of the credentials, in seconds since 1970.",
            &labels,
            end.0.as_second() as f64,
        );
    }
    families.counter(
        "bus_overflowed_total",
        "Received documents that were dropped because they came too fast.",
        &labels,
        bus.overflowed,
    );
    families.counter("bus_unsent_total", "Documents that were not published.", &labels, bus.unsent);
    families.counter(
        "bus_misdirected_total",
        "Received messages that no host has published.",
        &labels,
        bus.misdirected,
    );
    if let Some(edge) = &status.edge {
        families.gauge(
            "agent_connected",
            "1 while the agent reports its state.",
            &[],
            flag(edge.agent),
        );
        families.gauge(
            "hints",
            "Signatures of other hosts that the agent knows.",
            &[],
            edge.hints.into(),
        );
        families.gauge("rules", "Rules of operators.", &[], edge.rules.len() as f64);
        families.counter(
            "suppressed_total",
            "Messages that were not sent because enough hosts had sent the same.",
            &[],
            edge.suppressed,
        );
        families.gauge(
            "muted_hosts",
            "Hosts whose documents are ignored for now.",
            &[],
            edge.muted.len() as f64,
        );
        for (reason, count) in &edge.refused {
            families.counter(
                "refused_total",
                "Documents of others that were refused.",
                &[("reason", reason.as_str())],
                *count,
            );
        }
        for hook in &edge.hooks {
            let labels = [("target", hook.target.as_str())];
            families.counter(
                "hook_delivered_total",
                "Events that arrived at a hook.",
                &labels,
                hook.delivered,
            );
            families.counter(
                "hook_lost_total",
                "Events that did not arrive at a hook.",
                &labels,
                hook.failed + hook.dropped,
            );
        }
        if let Some(relief) = &edge.relief {
            families.gauge(
                "relief_asked",
                "Routes that this host asks for.",
                &[],
                relief.asked.len() as f64,
            );
            families.gauge(
                "relief_announced",
                "Routes for this host that a controller announces.",
                &[],
                relief.announced.len() as f64,
            );
        }
    }
    if let Some(controller) = &status.controller {
        families.gauge(
            "session_established",
            "1 while a BGP session to the router is established.",
            &[],
            flag(controller.established),
        );
        families.gauge(
            "dry_run",
            "1 if the controller announces nothing.",
            &[],
            flag(controller.dry_run),
        );
        families.gauge(
            "routes",
            "Routes in the table of the BGP speaker.",
            &[],
            controller.table.into(),
        );
        let refused = controller.refused.values().sum();
        families.counter("routes_refused_total", "Routes that were refused.", &[], refused);
    }
}

fn fleet(families: &mut Families, status: &FleetStatus) {
    let summary = &status.summary;
    families.gauge("all_hosts", "Hosts of the fleet.", &[], summary.hosts.into());
    families.gauge(
        "all_hosts_silent",
        "Hosts that have not reported themselves for 90 s.",
        &[],
        summary.silent.into(),
    );
    families.gauge("all_hosts_attacked", "Hosts with an open flood.", &[], summary.attacked.into());
    families.gauge(
        "all_incidents",
        "Open incidents across the fleet.",
        &[],
        status.incidents.len() as f64,
    );
    families.gauge(
        "all_syn_pps",
        "SYNs of open incidents per second at all hosts.",
        &[],
        summary.syn_pps,
    );
    families.gauge(
        "all_drop_pps",
        "SYNs among them that are dropped per second.",
        &[],
        summary.drop_pps,
    );
    families.gauge("all_routes", "Routes that hosts asked for.", &[], status.routes.len() as f64);
    for (reason, count) in &status.refused {
        families.counter(
            "all_refused_total",
            "Documents that the collector refused.",
            &[("reason", reason.as_str())],
            *count,
        );
    }
}

const fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::collect::Collector;
    use crate::daemon::clock;
    use crate::daemon::status::{BusStatus, ControllerStatus};
    use crate::document::tests::{AT, host, time};

    #[test]
    fn a_family_is_described_once() {
        let controller = ControllerStatus {
            dry_run: true,
            speaker: false,
            established: false,
            table: 2,
            hosts: BTreeMap::new(),
            unknown_hosts: 0,
            refused: [(host(7), 3), (host(8), 4)].into(),
        };
        let process = ProcessStatus {
            schema: ProcessStatus::SCHEMA.to_owned(),
            generated_at: time(AT),
            version: "0.1.0".to_owned(),
            host: host(9),
            health: Vec::new(),
            bus: BusStatus {
                connected: true,
                credentials_end: Some(time("2026-12-24T00:00:00Z")),
                ..BusStatus::default()
            },
            edge: None,
            controller: Some(controller),
        };
        let mut fleet = Collector::new(clock().now).status(clock());
        fleet.refused = [("replayed".to_owned(), 5), ("a\"b".to_owned(), 6)].into();
        let text = text(&[Response::Process(Box::new(process)), Response::Fleet(Box::new(fleet))]);
        for line in [
            "# TYPE tcpguard_fleet_bus_connected gauge",
            "tcpguard_fleet_bus_connected{process=\"controller\"} 1",
            "tcpguard_fleet_credentials_end_seconds{process=\"controller\"} 1798070400",
            "tcpguard_fleet_routes 2",
            "tcpguard_fleet_routes_refused_total 7",
            "tcpguard_fleet_all_refused_total{reason=\"replayed\"} 5",
            "tcpguard_fleet_all_refused_total{reason=\"a\\\"b\"} 6",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let helps = text.matches("# HELP tcpguard_fleet_all_refused_total").count();
        assert_eq!(helps, 1);
    }
}
