//! Part of the status document that shows whether clients connect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{Completions, IncidentReport};

use super::build::number;
use super::{Incident, Listener};

/// Success of clients: their handshakes that complete, and those that fail.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Clients {
    /// Completed handshakes per second, mean of the last 8 s; of a closed incident, mean of its duration.
    pub completed_pps: f64,
    /// Baseline of completed handshakes per second: the mean of about ten minutes, to which the time of
    /// incidents does not contribute; `null` while it is not known.
    pub baseline_pps: Option<f64>,
    /// Handshakes of clients that failed per second over the same time: attempted and not completed. During a flood no
    /// more than are missing from `baseline_pps` are taken to be clients', and none that a rule drops. `null` where that is
    /// not known.
    pub failed_pps: Option<f64>,
    /// Ratio of `completed_pps` to the sum of it and `failed_pps`, 0 to 1: clients that do not come do not fail. `null`
    /// where `failed_pps` is, or where the sum is below 2 per second, which is too few for a verdict. Over several
    /// listeners with an open incident: the lowest ratio among them, or that of their sums where none of them has one.
    pub ratio: Option<f64>,
}

/// Verdict on the handshakes of clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connect {
    /// All clients connect, within chance.
    All,
    /// Some clients do not connect.
    Some,
    /// Most clients do not connect.
    Few,
}

impl Clients {
    /// Ratio from which on all clients count as connecting; the rest is chance.
    const ALL: f64 = 0.9;
    /// Ratio below which most clients count as not connecting, or as not arriving.
    const FEW: f64 = 0.5;

    /// Builds the document's form of the engine's counts.
    pub fn build(completions: &Completions) -> Self {
        Self {
            completed_pps: number(completions.rate),
            baseline_pps: completions.baseline.map(number),
            failed_pps: completions.failed.map(number),
            ratio: completions.ratio().map(number),
        }
    }

    /// Builds the counts of an incident that is over, as means of the time over which it was counted; `None` while it is
    /// open, and without a known baseline.
    pub(super) fn over(incident: &IncidentReport) -> Option<Self> {
        incident.ended?;
        let lasted = incident.counted.as_secs_f64();
        let baseline = incident.baseline_completed_rate?;
        let mean = |count: u64| if lasted > 0.0 { count as f64 / lasted } else { 0.0 };
        let counts = &incident.counts;
        let by_rule = counts.dropped.min(counts.matched);
        let failing = mean(counts.syns.saturating_sub(counts.completed + by_rule));
        let (rate, class) = (mean(counts.completed), Some(incident.class));
        Some(Self::build(&Completions::of(rate, Some(baseline), failing, class)))
    }

    /// Builds the sum of the listeners with an open incident, or of all listeners while there is none. With
    /// an open incident, the ratio is the lowest among these listeners.
    pub(crate) fn of_all(attacks: &[Incident], listeners: &[Listener]) -> Self {
        let attacked: Vec<Self> = attacks.iter().filter_map(|attack| attack.clients).collect();
        if attacked.is_empty() {
            let all = listeners.iter().map(|listener| listener.clients);
            let sum = all.fold(Completions::default(), Self::add);
            return Self::build(&sum);
        }
        let sum = attacked.iter().copied().fold(Completions::default(), Self::add);
        let sum = Self::build(&sum);
        let lowest = attacked.iter().filter_map(|clients| clients.ratio).reduce(f64::min);
        Self { ratio: lowest.or(sum.ratio), ..sum }
    }

    fn add(sum: Completions, clients: Self) -> Completions {
        let both = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one + other),
            (known, other) => known.or(other),
        };
        Completions {
            rate: sum.rate + clients.completed_pps,
            baseline: both(sum.baseline, clients.baseline_pps),
            failed: both(sum.failed, clients.failed_pps),
        }
    }

    /// Returns whether far fewer clients arrive than in the baseline, which is no failure.
    pub fn arrive_few(&self) -> bool {
        self.arrive_below(Self::FEW)
    }

    /// Returns whether fewer clients arrive than in the baseline, beyond chance.
    pub fn arrive_fewer(&self) -> bool {
        self.arrive_below(Self::ALL)
    }

    fn arrive_below(&self, share: f64) -> bool {
        let missing =
            |baseline: f64| baseline >= Completions::LEAST && self.completed_pps < share * baseline;
        self.baseline_pps.is_some_and(missing)
            && matches!(self.connect(), None | Some(Connect::All))
    }

    /// Returns the verdict on the ratio; `None` where there is no ratio.
    pub fn connect(&self) -> Option<Connect> {
        self.ratio.map(|share| match share {
            all if all >= Self::ALL => Connect::All,
            some if some >= Self::FEW => Connect::Some,
            _ => Connect::Few,
        })
    }
}
