//! The BPF programs in the kernel, and their costs.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Status;
use super::build::number;

/// One BPF program. Its runs on all interfaces that it is attached to are counted together.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Program {
    /// Name of the program.
    pub name: String,
    /// Number of runs while the kernel counted, which it does with `kernel.bpf_stats_enabled=1` and while a
    /// process requests costs.
    pub runs: u64,
    /// Time that these runs took, in ns.
    pub run_ns: u64,
    /// Present cost; `null` unless requested (`tcpguard status --cost`), or if the program was loaded in the
    /// meantime.
    pub cost: Option<Cost>,
}

/// Cost of a program, measured over about 1 s.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Cost {
    /// Runs per second: one run for each packet, or event.
    pub runs_pps: f64,
    /// Mean time of a run, in ns; `null` without a run.
    pub ns_per_run: Option<f64>,
    /// Share of the time of one CPU; 1 is all of it, and several CPUs together may take more.
    pub cpu_ratio: f64,
}

impl Status {
    /// Adds the cost of each program, from its counters now and in the status `before`, which is `elapsed`
    /// older.
    pub fn add_costs(&mut self, before: &Self, elapsed: Duration) {
        for program in &mut self.programs {
            let earlier = before.programs.iter().find(|earlier| earlier.name == program.name);
            program.cost = earlier.and_then(|earlier| program.cost_since(earlier, elapsed));
        }
    }
}

impl Program {
    fn cost_since(&self, earlier: &Self, elapsed: Duration) -> Option<Cost> {
        // Fewer than before: this is another program, of an agent that has been started since.
        let runs = self.runs.checked_sub(earlier.runs)? as f64;
        let ns = self.run_ns.checked_sub(earlier.run_ns)? as f64;
        (!elapsed.is_zero()).then(|| Cost {
            runs_pps: number(runs / elapsed.as_secs_f64()),
            ns_per_run: (runs > 0.0).then(|| number(ns / runs)),
            cpu_ratio: number(ns / elapsed.as_nanos() as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(runs: u64, run_ns: u64) -> Program {
        Program { name: "tcpguard_ingress".to_owned(), runs, run_ns, cost: None }
    }

    #[test]
    fn costs_are_differences_over_time() {
        let cost = program(3_000, 1_000_000).cost_since(&program(1_000, 0), Duration::from_secs(2));
        let expected = Cost { runs_pps: 1_000.0, ns_per_run: Some(500.0), cpu_ratio: 0.000_5 };
        assert_eq!(cost, Some(expected));
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let second = Duration::from_secs(1);
        let idle = program(5, 700).cost_since(&program(5, 700), second);
        assert_eq!(idle.map(|cost| (cost.ns_per_run, cost.cpu_ratio)), Some((None, 0.0)));
        assert_eq!(program(4, 700).cost_since(&program(5, 700), second), None, "it began again");
        assert_eq!(program(5, 700).cost_since(&program(4, 600), Duration::ZERO), None);
    }
}
