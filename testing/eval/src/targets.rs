//! The targets, and whether the rows reach them.

use serde::{Deserialize, Serialize};

use crate::table::Block;

/// Targets of the detector and the mitigation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Median time from the first SYN of a flood of 1,000/s or more to the first alert, s.
    Delay,
    /// The 95th percentile of the same, s.
    DelayTail,
    /// Median time to the first alert of a flood of a tenth of the legitimate rate, s.
    DelayTenth,
    /// Lowest rate found within 60 s with a probability of 0.9, SYN/s.
    MinimumRate,
    /// False positives per 30 listener-days.
    FalsePositives,
    /// Floods reported in flash crowds.
    FlashCrowdFloods,
    /// Floods reported on benign captures.
    CaptureFloods,
    /// Share of incidents of the right class 2 s after the first alert, at 100 SYN/s and more.
    ClassAccuracy,
    /// Share of right verdicts on the tricks, and on the clients that resemble a flood.
    TrickVerdicts,
    /// Drop rules made in flash crowds, overload and broken paths.
    BenignRules,
    /// SYNs of clients that a rule drops, in tricks and in benign traffic that resembles a flood.
    RuleHits,
    /// Share of the clients' SYNs dropped while a flood is mitigated.
    LegitDropped,
    /// SYNs dropped of clients that had completed a handshake before.
    ValidatedDropped,
    /// Time from the last SYN of a flood to the end of its incident, s.
    Release,
    /// Incidents beyond the first that one pulsed flood makes.
    Flaps,
    /// Mean CPU time of the engine per poll with 256 listeners, ms.
    PollCost,
    /// Growth of the engine's memory over a day, MiB.
    MemoryGrowth,
}

impl Target {
    /// All of them, as they are listed.
    pub const ALL: [Self; 17] = [
        Self::Delay,
        Self::DelayTail,
        Self::DelayTenth,
        Self::MinimumRate,
        Self::FalsePositives,
        Self::FlashCrowdFloods,
        Self::CaptureFloods,
        Self::ClassAccuracy,
        Self::TrickVerdicts,
        Self::BenignRules,
        Self::RuleHits,
        Self::LegitDropped,
        Self::ValidatedDropped,
        Self::Release,
        Self::Flaps,
        Self::PollCost,
        Self::MemoryGrowth,
    ];

    pub const fn text(self) -> &'static str {
        match self {
            Self::Delay => "delay ≥ 1 k SYN/s, median",
            Self::DelayTail => "delay ≥ 1 k SYN/s, p95",
            Self::DelayTenth => "delay at 10 % of clients",
            Self::MinimumRate => "lowest rate found in 60 s",
            Self::FalsePositives => "false positives in 30 days",
            Self::FlashCrowdFloods => "floods in flash crowds",
            Self::CaptureFloods => "floods, benign captures",
            Self::ClassAccuracy => "right class after 2 s",
            Self::TrickVerdicts => "right verdict on tricks",
            Self::BenignRules => "rules in benign trouble",
            Self::RuleHits => "client SYNs hit by rules",
            Self::LegitDropped => "legitimate SYNs dropped",
            Self::ValidatedDropped => "validated SYNs dropped",
            Self::Release => "release after last SYN",
            Self::Flaps => "flaps on pulses",
            Self::PollCost => "CPU a poll, 256 listeners",
            Self::MemoryGrowth => "memory growth in a day",
        }
    }

    /// The value that must not be exceeded, or be reached where more is better.
    pub const fn limit(self) -> f64 {
        match self {
            Self::Delay | Self::FalsePositives | Self::PollCost | Self::MemoryGrowth => 1.0,
            Self::DelayTail => 1.5,
            Self::DelayTenth => 3.0,
            Self::MinimumRate => 4.0,
            Self::ClassAccuracy | Self::TrickVerdicts => 0.95,
            Self::LegitDropped => 0.001,
            Self::Release => 35.0,
            Self::FlashCrowdFloods
            | Self::CaptureFloods
            | Self::BenignRules
            | Self::RuleHits
            | Self::ValidatedDropped
            | Self::Flaps => 0.0,
        }
    }

    /// Returns whether a run that misses the target must not pass for a good one, even if it equals the published
    /// one: such a miss is a wrong verdict, or a rule against an innocent source. The other targets say how large a
    /// cost is, and some of these costs depend on the machine.
    const fn is_binding(self) -> bool {
        matches!(
            self,
            Self::FalsePositives
                | Self::FlashCrowdFloods
                | Self::CaptureFloods
                | Self::ClassAccuracy
                | Self::TrickVerdicts
                | Self::BenignRules
        )
    }

    const fn more_is_better(self) -> bool {
        matches!(self, Self::ClassAccuracy | Self::TrickVerdicts)
    }

    const fn sign(self) -> char {
        if self.more_is_better() { '≥' } else { '≤' }
    }

    /// A value with its unit.
    fn value(self, value: f64) -> String {
        if !value.is_finite() {
            return "never".to_owned();
        }
        match self {
            Self::Delay | Self::DelayTail | Self::DelayTenth | Self::Release => {
                format!("{value:.2} s")
            }
            Self::MinimumRate => format!("{value:.0}/s"),
            Self::ClassAccuracy | Self::TrickVerdicts => format!("{:.1} %", value * 100.0),
            Self::LegitDropped => format!("{:.2} %", value * 100.0),
            Self::FalsePositives => format!("{value:.2}"),
            Self::PollCost => format!("{value:.2} ms"),
            Self::MemoryGrowth => format!("{value:.2} MiB"),
            Self::FlashCrowdFloods
            | Self::CaptureFloods
            | Self::BenignRules
            | Self::RuleHits
            | Self::ValidatedDropped
            | Self::Flaps => format!("{value:.0}"),
        }
    }
}

