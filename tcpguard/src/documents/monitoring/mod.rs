//! Output for monitoring systems: the severity of the situation, and metrics for graphs.

mod range;

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;
use tcpguard_engine::ListenerState;
use tcpguard_host::finding::{Finding, Severity};

use crate::documents::{Advised, Clients, Connect, Listener, State, Status, place};
pub use range::Range;

/// Output of `tcpguard check --json`.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Report {
    /// Result of the check.
    pub level: Level,
    /// The situation in words.
    pub situation: String,
    /// Success of clients; `null` without a response of an agent.
    pub clients: Option<Clients>,
    /// Reasons for a level other than `ok`, the most severe first. Empty if the level is `ok`, or without a
    /// response of an agent, for which `situation` holds the error.
    pub reasons: Vec<String>,
    /// All metrics; empty without a response of an agent.
    pub metrics: Vec<Measured>,
}

/// Result of a check. The order is that of severity: `ok` is the least severe, `critical` the most.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing needs attention.
    Ok,
    /// The situation, or a metric with a range, is not known.
    Unknown,
    /// Something needs attention, such as an incident, a finding, or a metric that its warning range rejects.
    Warning,
    /// Clients are affected, nothing protects them, or the critical range of a metric rejects its value.
    Critical,
}

/// A metric with its value, and the ranges that it was compared with.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Measured {
    /// Name of the metric.
    pub metric: Metric,
    /// Value in the unit of the metric; `null` where it is not known. Ratios are in percent, as monitoring
    /// systems expect them.
    pub value: Option<f64>,
    /// Range outside of which the value is a warning, in the notation of monitoring plugins; with `@` first,
    /// inside of which. `null`: no range was given.
    pub warn: Option<String>,
    /// Range outside of which the value is critical, in the same notation. `null`: no range was given.
    pub crit: Option<String>,
}

/// A metric of the check.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// SYNs per second, summed over all interfaces.
    SynPps,
    /// Dropped packets per second, summed over all interfaces.
    DropPps,
    /// Fill level of the fullest SYN queue, in percent of its limit.
    HalfOpen,
    /// Completed handshakes in percent of those that clients attempt, at the listener with an open incident that has the
    /// lowest percentage; without one, at all listeners. Not known (`null`) where fewer than 2 per second are
    /// attempted, so that it raises no alert where clients do not come.
    Clients,
    /// Number of rules that the agent wants in the kernel.
    Rules,
    /// Number of open incidents.
    Incidents,
}

impl Metric {
    /// All metrics, in the order in which they are printed. [`Self::Clients`] is the first.
    pub const ALL: [Self; 6] =
        [Self::Clients, Self::SynPps, Self::DropPps, Self::HalfOpen, Self::Rules, Self::Incidents];

    /// Returns the name of the metric, which is also that in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynPps => "syn_pps",
            Self::DropPps => "drop_pps",
            Self::HalfOpen => "half_open",
            Self::Clients => "clients",
            Self::Rules => "rules",
            Self::Incidents => "incidents",
        }
    }

    /// Returns the sign of the unit: `%`, or nothing for rates and counts.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::HalfOpen | Self::Clients => "%",
            _ => "",
        }
    }

    fn of(self, status: &Status) -> Option<f64> {
        let rates = || status.interfaces.iter().filter_map(|it| it.rates.as_ref());
        let measured = rates().next().is_some();
        let listeners = status.listeners.iter();
        match self {
            Self::SynPps => measured.then(|| rates().map(|rates| rates.syn_pps).sum()),
            Self::DropPps => measured.then(|| rates().map(|rates| rates.drop_pps).sum()),
            Self::HalfOpen => listeners.filter_map(half_open_percent).reduce(f64::max),
            Self::Clients => status.clients.ratio.map(percent),
            Self::Rules => Some(f64::from(status.rules.wanted)),
            Self::Incidents => Some(status.incidents.len() as f64),
        }
    }
}

fn half_open_percent(listener: &Listener) -> Option<f64> {
    let limit = listener.half_open_limit.filter(|limit| *limit > 0)?;
    Some(percent(f64::from(listener.half_open?) / f64::from(limit)))
}

/// Converts a share of 1 to percent, rounded to two decimals.
fn percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}

impl Report {
    /// Builds the report for a request that got no response of an agent, with the error as its situation.
    pub fn without_answer(level: Level, error: String) -> Self {
        Self { level, situation: error, clients: None, reasons: Vec::new(), metrics: Vec::new() }
    }
}

/// A range for one metric: `syn_pps=1000`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Metric that the range is for.
    pub metric: Metric,
    /// Range that the value is compared with.
    pub range: Range,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Metric::ALL.map(Metric::name).join(", ");
        let (name, range) = text.split_once('=').ok_or_else(|| {
            format!("it is no NAME=RANGE, such as syn_pps=1000; names: {}", names())
        })?;
        let metric = Metric::ALL.into_iter().find(|metric| metric.name() == name);
        let metric = metric.ok_or_else(|| format!("{name:?} is no metric; names: {}", names()))?;
        Ok(Self { metric, range: range.parse()? })
    }
}

