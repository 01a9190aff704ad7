//! What monitoring is told: how a situation is to be taken, and the numbers for its graphs.

mod range;

use std::str::FromStr;

use serde::Serialize;
use tcpguard_engine::Mode;

use crate::control::ClientError;
use crate::render;
use crate::status::narrative::place;
use crate::status::{Clients, Connect, Health, Listener, ListenerState, Severity, State, Status};

pub use range::Range;

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "tcpguard.check/1";

/// What `tcpguard check --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// Name and version of this document: `tcpguard.check/1`.
    pub schema: String,
    /// What it comes to.
    pub level: Level,
    /// The situation in words.
    pub situation: String,
    /// Whether clients connect; `null` where no agent says.
    pub clients: Option<Clients>,
    /// Why it is not `ok`; empty when it is.
    pub reasons: Vec<String>,
    /// The numbers.
    pub metrics: Vec<Measured>,
}

/// What it comes to. The worst is the last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It cannot be told.
    Unknown,
    /// Something needs attention.
    Warning,
    /// Clients are suffering, or nothing protects them.
    Critical,
}

/// A number with the ranges that it was held against.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Measured {
    /// What it is of.
    pub metric: Metric,
    /// The number; `null` where it is not known. Shares are in percent, as monitoring has them.
    pub value: Option<f64>,
    /// Range outside of which it is a warning, as it was typed.
    pub warn: Option<String>,
    /// Range outside of which it is critical, as it was typed.
    pub crit: Option<String>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// SYNs per second, over all interfaces.
    SynPps,
    /// Packets dropped per second, over all interfaces.
    DropPps,
    /// How full the fullest SYN queue is, in percent.
    HalfOpen,
    /// Completed handshakes per second in percent of the baseline, at the listener under attack with
    /// the fewest. Not known while there is no attack, or where the baseline is not known or below 2 a
    /// second.
    Clients,
    /// Rules wanted in the kernel.
    Rules,
    /// Open incidents.
    Attacks,
}

impl Metric {
    /// All of them, in the order in which they are printed: whether clients connect is the first.
    pub const ALL: [Self; 6] =
        [Self::Clients, Self::SynPps, Self::DropPps, Self::HalfOpen, Self::Rules, Self::Attacks];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynPps => "syn_pps",
            Self::DropPps => "drop_pps",
            Self::HalfOpen => "half_open",
            Self::Clients => "clients",
            Self::Rules => "rules",
            Self::Attacks => "attacks",
        }
    }

    /// The sign of its unit.
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
            Self::Clients => {
                let attacked = status.attacks.iter().any(|attack| attack.clients.is_some());
                status.clients.ratio.filter(|_| attacked).map(percent)
            }
            Self::Rules => Some(f64::from(status.rules.wanted)),
            Self::Attacks => Some(status.attacks.len() as f64),
        }
    }
}

fn half_open_percent(listener: &Listener) -> Option<f64> {
    let limit = listener.half_open_limit.filter(|limit| *limit > 0)?;
    Some(percent(f64::from(listener.half_open?) / f64::from(limit)))
}

/// A share of 1 in percent, with the two decimals that are worth a graph.
fn percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}

impl Report {
    /// No agent said anything, and this is why. That one is dead is no gap in what is known: nothing
    /// protects the host.
    pub fn without_answer(error: &ClientError) -> Self {
        let level = match error {
            ClientError::NotRunning { .. } | ClientError::Broken { .. } => Level::Critical,
            _ => Level::Unknown,
        };
        Self {
            schema: SCHEMA.to_owned(),
            level,
            situation: error.to_string(),
            clients: None,
            reasons: Vec::new(),
            metrics: Vec::new(),
        }
    }
}

/// A range for one number: `syn_pps=1000`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Which number.
    pub metric: Metric,
    /// Its range.
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
        let metric = metric.ok_or_else(|| format!("{name:?} is no number; names: {}", names()))?;
        Ok(Self { metric, range: range.parse()? })
    }
}

/// What the status comes to, held against these ranges.
pub fn judge(status: &Status, warn: &[Threshold], crit: &[Threshold]) -> Report {
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
        // The worst is enough.
        reasons.extend(held.into_iter().max_by_key(|(level, _)| *level));
        let typed = |ranges: &[Threshold]| {
            let found = ranges.iter().rfind(|threshold| threshold.metric == metric);
            found.map(|threshold| threshold.range.to_string())
        };
        Measured { metric, value, warn: typed(warn), crit: typed(crit) }
    });
    reasons.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    Report {
        schema: SCHEMA.to_owned(),
        level: reasons.first().map_or(Level::Ok, |(level, _)| *level),
        situation: render::headline(status).1.into_owned(),
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
        // In calm times there is nothing to be told of it.
        None if *metric == Metric::Clients => None,
        None => Some((Level::Unknown, format!("{name} is not known"))),
    }
}

/// What is wrong with the situation as a whole.
fn of_situation(status: &Status) -> Vec<(Level, String)> {
    let mut reasons = Vec::new();
    let state = match status.daemon.state {
        State::Protecting | State::Observing => Level::Ok,
        State::AttackUnmitigated | State::LostBeforeGuard => Level::Critical,
        State::Unknown => Level::Unknown,
        // Whatever is done about the attack: it has its way.
        State::AttackMitigated if status.clients.connect() == Some(Connect::Few) => Level::Critical,
        _ => Level::Warning,
    };
    for attack in &status.attacks {
        reasons.push((state.max(Level::Warning), format!("#{} {}", attack.id, attack.summary)));
    }
    let is_reason = |it: &&Health| it.severity == Severity::Critical || it.code == "config_refused";
    let findings = status.health.iter().filter(is_reason);
    reasons.extend(findings.map(|finding| (weight(finding), finding.text.clone())));
    reasons.extend(status.listeners.iter().filter_map(full).map(|why| (Level::Critical, why)));
    if state > Level::Ok && reasons.iter().all(|(level, _)| *level < state) {
        let words = match status.daemon.state {
            State::Off => format!("the guard is switched off: {}", Mode::TRY_ENFORCE),
            State::LostBeforeGuard => "packets are lost before any program can see them".to_owned(),
            State::Unknown => "the agent is newer than this program: tcpguard version".to_owned(),
            _ => "handshakes fail, and it is no attack or not known to be one".to_owned(),
        };
        reasons.push((state, words));
    }
    reasons
}

/// Says that the SYN queue of a listener is full, and no incident says more: new clients are lost there, or
/// have to do with the kernel's own cookies.
fn full(listener: &Listener) -> Option<String> {
    let (half_open, limit) = (listener.half_open?, listener.half_open_limit?);
    let is_full = listener.state == ListenerState::Suspect && limit > 0 && half_open >= limit;
    is_full.then(|| {
        let place = place(listener.addr, listener.port);
        format!("{place}: the SYN queue is full ({half_open} of {limit})")
    })
}

/// Without the filter, or without its rules, nothing is protected; all else can wait for the day.
fn weight(finding: &Health) -> Level {
    match finding.code.as_str() {
        "detached" | "rule_drift" => Level::Critical,
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