/// A number that is compared with a target.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Finding {
    /// Target of the number.
    pub target: Target,
    /// Row that the number is from, in words.
    pub place: String,
    /// Measured value, in the target's unit. Infinite for "never".
    #[serde(deserialize_with = "finite_or_never")]
    pub value: f64,
    /// Limit that applies here: a maximum, or a minimum where more is better.
    pub limit: f64,
    /// Value that too short a measurement cannot rule out. `None` where the measured value needs no such bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
}

/// JSON has no infinity: it is written as null.
fn finite_or_never<'de, D: serde::Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(value)?.unwrap_or(f64::INFINITY))
}

impl Finding {
    /// A number that is held against the target's own limit.
    pub fn new(target: Target, place: impl Into<String>, value: f64) -> Self {
        Self { target, place: place.into(), value, limit: target.limit(), bound: None }
    }

    /// The same with a limit of this row's own.
    pub fn with_limit(self, limit: f64) -> Self {
        Self { limit, ..self }
    }

    /// The same with the worst that the value may really be.
    pub fn with_bound(self, bound: f64) -> Self {
        Self { bound: Some(bound), ..self }
    }

    /// Compares the target with the value here.
    pub fn verdict(&self) -> Verdict {
        let holds = |value: f64| match self.target.more_is_better() {
            true => value >= self.limit,
            false => value <= self.limit,
        };
        match self.bound {
            _ if !holds(self.value) => Verdict::NotMet,
            Some(bound) if !holds(bound) => Verdict::NotShown,
            _ => Verdict::Met,
        }
    }

    /// Returns a measure of the distance from the limit, the larger the worse: for the row that is named in the
    /// summary.
    fn badness(&self) -> f64 {
        match (self.target.more_is_better(), self.limit) {
            (true, limit) => limit - self.value,
            (false, 0.0) => self.value,
            (false, limit) => self.value / limit,
        }
    }
}

/// Result of the comparison with a target.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// The value is within its limit.
    Met,
    /// The value is within its limit, but too little was measured to be sure.
    NotShown,
    /// The value is not within its limit.
    NotMet,
}

impl Verdict {
    const fn text(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotShown => "not shown",
            Self::NotMet => "not met",
        }
    }
}

/// The binding targets that are not met, a line for each row that misses one.
pub fn missed(blocks: &[Block]) -> Vec<String> {
    let findings = blocks.iter().flat_map(|block| &block.findings);
    let missed = findings.filter(|it| it.target.is_binding() && it.verdict() == Verdict::NotMet);
    let line = |it: &Finding| {
        let Finding { target, place, value, limit, .. } = it;
        let sign = target.sign();
        let (value, limit) = (target.value(*value), target.value(*limit));
        format!("{}: {value} ({place}), {sign} {limit} is the target", target.text())
    };
    missed.map(line).collect()
}

/// Heading of the table of targets.
pub const TITLE: &str = "Targets";

