//! The report on a fleet.

use super::FleetCosts;
use super::course::{BURST, Course, Together};
use super::faults::Fault;
use super::scale::{Costs, HOSTS, Need, SERVERS, needs};
use crate::part::{Goal, Part, Report};

/// Limits of the targets.
const LEARNED_MS: f64 = 2_000.0;
const RETURNED_S: f64 = 30.0;
/// Messages about one signature in a minute, of a fleet of any size: three hosts speak in each interval of 15 to 20 s.
/// Some more draw nearly the same time as the third.
const PER_MINUTE: f64 = 20.0;
/// Messages of a host about itself in a minute: one in 20 to 40 s.
const HEARTBEATS: f64 = 3.0;
const GROWN_MIB: f64 = 64.0;
const GROWN_OF_EACH_MIB: f64 = 1.0;
const NONE: &str = "–";

impl Part for FleetCosts {
    const NAME: &'static str = "fleet";

    fn report(&self) -> Report {
        let mut report = Report::new(Self::NAME);
        self.costs(&mut report);
        self.messages(&mut report);
        self.faults(&mut report);
        self.scale(&mut report);
        report.goals = self.goals();
        report
    }
}

impl FleetCosts {
    fn costs(&self, report: &mut Report) {
        let Course { participants, learned_ms, quiet, .. } = &self.course;
        report.text(format!(
            "### Latency and costs\n\n{participants} participants in one process, each with a TLS connection of its own \
             to one server on the same two CPUs. A participant learns of an attack when its agent would get the hint."
        ));
        let quantile =
            |q| learned_ms.quantile(q).map_or(NONE.to_owned(), |value| format!("{value:.0}"));
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let course = &self.course;
        report.table(
            &["metric", "measured"],
            [
                row("evidence of one host to the hint at another, median (ms)", quantile(0.5)),
                row("the same, p99 (ms)", quantile(0.99)),
                row("the same, maximum (ms)", quantile(1.0)),
                row("hints that did not come within 10 s", course.missed.to_string()),
                row("all connected after (s)", format!("{:.2}", course.connected_s)),
                row("server: CPU of a connection (ms)", format!("{:.2}", course.connection_ms)),
                row(
                    "server: memory of a connection (KiB)",
                    format!("{:.0}", course.connection_kib),
                ),
                row("server: CPU of a delivery (µs)", format!("{:.1}", course.delivery_us)),
                row("server: CPU without an attack (% of a core)", format!("{:.1}", quiet.cpu)),
                row("participant: memory (KiB)", format!("{:.0}", course.participant_kib)),
            ],
        );
    }

    fn messages(&self, report: &mut Report) {
        let Course { quiet, all, control: [with, without], .. } = &self.course;
        report.text(format!(
            "### Messages\n\nWithout an attack each host sends {:.1} messages a minute. In an attack on all hosts at \
             once, with one signature:",
            quiet.messages
        ));
        let row = |name: &str, together: &Together| {
            vec![
                name.to_owned(),
                together.hosts.to_string(),
                together.burst.to_string(),
                format!("{:.1}", together.per_minute),
                format!("{:.1}", together.incident_per_minute),
                format!("{:.1}", together.cpu),
            ]
        };
        let burst = format!("evidence in the first {} s", BURST.as_secs());
        let columns = [
            "hosts send",
            "hosts",
            &burst,
            "evidence a minute, of all",
            "incident a minute, of each",
            "server, % of a core",
        ];
        let rows = [
            row("as they are", all),
            row("as they are", with),
            row("without suppression", without),
        ];
        report.table(&columns, rows);
    }

    fn faults(&self, report: &mut Report) {
        report.text("### Faults\n\nAfter each, all participants have to learn of another attack.");
        let columns = [
            "fault",
            "all connected after (s)",
            "half learned within (ms)",
            "all within (ms)",
            "memory of all participants (MiB)",
            "",
        ];
        let row = |fault: &Fault| {
            let [half, last] = match fault.learned_ms {
                Some(times) => times.map(|time| format!("{time:.0}")),
                None => [NONE, NONE].map(str::to_owned),
            };
            vec![
                fault.name.clone(),
                fault.connected_s.map_or(NONE.to_owned(), |time| format!("{time:.1}")),
                half,
                last,
                format!("{:+.1}", fault.grown_mib),
                fault.remark.clone(),
            ]
        };
        report.table(&columns, self.faults.iter().map(row));
    }

