//! What all runs of a defence in one setting came to.

use std::time::Duration;

use serde_json::{Value, json};
use tcpguard_e2e::clients::Attempts;
use tcpguard_e2e::measure::{lower_bound, median};

use super::arm::Arm;
use super::run::{Outcome, PATIENCE, Setting};

/// Brackets further apart than this share are marked.
const AGREEMENT: f64 = 0.10;
/// Within which clients want their answer.
pub const LIMITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// One run between two of the perfect drop.
pub struct Run {
    pub outcome: Outcome,
    /// CPU ns per packet of the perfect drop before and after it.
    pub brackets: Option<[f64; 2]>,
}

/// All runs of a defence in one setting.
pub struct Record {
    pub arm: Arm,
    pub setting: Setting,
    pub runs: Vec<Run>,
    /// Runs that the lab broke off.
    pub failed: usize,
    /// Why there are no runs.
    pub unavailable: Option<String>,
}

/// Median, least and most.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(values: Vec<f64>) -> Option<Self> {
        let least = values.iter().copied().min_by(f64::total_cmp)?;
        let most = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { median: median(values), least, most })
    }

    fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.least, "max": self.most })
    }
}

impl Run {
    /// Whether the machine was in another mood before than after it.
    pub fn is_marked(&self) -> bool {
        self.brackets
            .is_some_and(|[before, after]| (before - after).abs() > AGREEMENT * before.min(after))
    }

    /// What a packet cost as a multiple of what the perfect drop takes around it.
    fn times_drop(&self) -> Option<f64> {
        let [before, after] = self.brackets?;
        Some(self.ns_per_packet()? / ((before + after) / 2.0))
    }

    fn ns_per_packet(&self) -> Option<f64> {
        let cost = self.outcome.load.cost;
        (cost.packets > 0).then(|| cost.ns_per_packet())
    }
}

impl Record {
    pub fn new(arm: Arm, setting: Setting) -> Self {
        Self { arm, setting, runs: Vec::new(), failed: 0, unavailable: None }
    }

    /// Clients of all runs.
    pub fn strangers(&self) -> Attempts {
        pooled(self.runs.iter().map(|run| &run.outcome.strangers))
    }

    /// Likewise.
    pub fn regulars(&self) -> Attempts {
        pooled(self.runs.iter().map(|run| &run.outcome.regulars))
    }

    pub fn taken(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|run| run.outcome.load.rate()).collect())
    }

    pub fn ns_per_packet(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(Run::ns_per_packet).collect())
    }

    pub fn times_drop(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(Run::times_drop).collect())
    }

    /// Runs whose brackets do not agree.
    pub fn marked(&self) -> usize {
        self.runs.iter().filter(|run| run.is_marked()).count()
    }

    pub fn to_json(&self) -> Value {
        let setting = &self.setting;
        let runs: Vec<_> = self.runs.iter().map(run_to_json).collect();
        let spread = |spread: Option<Spread>| spread.map(Spread::to_json);
        json!({
            "arm": self.arm.title(),
            "far": setting.far,
            "syn_linear_timeouts": setting.linear,
            "flood": format!("{:?}", setting.flood).to_lowercase(),
            "rate": setting.rate.map(super::attack::Rate::title),
            "unavailable": self.unavailable,
            "strangers": clients_to_json(&self.strangers()),
            "regulars": clients_to_json(&self.regulars()),
            "packets_taken_per_s": spread(self.taken()),
            "cpu_ns_per_packet": spread(self.ns_per_packet()),
            "times_perfect_drop": spread(self.times_drop()),
            "marked_runs": self.marked(),
            "failed_runs": self.failed,
            "runs": runs,
        })
    }
}

fn pooled<'a>(runs: impl Iterator<Item = &'a Attempts>) -> Attempts {
    Attempts(runs.flat_map(|attempts| attempts.0.iter().copied()).collect())
}

fn run_to_json(run: &Run) -> Value {
    let outcome = &run.outcome;
    json!({
        "strangers": clients_to_json(&outcome.strangers),
        "regulars": clients_to_json(&outcome.regulars),
        "packets_taken_per_s": outcome.load.rate(),
        "cpu_ns_per_packet": run.ns_per_packet(),
        "cpu_load": outcome.load.cost.load(outcome.load.time),
        "offered_per_s": outcome.offered,
        "perfect_drop_ns": run.brackets,
        "marked": run.is_marked(),
        "status": outcome.status,
    })
}

fn clients_to_json(attempts: &Attempts) -> Value {
    let count = attempts.0.len();
    let share = |limit| {
        let successes = attempts.within(limit);
        json!({
            "successes": successes,
            "share": (count > 0).then(|| successes as f64 / count as f64),
            "lower_bound_95": lower_bound(successes, count),
        })
    };
    let quantile =
        |share| attempts.connect_quantile(share, PATIENCE).map(|t| t.as_secs_f64() * 1e3);
    json!({
        "attempts": count,
        "within_1s": share(LIMITS[0]),
        "within_4s": share(LIMITS[1]),
        "connect_p50_ms": quantile(0.5),
        "connect_p99_ms": quantile(0.99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_both_ends() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.least, spread.most), (2.0, 1.0, 3.0));
        assert!(Spread::of(Vec::new()).is_none());
    }
}
