//! The report on the agent's costs.

use tcpguard_engine::POLL;

use super::calls::Calls;
use super::growth::GrowthCost;
use super::load::LoadCost;
use super::polls::{Case, PollCost};
use super::rules::RuleCost;
use super::{AgentCosts, MIB};
use crate::part::{Goal, Part, Report};
use crate::samples::Samples;

/// CPUs of the machines for which the maps are computed, and the limit of all maps on each in MiB: 64
/// on two CPUs, and 1 more for each further one.
const MACHINES: [(u64, f64); 4] = [(2, 64.0), (16, 78.0), (64, 126.0), (128, 190.0)];
/// Limits of the CPU time, in % of one core.
const IDLE: f64 = 1.0;
const IDLE_MANY: f64 = 2.0;
const FLOODED: f64 = 5.0;
/// The % of one core that a millisecond of each poll is.
const PER_POLL: f64 = 100.0 / POLL.as_millis() as f64;
/// Limits of the memory and of its growth, in MiB.
const RESIDENT: f64 = 32.0;
const FLAT: f64 = 1.0;
const CPU: &str = "CPU, % of one core";
const PEAK: &str = "MiB (VmHWM)";
const NONE: &str = "–";

impl Part for AgentCosts {
    const NAME: &'static str = "agent";

    fn report(&self) -> Report {
        let mut report = Report::new(Self::NAME);
        report.text(format!(
            "### Agent\n\n{} round(s). Medians, with minimum and maximum in brackets.",
            self.rounds
        ));
        self.costs(&mut report);
        self.times(&mut report);
        self.memory(&mut report);
        report.missing(&self.missing);
        report.goals = self.goals();
        report
    }
}