/// Judges the status, whose headline is `situation`, and its metrics against these ranges.
pub fn judge(status: &Status, situation: String, warn: &[Threshold], crit: &[Threshold]) -> Report {
    let mut reasons = of_situation(status);
    let metrics = Metric::ALL.map(|metric| {
        let value = metric.of(status);
        let all = [(crit, Level::Critical), (warn, Level::Warning)];
        let held: Vec<_> = all
            .into_iter()
            .flat_map(|(ranges, level)| ranges.iter().map(move |threshold| (threshold, level)))
            .filter(|(threshold, _)| threshold.metric == metric)
            .filter_map(|(threshold, level)| against(threshold, value, level))
            .collect();
        // The most severe reason is enough.
        reasons.extend(held.into_iter().max_by_key(|(level, _)| *level));
        let typed = |ranges: &[Threshold]| {
            let found = ranges.iter().rfind(|threshold| threshold.metric == metric);
            found.map(|threshold| threshold.range.to_string())
        };
        Measured { metric, value, warn: typed(warn), crit: typed(crit) }
    });
    reasons.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    Report {
        level: reasons.first().map_or(Level::Ok, |(level, _)| *level),
        situation,
        clients: Some(status.clients),
        reasons: reasons.into_iter().map(|(_, why)| why).collect(),
        metrics: metrics.to_vec(),
    }
}

fn against(threshold: &Threshold, value: Option<f64>, level: Level) -> Option<(Level, String)> {
    let Threshold { metric, range } = threshold;
    let (name, unit) = (metric.name(), metric.unit());
    match value {
        Some(value) if range.alerts(value) => {
            Some((level, format!("{name} {value}{unit} against {range}")))
        }
        Some(_) => None,
        // Where hardly any client comes this metric has no value.
        None if *metric == Metric::Clients => None,
        None => Some((Level::Unknown, format!("{name} is not known"))),
    }
}

/// Returns the problems of the situation as a whole, each with its level.
fn of_situation(status: &Status) -> Vec<(Level, String)> {
    let mut reasons = Vec::new();
    let state = match status.daemon.state {
        State::AttackUnmitigated if status.attack_ends().is_some() => Level::Warning,
        State::Protecting | State::Observing => Level::Ok,
        State::AttackUnmitigated | State::DroppedBeforeXdp => Level::Critical,
        State::Unknown => Level::Unknown,
        // The attack succeeds in spite of the mitigations, or the cause is no attack.
        State::AttackMitigated | State::Elevated
            if status.clients.connect() == Some(Connect::Few) =>
        {
            Level::Critical
        }
        _ => Level::Warning,
    };
    for attack in &status.incidents {
        reasons.push((
            state.max(Level::Warning),
            format!("#{} {} on {}", attack.id, attack.class.name(), attack.place()),
        ));
    }
    let is_reason =
        |it: &&Finding| it.severity == Severity::Critical || it.code == "config_refused";
    let findings = status.health.iter().filter(is_reason);
    reasons.extend(findings.map(|finding| (weight(finding), finding.text.clone())));
    reasons.extend(status.listeners.iter().filter_map(full).map(|why| (Level::Critical, why)));
    if state > Level::Ok && reasons.iter().all(|(level, _)| *level < state) {
        let words = match status.daemon.state {
            State::Off => format!("tcpguard is off: {}", Advised::TRY_ENFORCE),
            State::DroppedBeforeXdp => "packets dropped before XDP".to_owned(),
            State::Unknown => "the agent is newer than this command: tcpguard version".to_owned(),
            _ => "handshakes fail without an attack".to_owned(),
        };
        reasons.push((state, words));
    }
    reasons
}

/// Returns a sentence about a listener with a full SYN queue and without an incident that reports more: new
/// clients are lost there, or depend on the kernel's own cookies.
fn full(listener: &Listener) -> Option<String> {
    let (half_open, limit) = (listener.half_open?, listener.half_open_limit?);
    let is_full = listener.state == ListenerState::Suspect && limit > 0 && half_open >= limit;
    is_full.then(|| {
        let place = place(listener.addr, listener.port);
        format!("{place}: the SYN queue is full ({half_open} of {limit})")
    })
}

/// Returns the level of a finding. Without the XDP program, without its rules, or where clients arrive by other
/// interfaces, nothing is protected. All other findings can wait for working hours.
fn weight(finding: &Finding) -> Level {
    match finding.code.as_str() {
        "detached" | "rule_drift" | "ingress_unseen" => Level::Critical,
        _ => Level::Warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_names_its_number() {
        let threshold: Threshold = "half_open=@80:".parse().unwrap();
        assert_eq!(threshold.metric, Metric::HalfOpen);
        assert!(threshold.range.alerts(80.0) && !threshold.range.alerts(79.9));
        for wrong in ["80", "half-open=80", "=80", "half_open=", "half_open=x"] {
            let why = wrong.parse::<Threshold>().unwrap_err();
            assert!(!why.is_empty(), "{wrong}");
        }
    }

    #[test]
    fn every_number_has_a_name_of_its_own_which_is_also_that_in_json() {
        for metric in Metric::ALL {
            let json = serde_json::to_value(metric).unwrap();
            assert_eq!(json, metric.name());
            assert_eq!(Metric::ALL.iter().filter(|it| it.name() == metric.name()).count(), 1);
        }
    }
}
