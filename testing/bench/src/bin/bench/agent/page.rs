//! The agent's costs as tables, goals and plots.

use std::fmt::Write as _;

use crate::part::{Axis, Figure, Goal, Part, Series};

use super::polls::Case;
use super::{AgentCosts, MIB};
use crate::samples::Samples;

/// CPUs of the machines for which the maps are computed, and the limit of all maps on each in MiB: 64
/// on two CPUs, and 1 more for each further one.
const MACHINES: [(u64, f64); 3] = [(2, 64.0), (16, 78.0), (128, 190.0)];
/// Limits of the CPU time, in % of one core.
const IDLE: f64 = 1.0;
const FLOODED: f64 = 5.0;
/// Limits of the memory and of its growth, in MiB.
const RESIDENT: f64 = 32.0;
const FLAT: f64 = 1.0;

impl Part for AgentCosts {
    fn tables(&self) -> String {
        let mut text = format!(
            "## Agent\n\n{} round(s); medians, in brackets the least and the greatest.\n",
            self.rounds
        );
        self.load_table(&mut text);
        self.call_table(&mut text);
        self.poll_table(&mut text);
        self.rule_table(&mut text);
        self.start_table(&mut text);
        self.map_table(&mut text);
        self.growth_table(&mut text);
        if !self.missing.is_empty() {
            text.push_str("\nNot measured here:\n\n");
            self.missing.iter().for_each(|line| _ = writeln!(text, "- {line}"));
        }
        text
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for cost in &self.load {
            let title = cost.situation.title();
            let idle = cost.situation == super::load::Situation::Idle;
            let limit = if idle { IDLE } else { FLOODED };
            let why = self.why(title);
            let cpu = goal(format!("agent, CPU, {title}"), "% of one core", limit, &cost.cpu);
            let name = format!("agent, memory, {title}");
            let memory = goal(name, "MiB (VmHWM)", RESIDENT, &cost.peak);
            goals.extend([cpu, memory].map(|goal| Goal { note: why.clone(), ..goal }));
        }
        for cost in &self.polls {
            let name = format!("agent, memory, {}", cost.title());
            let goal = goal(name, "MiB (VmHWM)", RESIDENT, &cost.peak);
            goals.push(Goal { note: self.why(&cost.title()), ..goal });
        }
        for (cpus, limit) in MACHINES {
            goals.push(self.map_goal(cpus, limit));
        }
        if let Some(cost) = self.growth.last() {
            let name = "agent, memory after the first third of a flood from everywhere".to_owned();
            let sources = cost.sources.median().unwrap_or(0.0) / 1e6;
            let goal = goal(name, "MiB more", FLAT, &cost.growth);
            let note = match goal.value {
                Some(_) => format!("{sources:.1} M sources"),
                None => self.why(&cost.title()),
            };
            goals.push(Goal { note, ..goal });
        }
        for cost in &self.growth {
            let name = format!("agent, memory, flood from {}", cost.title());
            let goal = goal(name, "MiB (VmRSS)", RESIDENT, &cost.resident);
            goals.push(Goal { note: self.why(&cost.title()), ..goal });
        }
        goals
    }

    fn figures(&self) -> Vec<Figure> {
        let by_listeners = self.polls.iter().filter_map(|cost| match cost.case {
            Case::Listeners(count) => Some((f64::from(count), cost.cpu.point()?)),
            _ => None,
        });
        let by_connections = self.polls.iter().filter_map(|cost| match cost.case {
            Case::Established(_) => Some((cost.found.median()?, cost.cpu.point()?)),
            _ => None,
        });
        let by_sources = |of: fn(&super::GrowthCost) -> &Samples| {
            let points = self.growth.iter();
            points.filter_map(|cost| Some((cost.sources.median()?, of(cost).point()?))).collect()
        };
        let sources = || axis("distinct sources of the flood", true);
        vec![
            Figure {
                file: "agent-polls",
                title: "CPU time of a poll against listeners".to_owned(),
                x: axis("listeners", true),
                y: axis("ms", false),
                series: vec![series("agent", by_listeners.collect())],
            },
            Figure {
                file: "agent-connections",
                title: "CPU time of a poll against established connections".to_owned(),
                x: axis("established connections", true),
                y: axis("ms", false),
                series: vec![series("agent", by_connections.collect())],
            },
            Figure {
                file: "agent-memory",
                title: "Memory of the agent against sources".to_owned(),
                x: sources(),
                y: axis("VmRSS, MiB", false),
                series: vec![series("agent", by_sources(|cost| &cost.resident))],
            },
            Figure {
                file: "agent-cpu",
                title: "CPU time of the agent against sources".to_owned(),
                x: sources(),
                y: axis("% of one core", false),
                series: vec![series("agent", by_sources(|cost| &cost.cpu))],
            },
        ]
    }
}