impl AgentCosts {
    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let goal = |name: String, unit: &str, limit, samples: &Samples, row: &str| Goal {
            name: format!("agent, {name}"),
            unit: unit.to_owned(),
            limit,
            note: self.why(row),
            ..samples.goal()
        };
        for cost in &self.load {
            let title = cost.situation.title();
            let idle = cost.situation == super::load::Situation::Idle;
            let limit = if idle { IDLE } else { FLOODED };
            goals.push(goal(format!("CPU, {title}"), "% of one core", limit, &cost.cpu, title));
            goals.push(goal(format!("memory, {title}"), PEAK, RESIDENT, &cost.peak, title));
        }
        for cost in &self.polls {
            let title = cost.title();
            goals.push(goal(format!("memory, {title}"), PEAK, RESIDENT, &cost.peak, &title));
        }
        let cpu = |cost: &PollCost| cost.cpu.scaled(PER_POLL);
        let one = self.polls.iter().find(|cost| cost.case == Case::Listeners(1)).map(cpu);
        for cost in &self.polls {
            let Case::Listeners(count @ 2..) = cost.case else { continue };
            let title = cost.title();
            let limit = if count <= 1000 { IDLE } else { IDLE_MANY };
            let name = format!("CPU, {title}, idle");
            let mut goal = goal(name, "% of one core", limit, &cpu(cost), &title);
            if let Some(one) = &one {
                goal.note = format!("{} times 1 listener", cpu(cost).over(one).cell(1));
            }
            goals.push(goal);
        }
        for (cpus, limit) in MACHINES {
            goals.push(self.map_goal(cpus, limit));
        }
        if let Some(cost) = self.growth.last() {
            let name = "memory after the first third of a flood from everywhere".to_owned();
            let mut goal = goal(name, "MiB more", FLAT, &cost.growth, &cost.title());
            if goal.value.is_some() {
                goal.note = format!("{:.1} M sources", cost.sources.median().unwrap_or(0.0) / 1e6);
            }
            goals.push(goal);
        }
        for cost in &self.growth {
            let title = cost.title();
            let name = format!("memory, flood from {title}");
            goals.push(goal(name, "MiB (VmRSS)", RESIDENT, &cost.resident, &title));
        }
        goals
    }

    /// The reason why a row of the tables could not be measured, if there is one.
    fn why(&self, row: &str) -> String {
        let lines = self.missing.iter().filter(|line| line.starts_with(row));
        lines.map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// CPU time and memory, by situation.
    fn costs(&self, report: &mut Report) {
        let columns = ["", CPU, "VmRSS, MiB", "VmHWM, MiB", "packets processed, million/s", "N"];
        let row = |cost: &LoadCost| {
            vec![
                cost.situation.title().to_owned(),
                cost.cpu.cell(2),
                cost.resident.cell(1),
                cost.peak.cell(1),
                cost.taken.scaled(1e-6).cell(2),
                cost.cpu.count().to_string(),
            ]
        };
        report.table(&columns, self.load.iter().map(row));
        let calls = self.load.iter().flat_map(|cost| cost.calls.iter().map(move |it| (cost, it)));
        let row = |(cost, calls): (&LoadCost, &Calls)| {
            let quantile =
                |q| calls.took.quantile(q).map_or(NONE.to_owned(), |it| format!("{it:.1}"));
            vec![
                format!("`tcpguard {}`", calls.command),
                cost.situation.title().to_owned(),
                quantile(0.5),
                quantile(0.99),
                quantile(1.0),
                calls.took.count().to_string(),
            ]
        };
        report.table(&["call", "", "p50, ms", "p99, ms", "max, ms", "N"], calls.map(row));
        let row = |cost: &PollCost| {
            let (cpu, peak) = (&cost.cpu, &cost.peak);
            vec![cost.title(), cpu.cell(2), peak.cell(1), cost.remark(), cpu.count().to_string()]
        };
        report.table(&["poll", "CPU, ms", "VmHWM, MiB", "", "N"], self.polls.iter().map(row));
    }

    /// Times that an operator waits.
    fn times(&self, report: &mut Report) {
        let row = |cost: &RuleCost| {
            let rules = cost.rules.to_string();
            if let Some(why) = &cost.refused {
                return vec![rules, format!("refused: {why}"), NONE.to_owned(), "0".to_owned()];
            }
            let (install, replace) = (&cost.install, &cost.replace);
            vec![rules, install.cell(0), replace.cell(0), install.count().to_string()]
        };
        report.table(&["rules", "install, ms", "replace, ms", "N"], self.rules.iter().map(row));
        let (fresh, adoption) = (&self.starts.fresh, &self.starts.adoption);
        let row = |(title, took): (&str, &Samples)| {
            vec![title.to_owned(), took.cell(0), took.count().to_string()]
        };
        let starts = [("with nothing in the kernel", fresh), ("over pins", adoption)];
        report.table(&["start", "to READY=1, ms", "N"], starts.map(row));
    }

    /// Memory by CPUs and by sources.
    fn memory(&self, report: &mut Report) {
        if let Some(maps) = &self.maps {
            let (count, here, cpus) = (maps.count, maps.here as f64 / MIB, maps.cpus);
            report.text(format!(
                "{count} maps, {here:.1} MiB here ({cpus} CPUs); computed from their definitions:"
            ));
            let on = |cpus| format!("{:.1}", maps.on(cpus) as f64 / MIB);
            let rows = MACHINES.map(|(cpus, _)| vec![cpus.to_string(), on(cpus)]);
            report.table(&["CPUs", "MiB"], rows);
        }
        let columns = [
            "flood of 500,000 SYN/s from",
            "distinct sources",
            "VmRSS, MiB",
            "after the first third, MiB",
            CPU,
            "N",
        ];
        let row = |cost: &GrowthCost| {
            vec![
                cost.title(),
                format!("{:.0}", cost.sources.median().unwrap_or(0.0)),
                cost.resident.cell(1),
                cost.growth.cell(2),
                cost.cpu.cell(2),
                cost.cpu.count().to_string(),
            ]
        };
        report.table(&columns, self.growth.iter().map(row));
    }

    fn map_goal(&self, cpus: u64, limit: f64) -> Goal {
        let taken: Samples = self.maps.iter().map(|maps| maps.on(cpus) as f64 / MIB).collect();
        let note = match &self.maps {
            None => self.why(""),
            Some(maps) if maps.cpus == cpus => "as the kernel accounts for them".to_owned(),
            Some(_) => "computed".to_owned(),
        };
        let (name, unit) = (format!("maps on {cpus} CPUs"), "MiB".to_owned());
        Goal { name, unit, limit, note, ..taken.goal() }
    }
}
