//! The part of the document that says whether clients connect.

use serde::{Deserialize, Serialize};
use tcpguard_engine::{Completions, IncidentReport};

use super::build::number;
use super::{Attack, Listener};

/// Whether clients connect: completed handshakes per second against the baseline.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Clients {
    /// Completed handshakes per second, mean of the last 8 s; of what is over, mean of all of it.
    pub completed_pps: f64,
    /// Completed handshakes per second that are usual: the mean of about ten minutes, in which what
    /// happens during an incident does not count; `null` while it is not known.
    pub baseline_pps: Option<f64>,
    /// The first as a share of the second; `null` where the baseline is not known, or is below 2 a
    /// second, which is too few to tell.
    pub ratio: Option<f64>,
}

/// What the share comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connect {
    /// As many clients connect as usual, but for chance.
    All,
    /// Some do not.
    Some,
    /// Most do not.
    Few,
}

impl Clients {
    /// From this share on all connect; the rest is chance.
    const ALL: f64 = 0.9;
    /// Below this share most do not.
    const FEW: f64 = 0.5;

    /// The document's form of what the engine knows.
    pub fn build(completions: &Completions) -> Self {
        Self {
            completed_pps: number(completions.rate),
            baseline_pps: completions.baseline.map(number),
            ratio: completions.ratio().map(number),
        }
    }

    /// Of an incident that is over: its mean.
    pub(super) fn over(incident: &IncidentReport) -> Option<Self> {
        let lasted = incident.ended?.since(incident.started).as_secs_f64();
        let baseline = incident.usual_completed_rate?;
        let rate = if lasted > 0.0 { incident.completed as f64 / lasted } else { 0.0 };
        Some(Self::build(&Completions { rate, baseline: Some(baseline) }))
    }

    /// Of the listeners under attack together, or of all while there is no attack. The share is that
    /// of the listener at which the fewest connect.
    pub(super) fn of_all(attacks: &[Attack], listeners: &[Listener]) -> Self {
        let attacked: Vec<Self> = attacks.iter().filter_map(|attack| attack.clients).collect();
        if attacked.is_empty() {
            let all = listeners.iter().map(|listener| listener.clients);
            let sum = all.fold(Completions::default(), Self::add);
            return Self::build(&sum);
        }
        let sum = attacked.iter().copied().fold(Completions::default(), Self::add);
        let ratio = attacked.iter().filter_map(|clients| clients.ratio).reduce(f64::min);
        Self { ratio, ..Self::build(&sum) }
    }

    fn add(sum: Completions, clients: Self) -> Completions {
        let baseline = match (sum.baseline, clients.baseline_pps) {
            (Some(sum), Some(other)) => Some(sum + other),
            (known, other) => known.or(other),
        };
        Completions { rate: sum.rate + clients.completed_pps, baseline }
    }

    /// What it comes to; `None` where that cannot be told.
    pub fn connect(&self) -> Option<Connect> {
        self.ratio.map(|share| match share {
            all if all >= Self::ALL => Connect::All,
            some if some >= Self::FEW => Connect::Some,
            _ => Connect::Few,
        })
    }
}