    fn scale(&self, report: &mut Report) {
        report.text(format!(
            "### Computed for {HOSTS} hosts\n\nWith {SERVERS} servers of sites behind a hub, from the costs above."
        ));
        let row = |need: &Need| {
            let number = |value: f64| match value {
                value if value >= 1_000.0 => format!("{value:.0}"),
                value if value >= 10.0 => format!("{value:.1}"),
                value => format!("{value:.2}"),
            };
            vec![
                need.name.clone(),
                need.given.clone(),
                need.server.map_or(NONE.to_owned(), number),
                number(need.fleet),
            ]
        };
        let rows: Vec<_> = needs(&self.unit_costs()).iter().map(row).collect();
        report.table(&["need", "given", "each server", "fleet"], rows);
    }

    fn unit_costs(&self) -> Costs {
        let Course { delivery_us, connection_kib, connection_ms, all, quiet, control, .. } =
            &self.course;
        let without = &control[1];
        Costs {
            delivery_us: *delivery_us,
            connection_kib: *connection_kib,
            connection_ms: *connection_ms,
            per_signature: all.per_minute,
            unsuppressed: without.per_minute / without.hosts.max(1) as f64,
            heartbeats: quiet.messages,
            documents: self.documents,
        }
    }

    fn goals(&self) -> Vec<Goal> {
        let once = |name: &str, unit: &str, limit: f64, value: f64| Goal {
            name: name.to_owned(),
            unit: unit.to_owned(),
            limit,
            value: Some(value),
            range: Some((value, value)),
            rounds: 1,
            ..Goal::default()
        };
        let Course { learned_ms, all, quiet, .. } = &self.course;
        let mut goals = vec![
            Goal {
                name: "fleet, time to learn another's signature".to_owned(),
                unit: "ms".to_owned(),
                limit: LEARNED_MS,
                ..learned_ms.goal()
            },
            once("fleet, hosts that did not learn it", "hosts", 0.0, self.course.missed as f64),
            once(
                "fleet, evidence in an attack on all",
                "messages a minute",
                PER_MINUTE,
                all.per_minute,
            ),
            once("fleet, messages of a host at rest", "a minute", HEARTBEATS, quiet.messages),
        ];
        for fault in &self.faults {
            let grown = fault.grown_mib.max(0.0);
            if let Some(connected) = fault.connected_s {
                let name = format!("fleet, {}: all connected", fault.name);
                goals.push(once(&name, "s", RETURNED_S, connected));
                let name = format!("fleet, {}: memory", fault.name);
                goals.push(once(&name, "MiB more", GROWN_MIB, grown));
            } else if let Some([median, _]) = fault.learned_ms {
                let name = format!("fleet, {}: time to learn a signature", fault.name);
                goals.push(once(&name, "ms", LEARNED_MS, median));
                let name = format!("fleet, {}: memory of each", fault.name);
                let each = grown / self.course.participants as f64;
                goals.push(once(&name, "MiB more", GROWN_OF_EACH_MIB, each));
            }
        }
        goals
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::Documents;
    use super::*;
    use crate::page;

    fn costs() -> FleetCosts {
        let together =
            |hosts, per_minute| Together { hosts, burst: 12, per_minute, ..Together::default() };
        let course = Course {
            participants: 1000,
            learned_ms: [150.0, 300.0, 450.0].into_iter().collect(),
            all: together(1000, 11.0),
            control: [together(100, 10.5), together(100, 350.0)],
            delivery_us: 10.0,
            ..Course::default()
        };
        let fault = Fault {
            name: "server killed, back after 5 s".to_owned(),
            connected_s: Some(3.4),
            learned_ms: Some([200.0, 400.0]),
            grown_mib: 1.5,
            remark: String::new(),
        };
        let documents = Documents { signature: 500, rule: 700 };
        FleetCosts { course, faults: vec![fault], documents }
    }

    #[test]
    fn the_tables_have_latencies_messages_faults_and_needs() {
        let text = page::text(&costs().report());
        for row in [
            "| evidence of one host to the hint at another, median (ms) | 300 |",
            "| without suppression | 100 | 12 | 350.0 | 0.0 | 0.0 |",
            "| server killed, back after 5 s | 3.4 | 200 | 400 | +1.5 | |",
            "| connections | TLS | 10000 | 100000 |",
        ] {
            assert!(text.contains(row), "{row}: {text}");
        }
    }

    #[test]
    fn a_slow_return_misses_its_target() {
        let mut slow = costs();
        slow.faults[0].connected_s = Some(31.0);
        let goals = slow.goals();
        let missed: Vec<_> = goals
            .iter()
            .filter(|goal| goal.value.is_some_and(|value| value > goal.limit))
            .map(|goal| goal.name.as_str())
            .collect();
        assert_eq!(missed, ["fleet, server killed, back after 5 s: all connected"]);
    }
}
