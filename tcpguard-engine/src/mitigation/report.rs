//! The mitigations of a listener, as they are reported.

use crate::input::{Mitigation, Timestamp};

/// Mitigation of a listener, and its state.
// `T` is the form of its times.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MitigationReport<T = Timestamp> {
    /// The mitigation.
    pub mitigation: Mitigation,
    /// State of the mitigation.
    pub state: MitigationState,
    /// Time since which the mitigation is active; `null` while it is not.
    pub since: Option<T>,
    /// Time until which an operator's order counts, or else until which a refused mitigation is not retried;
    /// `null` where there is no such time.
    pub until: Option<T>,
    /// Reason for the state.
    pub why: String,
}

impl MitigationReport {
    /// Returns the report with times in another form.
    pub fn at<T>(&self, time: impl Fn(Timestamp) -> T) -> MitigationReport<T> {
        let Self { mitigation, state, since, until, why } = self.clone();
        MitigationReport {
            mitigation,
            state,
            since: since.map(&time),
            until: until.map(&time),
            why,
        }
    }
}

/// State of a mitigation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MitigationState {
    /// The mitigation is active.
    Active,
    /// The mitigation could not be started, or did harm.
    Refused,
    /// An operator, or the configuration, forbids the mitigation.
    Forbidden,
    /// An operator ordered the mitigation, and it is not active yet.
    Waiting,
}