impl AgentCosts {
    /// The reason why a row of the tables could not be measured, if there is one.
    fn why(&self, row: &str) -> String {
        let lines = self.missing.iter().filter(|line| line.starts_with(row));
        lines.map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    fn load_table(&self, text: &mut String) {
        text.push_str(
            "\n| | CPU, % of one core | VmRSS, MiB | VmHWM, MiB | packets taken, million/s | N |\n\
             |---|---|---|---|---|---|\n",
        );
        for cost in &self.load {
            let taken = cost.taken.scaled(1e-6);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} |",
                cost.situation.title(),
                cost.cpu.cell(2),
                cost.resident.cell(1),
                cost.peak.cell(1),
                taken.cell(2),
                cost.cpu.count()
            );
        }
    }

    fn call_table(&self, text: &mut String) {
        text.push_str(
            "\n| call | | p50, ms | p99, ms | max, ms | N |\n|---|---|---|---|---|---|\n",
        );
        for cost in &self.load {
            for calls in &cost.calls {
                let quantile = |q| calls.took.quantile(q).map_or("–".to_owned(), in_ms);
                let _ = writeln!(
                    text,
                    "| `tcpguard {}` | {} | {} | {} | {} | {} |",
                    calls.command,
                    cost.situation.title(),
                    quantile(0.5),
                    quantile(0.99),
                    quantile(1.0),
                    calls.took.count()
                );
            }
        }
    }

    fn poll_table(&self, text: &mut String) {
        text.push_str("\n| poll | CPU, ms | VmHWM, MiB | | N |\n|---|---|---|---|---|\n");
        for cost in &self.polls {
            let (title, remark) = (cost.title(), cost.remark());
            let _ = writeln!(
                text,
                "| {title} | {} | {} | {remark} | {} |",
                cost.cpu.cell(2),
                cost.peak.cell(1),
                cost.cpu.count()
            );
        }
    }

    fn rule_table(&self, text: &mut String) {
        text.push_str("\n| rules | install, ms | replace, ms | N |\n|---|---|---|---|\n");
        for cost in &self.rules {
            let _ = match &cost.refused {
                Some(why) => writeln!(text, "| {} | refused: {why} | – | 0 |", cost.rules),
                None => writeln!(
                    text,
                    "| {} | {} | {} | {} |",
                    cost.rules,
                    cost.install.cell(0),
                    cost.replace.cell(0),
                    cost.install.count()
                ),
            };
        }
    }

    fn start_table(&self, text: &mut String) {
        text.push_str("\n| start | to READY=1, ms | N |\n|---|---|---|\n");
        let (fresh, adoption) = (&self.starts.fresh, &self.starts.adoption);
        for (title, took) in [("with nothing in the kernel", fresh), ("over pins", adoption)] {
            let _ = writeln!(text, "| {title} | {} | {} |", took.cell(0), took.count());
        }
    }

    fn map_table(&self, text: &mut String) {
        let Some(maps) = &self.maps else { return };
        let _ = write!(
            text,
            "\n{} maps, {:.1} MiB here ({} CPUs); computed from their definitions:\n\n\
             | CPUs | MiB |\n|---|---|\n",
            maps.count,
            maps.here as f64 / MIB,
            maps.cpus
        );
        for (cpus, _) in MACHINES {
            let _ = writeln!(text, "| {cpus} | {:.1} |", maps.on(cpus) as f64 / MIB);
        }
    }

    fn growth_table(&self, text: &mut String) {
        text.push_str(
            "\n| flood of 500,000 SYN/s from | distinct sources | VmRSS, MiB | after the first third, \
             MiB | CPU, % of one core | N |\n|---|---|---|---|---|---|\n",
        );
        for cost in &self.growth {
            let _ = writeln!(
                text,
                "| {} | {:.0} | {} | {} | {} | {} |",
                cost.title(),
                cost.sources.median().unwrap_or(0.0),
                cost.resident.cell(1),
                cost.growth.cell(2),
                cost.cpu.cell(2),
                cost.cpu.count()
            );
        }
    }

    fn map_goal(&self, cpus: u64, limit: f64) -> Goal {
        let taken: Samples = self.maps.iter().map(|maps| maps.on(cpus) as f64 / MIB).collect();
        let note = match &self.maps {
            None => self.why(""),
            Some(maps) if maps.cpus == cpus => "as the kernel accounts for them".to_owned(),
            Some(_) => "computed".to_owned(),
        };
        Goal { note, ..goal(format!("maps on {cpus} CPUs"), "MiB", limit, &taken) }
    }
}