/// The table of targets, from the findings of all blocks.
pub fn summary(blocks: &[Block]) -> Block {
    let note = "The worst row decides. `rows` is the number of rows that meet the target. \"Not \
                shown\": the value is within the limit, but the simulated sample is too small to \
                exclude, at 95 %, that the true one is not. Delays of floods are those to the \
                first alert, at 1,000 SYN/s and more, and at a tenth of the clients' rate. The \
                lowest rate is found in 90 % of the runs. False positives are those of 30 \
                listener-days. Classes are judged 2 s after the first alert. Verdicts on tricks \
                leave out documented limits. False positives, right classes and verdicts, and \
                rules in benign trouble are binding: `--check` fails if one is not met.";
    let columns = ["target", "limit", "worst", "where", "rows", "verdict"];
    let mut summary = Block::new(TITLE, note, &columns);
    for target in Target::ALL {
        let findings: Vec<&Finding> = blocks
            .iter()
            .flat_map(|block| &block.findings)
            .filter(|finding| finding.target == target)
            .collect();
        let worst = findings
            .iter()
            .max_by(|a, b| a.verdict().cmp(&b.verdict()).then(a.badness().total_cmp(&b.badness())));
        let Some(worst) = worst else { continue };
        let met = findings.iter().filter(|finding| finding.verdict() == Verdict::Met).count();
        let sign = target.sign();
        summary.row([
            target.text().to_owned(),
            format!("{sign} {}", target.value(worst.limit)),
            target.value(worst.value),
            worst.place.clone(),
            format!("{met} of {}", findings.len()),
            worst.verdict().text().to_owned(),
        ]);
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(findings: impl IntoIterator<Item = Finding>) -> Block {
        Block { findings: findings.into_iter().collect(), ..Block::default() }
    }

    fn row(findings: impl IntoIterator<Item = Finding>) -> Vec<String> {
        summary(&[block(findings)]).rows.pop().expect("a row")
    }

    #[test]
    fn the_worst_row_decides() {
        let delays = [("fast", 0.75), ("slow", 1.25), ("middling", 1.0)];
        let row = row(delays.map(|(place, delay)| Finding::new(Target::Delay, place, delay)));
        assert_eq!(row[1..], ["≤ 1.00 s", "1.25 s", "slow", "2 of 3", "not met"]);
    }

    #[test]
    fn of_what_should_be_high_the_lowest_is_the_worst() {
        let shares = [("a", 1.0), ("b", 0.96)];
        let row =
            row(shares.map(|(place, share)| Finding::new(Target::ClassAccuracy, place, share)));
        assert_eq!(row[1..], ["≥ 95.0 %", "96.0 %", "b", "2 of 2", "met"]);
    }

    #[test]
    fn a_rate_may_have_a_limit_of_its_row_and_is_judged_by_it() {
        let rate = |value| Finding::new(Target::MinimumRate, "2,000/s", value).with_limit(60.0);
        assert_eq!(rate(60.0).verdict(), Verdict::Met);
        assert_eq!(rate(70.0).verdict(), Verdict::NotMet);
        assert_eq!(row([rate(f64::INFINITY)])[2], "never");
    }

    #[test]
    fn a_wrong_verdict_is_missed_and_a_cost_is_only_shown() {
        let cost = Finding::new(Target::PollCost, "64 flooded", 4.75);
        let shown = Finding::new(Target::FalsePositives, "all mixes", 0.0).with_bound(2.5);
        let right = Finding::new(Target::TrickVerdicts, "look-alikes", 0.95);
        assert_eq!(missed(&[block([cost, shown, right])]), [""; 0]);
        let wrong = Finding::new(Target::TrickVerdicts, "tricks", 0.94);
        let rules = Finding::new(Target::BenignRules, "look-alikes", 1.0);
        assert_eq!(
            missed(&[block([wrong]), block([rules])]),
            [
                "right verdict on tricks: 94.0 % (tricks), ≥ 95.0 % is the target",
                "rules in benign trouble: 1 (look-alikes), ≤ 0 is the target",
            ]
        );
    }

    #[test]
    fn too_short_a_measurement_shows_nothing() {
        let none = Finding::new(Target::FalsePositives, "all mixes", 0.0);
        assert_eq!(none.clone().with_bound(2.5).verdict(), Verdict::NotShown);
        assert_eq!(none.with_bound(0.9).verdict(), Verdict::Met);
        let some = Finding::new(Target::FalsePositives, "all mixes", 1.5);
        assert_eq!(some.with_bound(0.9).verdict(), Verdict::NotMet);
    }

    #[test]
    fn a_target_without_a_row_is_left_out() {
        assert_eq!(summary(&[block([])]).rows, Vec::<Vec<String>>::new());
    }

    #[test]
    fn never_survives_json() {
        let never = Finding::new(Target::Delay, "a row", f64::INFINITY);
        let text = serde_json::to_string(&never).unwrap();
        assert_eq!(serde_json::from_str::<Finding>(&text).unwrap(), never);
    }
}
