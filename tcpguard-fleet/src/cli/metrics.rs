//! `tcpguard-fleet metrics`: the documents of the processes of this host as numbers, in the text form of Prometheus
//! (0.0.4).

use std::fmt::Write as _;
use std::io::Write;

use super::error::CliError;
use super::status;
use crate::collect::FleetStatus;
use crate::daemon::request::Response;
use crate::daemon::status::{EdgeStatus, ProcessStatus};
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
    samples: Vec<String>,
}

impl Families {
    /// Adds a sample with this label, or without any.
    fn add(
        &mut self,
        label: Option<(&str, &str)>,
        name: &'static str,
        help: &'static str,
        value: f64,
    ) {
        let label = label.map(|(name, value)| format!("{{{name}=\"{}\"}}", escaped(value)));
        let sample = format!("tcpguard_fleet_{name}{} {value}", label.unwrap_or_default());
        match self.0.iter_mut().find(|family| family.name == name) {
            Some(family) => family.samples.push(sample),
            None => self.0.push(Family { name, help, samples: vec![sample] }),
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
    for Family { name, help, samples } in families.0 {
        // As its name says.
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(text, "# HELP tcpguard_fleet_{name} {help}");
        let _ = writeln!(text, "# TYPE tcpguard_fleet_{name} {kind}");
        samples.iter().for_each(|sample| {
            let _ = writeln!(text, "{sample}");
        });
    }
    text
}

fn process(families: &mut Families, status: &ProcessStatus) {
    let bus = &status.bus;
    let process = if status.controller.is_some() { "controller" } else { "edge" };
    let mut add = |name, help, value| families.add(Some(("process", process)), name, help, value);
    add("bus_connected", "1 while there is a connection to the bus.", flag(bus.connected));
    if let Some(end) = bus.credentials_end {
        let help = "End of the credentials, in seconds since 1970.";
        add("credentials_end_seconds", help, end.0.as_second() as f64);
    }
    let help = "Received documents that were dropped because they came too fast.";
    add("bus_overflowed_total", help, bus.overflowed as f64);
    add("bus_unsent_total", "Documents that were not published.", bus.unsent as f64);
    let help = "Received messages that no host has published.";
    add("bus_misdirected_total", help, bus.misdirected as f64);
    if let Some(edge) = &status.edge {
        host(families, edge);
    }
    if let Some(controller) = &status.controller {
        let mut add = |name, help, value| families.add(None, name, help, value);
        let help = "1 while a BGP session to the router is established.";
        add("session_established", help, flag(controller.established));
        add("dry_run", "1 if the controller announces nothing.", flag(controller.dry_run));
        add("routes", "Routes in the table of the BGP speaker.", controller.table.into());
        let refused = controller.refused.values().sum::<u64>() as f64;
        add("routes_refused_total", "Routes that were refused.", refused);
    }
}

fn host(families: &mut Families, edge: &EdgeStatus) {
    let mut add = |name, help, value| families.add(None, name, help, value);
    add("agent_connected", "1 while the agent reports its state.", flag(edge.agent));
    add("hints", "Signatures of other hosts that the agent knows.", edge.hints.into());
    add("rules", "Rules of operators.", edge.rules.len() as f64);
    let help = "Messages that were not sent because enough hosts had sent the same.";
    add("suppressed_total", help, edge.suppressed as f64);
    add("muted_hosts", "Hosts whose documents are ignored for now.", edge.muted.len() as f64);
    if let Some(relief) = &edge.relief {
        add("relief_asked", "Routes that this host asks for.", relief.asked.len() as f64);
        let help = "Routes for this host that a controller announces.";
        add("relief_announced", help, relief.announced.len() as f64);
    }
    for (reason, count) in &edge.refused {
        let help = "Documents of others that were refused.";
        families.add(Some(("reason", reason.as_str())), "refused_total", help, *count as f64);
    }
    for hook in &edge.hooks {
        let mut add = |name, help, value| {
            families.add(Some(("target", hook.target.as_str())), name, help, value);
        };
        let help = "Events that arrived at a hook.";
        add("hook_delivered_total", help, hook.delivered as f64);
        let help = "Events that did not arrive at a hook.";
        add("hook_lost_total", help, (hook.failed + hook.dropped) as f64);
    }
}

fn fleet(families: &mut Families, status: &FleetStatus) {
    let summary = &status.summary;
    let mut add = |name, help, value| families.add(None, name, help, value);
    add("all_hosts", "Hosts of the fleet.", summary.hosts.into());
    let help = "Hosts that have not reported themselves for 90 s.";
    add("all_hosts_silent", help, summary.silent.into());
    add("all_hosts_attacked", "Hosts with an open flood.", summary.attacked.into());
    let incidents = status.incidents.len() as f64;
    add("all_incidents", "Open incidents across the fleet.", incidents);
    add("all_syn_pps", "SYNs of open incidents per second at all hosts.", summary.syn_pps);
    add("all_drop_pps", "SYNs among them that are dropped per second.", summary.drop_pps);
    add("all_routes", "Routes that hosts asked for.", status.routes.len() as f64);
    for (reason, count) in &status.refused {
        let help = "Documents that the collector refused.";
        families.add(Some(("reason", reason.as_str())), "all_refused_total", help, *count as f64);
    }
}

const fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bus::BusStatus;
    use crate::collect::Collector;
    use crate::daemon::clock;
    use crate::daemon::status::ControllerStatus;
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