fn goal(name: String, unit: &str, limit: f64, samples: &Samples) -> Goal {
    Goal {
        name,
        unit: unit.to_owned(),
        limit,
        at_least: false,
        value: samples.median(),
        range: samples.range(),
        rounds: samples.count(),
        note: String::new(),
    }
}

fn axis(title: &str, logarithmic: bool) -> Axis {
    Axis { title: title.to_owned(), logarithmic }
}

fn series(name: &str, points: Vec<(f64, [f64; 3])>) -> Series {
    Series { name: name.to_owned(), points }
}

fn in_ms(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::maps::Maps;
    use super::*;

    /// Costs with nothing measured: each test adds its own subject.
    fn costs() -> AgentCosts {
        AgentCosts::new(&Options { quick: true, json: None })
    }

    fn named<'a>(goals: &'a [Goal], name: &str) -> &'a Goal {
        goals.iter().find(|goal| goal.name == name).unwrap()
    }

    #[test]
    fn a_goal_is_judged_by_the_median_of_its_rounds() {
        let mut costs = costs();
        costs.load[0].cpu = [0.4, 3.0, 0.5].into_iter().collect();
        costs.load[2].cpu = [5.1].into_iter().collect();
        let goals = costs.goals();
        let idle = named(&goals, "agent, CPU, idle");
        assert_eq!((idle.value, idle.range, idle.rounds), (Some(0.5), Some((0.4, 3.0)), 3));
        assert_eq!((idle.limit, idle.at_least), (1.0, false));
    }

    #[test]
    fn what_was_not_measured_is_named_with_the_reason() {
        let mut costs = costs();
        let line = "crude flood at maximum: no threaded NAPI";
        costs.missing.push(line.to_owned());
        costs.rules[1].refused = Some("there is room for 16384".to_owned());
        let goals = costs.goals();
        let crude = named(&goals, "agent, CPU, crude flood at maximum");
        assert_eq!((crude.value, &*crude.note), (None, line));
        assert_eq!(named(&goals, "maps on 16 CPUs").note, line);
        assert_eq!(named(&goals, "agent, CPU, idle").note, "");
        let tables = costs.tables();
        assert!(tables.contains(&format!("- {line}\n")), "{tables}");
        assert!(tables.contains("| 100000 | refused: there is room for 16384 |"), "{tables}");
    }

    #[test]
    fn maps_of_other_machines_are_said_to_be_computed() {
        let mut costs = costs();
        let (here, per_cpu) = (46 << 20, 1 << 20);
        costs.maps = Some(Maps { count: 29, cpus: 2, here, per_cpu });
        let goals = costs.goals();
        let of = |cpus| named(&goals, &format!("maps on {cpus} CPUs"));
        assert_eq!((of(2).value, of(16).value), (Some(46.0), Some(60.0)));
        assert_eq!(of(2).note, "as the kernel accounts for them");
        assert_eq!(of(128).note, "computed");
    }

    #[test]
    fn plots_hold_what_was_measured_only() {
        let mut costs = costs();
        costs.polls[1].cpu = [2.0, 1.0, 4.0].into_iter().collect();
        // Of connections, which are no listeners.
        costs.polls[4].cpu = [9.0].into_iter().collect();
        let figures = costs.figures();
        assert_eq!(figures[0].series[0].points, [(256.0, [2.0, 1.0, 4.0])]);
        assert!(figures[1].series[0].points.is_empty(), "how many there were is not known");
        assert!(figures[2].series[0].points.is_empty());
    }
}
